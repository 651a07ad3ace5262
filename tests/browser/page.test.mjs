// The page for everybody: forms and their errors, keyboard, narrow and dark, long lists, long
// words, failures.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { before, test } from "node:test";

import { Client } from "../chat/lib/client.mjs";
import { Proxy } from "../chat/lib/proxy.mjs";
import { Server, wholeFile } from "../chat/lib/server.mjs";
import {
  blockedProfile,
  bodies,
  joinRoom,
  open,
  person,
  profile,
  say,
  screenshot,
  sees,
  signIn,
} from "./lib/window.mjs";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

const file = wholeFile();
let server;
before(async () => {
  const flags = [
    "--sign-ins-per-minute",
    "1000",
    "--messages-per-second",
    "5",
    "--history-messages",
    "600",
  ];
  server = await Server.start(file, { flags });
});

// Names, roles, contrast and whatever else axe finds.
async function isAccessible(page) {
  // A message is no script of the page's own, so its policy stands.
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => window.axe.run());
  assert.deepEqual(
    violations.map(({ id, nodes }) => [id, nodes.map((node) => node.html)]),
    [],
  );
}

const focused = (page) => page.evaluate(() => document.activeElement.id);

test("signing in: what is wrong stands beside its field, and the focus goes there", async (t) => {
  const page = await open(await profile(t), server.url);
  await page.waitForSelector("#sign-in:visible");
  assert.equal(await focused(page), "username");
  await isAccessible(page);
  await page.keyboard.type("x");
  await page.keyboard.press("Tab");
  await page.keyboard.type("short");
  await page.click("#register");
  await page.waitForSelector("#username-error:has-text('3 to 32')");
  assert.match(await page.textContent("#password-error"), /8 to 128/);
  assert.equal(await focused(page), "username");
  for (const field of ["username", "password"]) {
    assert.equal(await page.getAttribute(`#${field}`, "aria-invalid"), "true");
    assert.equal(await page.getAttribute(`#${field}`, "aria-describedby"), `${field}-error`);
  }
  await screenshot(page, "sign-in");
  await isAccessible(page);
  await page.fill("#username", "nobody");
  await page.fill("#password", "a wrong password");
  await page.press("#password", "Enter");
  await page.waitForSelector(
    "#sign-in-error[role=alert]:has-text('The name or the password is wrong.')",
  );
  assert.equal(await page.getAttribute("#username", "aria-invalid"), "false");
  await page.fill("#username", "  ann  ");
  await page.fill("#password", "a long password");
  await page.click("#register");
  await page.waitForSelector("#state.online");
  assert.equal(await page.textContent("#me"), "ann");
  assert.equal(await focused(page), "join-name");
  await page.click("#logout");
  await signIn(page, "ann", "#login");
});

test("the first room is one click away, and a wrong name is told", async (t) => {
  const ben = await person(t, server.url, "ben");
  await ben.waitForSelector("#empty-title:has-text('Join a room')");
  assert.equal(await ben.locator("#compose:visible").count(), 0);
  await isAccessible(ben);
  await ben.click("#suggestion");
  await ben.waitForSelector("#room-title:has-text('lobby')");
  assert.equal(await focused(ben), "text");
  await ben.fill("#join-name", "abcdefghij0123456789");
  await ben.press("#join-name", "Enter");
  await ben.waitForSelector("#join-error[role=alert]:has-text('20 letters')");
  assert.deepEqual(await ben.locator("button.room .name").allTextContents(), ["lobby"]);
  assert.equal(await focused(ben), "join-name");
  await joinRoom(ben, "another");
  assert.equal(await ben.textContent("#join-error"), "");
  // However a keyboard composes it, it is the same room.
  for (const form of ["NFC", "NFD"]) {
    await ben.fill("#join-name", "café".normalize(form));
    await ben.press("#join-name", "Enter");
    await ben.waitForFunction(() => document.querySelector("#join-name").value === "");
  }
  const rooms = await ben.locator("button.room .name").allTextContents();
  assert.deepEqual(rooms, ["lobby", "another", "café".normalize("NFC")]);
});

test("everything goes by keyboard", async (t) => {
  const carl = await person(t, server.url, "carl", "one");
  await joinRoom(carl, "two");
  assert.equal(await focused(carl), "text");
  await carl.keyboard.press("Alt+ArrowUp");
  assert.equal(await carl.textContent("#room-title"), "one");
  await carl.keyboard.press("Alt+ArrowUp");
  assert.equal(await carl.textContent("#room-title"), "two");
  await carl.keyboard.press("Alt+ArrowDown");
  assert.equal(await carl.textContent("#room-title"), "one");
  await carl.keyboard.type("first line");
  await carl.keyboard.press("Shift+Enter");
  await carl.keyboard.type("second line");
  await carl.keyboard.press("Enter");
  await sees(carl, "first line\nsecond line");
  assert.equal(await focused(carl), "text");
  // Backwards through the page: each stop can be seen, and its name be heard.
  const stops = [];
  for (let i = 0; i < 8; i += 1) {
    await carl.keyboard.press("Shift+Tab");
    stops.push(
      await carl.evaluate(() => {
        const at = document.activeElement;
        return (
          at.checkVisibility({ opacityProperty: true }) && (at.ariaLabel ?? at.textContent.trim())
        );
      }),
    );
  }
  for (const name of [
    "Messages",
    "Leave two",
    "two",
    "Leave one",
    "one",
    "Join",
    "Room to join",
    "Sign out",
  ]) {
    assert.ok(stops.includes(name), `${name} in ${stops}`);
  }
});

test("a narrow, dark window: the rooms are a drawer, and nothing is wider than the window", async (t) => {
  const options = { viewport: { width: 320, height: 640 }, colorScheme: "dark" };
  const name = "dora-with-a-name-of-32-letters-x";
  const dora = await person(t, server.url, name, undefined, options);
  await dora.waitForSelector("#side.open");
  await joinRoom(dora, "a room with a long name ".padEnd(64, "and more ").slice(0, 63) + "x");
  await dora.waitForSelector("#side", { state: "hidden" });
  await say(dora, `${"a-long-word".repeat(30)}\n${"and many short ones ".repeat(20)}`);
  await dora.waitForSelector(".message:not(.pending)");
  const fits = () => dora.evaluate(() => document.documentElement.scrollWidth <= innerWidth);
  assert.ok(await fits());
  await screenshot(dora, "narrow");
  await dora.click("#menu");
  await dora.waitForSelector("#side.open");
  assert.equal(await dora.getAttribute("#menu", "aria-expanded"), "true");
  await dora.waitForSelector("#members .name:has-text('dora')");
  assert.ok(await fits());
  await screenshot(dora, "drawer");
  await isAccessible(dora);
  await dora.keyboard.press("Escape");
  await dora.waitForSelector("#side", { state: "hidden" });
  assert.equal(await dora.getAttribute("#menu", "aria-expanded"), "false");
  assert.equal(await focused(dora), "text");
});

test("names and texts from right to left stand where the others do, and are written that way", async (t) => {
  const page = await person(t, server.url, "rana", "latin");
  const left = (id) => page.evaluate((id) => document.querySelector(id).getBoundingClientRect().left, id);
  const before = await left("#room-title");
  const room = "غرفة عربية";
  await page.fill("#join-name", room);
  const direction = (id) => page.evaluate((id) => getComputedStyle(document.querySelector(id)).direction, id);
  assert.equal(await direction("#join-name"), "rtl");
  await joinRoom(page, room);
  assert.equal(await left("#room-title"), before);
  await page.fill("#text", "كيف الحال؟");
  assert.equal(await direction("#text"), "rtl");
  await page.fill("#text", "how?");
  assert.equal(await direction("#text"), "ltr");
  await screenshot(page, "right-to-left");
});

for (const width of [360, 800, 1280])
  test(`at ${width} pixels nothing stands over a text, and what is long hides nothing beside it`, async (t) => {
    const server = await Server.start(t, { flags: ["--sign-ins-per-minute", "1000"] });
    const proxy = await Proxy.start(t, server.port);
    const name = "theodora-with-a-name-of-32-chars";
    const page = await person(t, proxy.url, name, "rooms", { viewport: { width, height: 640 } });
    for (const text of ["first", "long ".repeat(100)]) await say(page, text);
    const follows = page.locator(".message.follows:not(.pending)");
    await follows.hover();
    const overlap = await follows.evaluate((item) => {
      const range = document.createRange();
      range.selectNodeContents(item.querySelector(".body"));
      const time = item.querySelector("time").getBoundingClientRect();
      return [...range.getClientRects()].some(
        (line) => time.width && line.right > time.left && line.top < time.bottom,
      );
    });
    assert.equal(overlap, false);
    if (width < 800) await page.click("#menu");
    const ends = await page.evaluate(() =>
      ["#members .you", "#members .me"].map((one) => document.querySelector(one).getBoundingClientRect().right),
    );
    assert.ok(ends[0] <= ends[1], "it is seen who one is");
    if (width < 800) await page.click("#menu");
    proxy.cut();
    await page.waitForSelector("#banner:visible");
    const title = page.locator("#room-title");
    assert.ok(await title.evaluate((one) => one.scrollWidth <= one.clientWidth), "the title is whole");
  });

test("where the browser keeps nothing for pages one talks until the window is closed", async (t) => {
  const page = await open(await blockedProfile(t), server.url);
  await assert.rejects(page.evaluate(() => localStorage.length), /Access is denied/);
  await signIn(page, "sara");
  await joinRoom(page, "nothing kept");
  await say(page, "hello");
  await sees(page, "hello");
  await page.click("#logout");
  await page.waitForSelector("#sign-in-form:visible");
  await signIn(page, "sara", "#login");
  assert.equal(await page.locator("button.room").count(), 0);
  await page.reload();
  await page.waitForSelector("#sign-in-form:visible");
});

test("the sign-in form fits into the narrowest window", async (t) => {
  const page = await open(await profile(t, { viewport: { width: 280, height: 640 } }), server.url);
  await page.waitForSelector("#sign-in-form");
  await page.click("#login");
  await page.waitForSelector("#username-error:has-text('name')");
  assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth));
});

test("a conversation is accessible in light and dark", async (t) => {
  const other = await Client.join(t, server, "other", "colours");
  await other.says("colours", "hello");
  for (const colorScheme of ["light", "dark"]) {
    const page = await person(t, server.url, `emma-${colorScheme}`, "colours", { colorScheme });
    await say(page, "mine");
    await page.waitForSelector(".message.mine:not(.pending)");
    await isAccessible(page);
    await screenshot(page, colorScheme);
  }
});

test("with hundreds of messages one more changes one: the others stay as they are", async (t) => {
  const busy = await Server.start(t, {
    flags: ["--messages-per-second", "100000", "--history-messages", "600"],
  });
  const writer = await Client.join(t, busy, "writer", "many");
  await Promise.all(Array.from({ length: 500 }, (_, i) => writer.says("many", `message ${i}`)));
  const finn = await person(t, busy.url, "finn", "many");
  await finn.waitForFunction(() => document.querySelectorAll("#messages .message").length === 500);
  await finn.evaluate(() => {
    window.changed = { added: 0, removed: 0 };
    new MutationObserver((records) => {
      for (const { addedNodes, removedNodes } of records) {
        window.changed.added += addedNodes.length;
        window.changed.removed += removedNodes.length;
      }
    }).observe(document.querySelector("#messages"), { childList: true, subtree: true });
  });
  // At the end one stays there.
  const isAtEnd = () =>
    finn.evaluate(() => {
      const box = document.querySelector("#box");
      return box.scrollHeight - box.scrollTop - box.clientHeight < 2;
    });
  await writer.says("many", "one more");
  await sees(finn, "one more");
  await finn.waitForFunction(() => {
    const box = document.querySelector("#box");
    return box.scrollHeight - box.scrollTop - box.clientHeight < 2;
  });
  const typing = finn.waitForSelector("#typing:has-text('writer')");
  writer.socket.emit("chat:typing", "many");
  await typing;
  await say(finn, "and mine");
  await sees(finn, "and mine");
  await joinAndLeave(t, busy, "passer-by", "many");
  await finn.waitForSelector(".line:has-text('passer-by left')");
  // Two messages and two lines.
  assert.deepEqual(await finn.evaluate(() => window.changed), { added: 4, removed: 0 });
  // Reading above, one stays where one is, and is told what comes.
  await finn.evaluate(() => (document.querySelector("#box").scrollTop = 1000));
  await finn.waitForSelector("#jump:visible");
  await writer.says("many", "below");
  await finn.waitForSelector("#jump:has-text('1 new')");
  assert.ok(
    Math.abs((await finn.evaluate(() => document.querySelector("#box").scrollTop)) - 1000) < 2,
  );
  await screenshot(finn, "reading-above");
  // Elsewhere and back, it is where it was.
  await joinRoom(finn, "elsewhere");
  await finn.keyboard.press("Alt+ArrowUp");
  assert.ok(
    Math.abs((await finn.evaluate(() => document.querySelector("#box").scrollTop)) - 1000) < 2,
  );
  await finn.click("#jump");
  assert.ok(await isAtEnd());
  await finn.waitForSelector("#jump", { state: "hidden" });
});

async function joinAndLeave(t, at, name, room) {
  const client = await Client.join(t, at, name, room);
  client.socket.disconnect();
}

test("what the server refuses can be changed and sent again", async (t) => {
  const gina = await person(t, server.url, "gina", "refused");
  const text = "x".repeat(4001);
  await say(gina, text);
  await gina.waitForSelector(
    ".pending.failed [role=alert]:has-text('Not sent: A message has 1 to 4000 characters.')",
  );
  await say(gina, "this one is fine");
  await sees(gina, "this one is fine");
  await screenshot(gina, "failed");
  await gina.locator(".failed button", { hasText: "Edit" }).click();
  assert.equal(await gina.inputValue("#text"), text);
  await say(gina, text.slice(1));
  await sees(gina, text.slice(1));
  assert.equal(await gina.locator(".pending").count(), 0);
});

test("a text or a room's name that ends any connection is not sent, and the chat goes on", async (t) => {
  const paul = await person(t, server.url, "paul", "endless");
  // Pasted, as typing takes too long.
  const paste = (id) => (document.getElementById(id).value = "z".repeat(1_500_000));
  const pasted = (id) => paul.evaluate(paste, id);
  await pasted("text");
  await paul.press("#text", "Enter");
  await paul.waitForSelector(".pending.failed [role=alert]:has-text('too long')");
  await say(paul, "goes on");
  await sees(paul, "goes on");
  await pasted("join-name");
  await paul.press("#join-name", "Enter");
  await paul.waitForSelector("#join-error:has-text('too long')");
  assert.deepEqual(await paul.locator("button.room .name").allTextContents(), ["endless"]);
  await say(paul, "and on");
  await sees(paul, "and on");
});

test("who writes too fast waits, and all of it arrives in its order", async (t) => {
  const hugo = await person(t, server.url, "hugo", "fast");
  const texts = Array.from({ length: 32 }, (_, i) => `message ${i}`);
  for (const text of texts) await say(hugo, text);
  await sees(hugo, texts.at(-1));
  assert.deepEqual(await bodies(hugo), texts);
});

test("who comes right back was never away", async (t) => {
  const iris = await person(t, server.url, "iris", "coming");
  const lena = await Client.join(t, server, "lena", "coming");
  await iris.waitForSelector(".line:has-text('lena joined')");
  lena.socket.disconnect();
  await iris.waitForSelector(".line:has-text('lena left')");
  await Client.join(t, server, "lena", "coming");
  await iris.waitForFunction(() => document.querySelectorAll("#members li").length === 2);
  assert.deepEqual(await iris.locator(".line").allTextContents(), ["lena joined"]);
});
