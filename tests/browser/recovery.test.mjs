// Tokens that end, sign-ins that are over, hours offline: the windows come back by themselves, or
// say why not.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Client, until } from "../chat/lib/client.mjs";
import { Proxy } from "../chat/lib/proxy.mjs";
import { SECRET, Server } from "../chat/lib/server.mjs";
import { joinRoom, open, person, profile, say, screenshot, sees, signIn } from "./lib/window.mjs";

const flags = ["--sign-ins-per-minute", "1000"];

for (const [how, script] of [
  ["with locks", ""],
  ["without locks, as over plain HTTP elsewhere", "delete Navigator.prototype.locks"],
]) {
  test(`two windows renew their tokens after the server was away for longer than those, ${how}`, async (t) => {
    const server = await Server.start(t, { flags: [...flags, "--access-token-seconds", "3"] });
    const proxy = await Proxy.start(t, server.port);
    const context = await profile(t);
    await context.addInitScript(script);
    const one = await open(context, proxy.url);
    await signIn(one, "iris");
    await joinRoom(one, "tokens");
    const two = await open(context, proxy.url);
    await two.waitForSelector("#members li");
    assert.equal(await one.evaluate(() => Boolean(navigator.locks)), !script);
    await server.stop("SIGTERM");
    await Promise.all([one, two].map((page) => page.waitForSelector("#banner:visible")));
    const ends = Date.now() + 3500;
    await until(() => Date.now() > ends);
    await server.start();
    // Both ask at once for what there is once.
    await Promise.all([one, two].map((page) => page.waitForSelector("#state.online")));
    await say(one, "from one");
    await say(two, "from two");
    for (const page of [one, two])
      for (const text of ["from one", "from two"]) await sees(page, text);
  });
}

test("without locks a window waits while another's token is renewed, however long that takes", async (t) => {
  const server = await Server.start(t, { flags });
  const proxy = await Proxy.start(t, server.port);
  const context = await profile(t);
  await context.addInitScript("delete Navigator.prototype.locks");
  const one = await open(context, proxy.url);
  await signIn(one, "nora");
  const two = await open(context, proxy.url);
  await two.waitForSelector("#state.online");
  proxy.hold("POST /api/refresh");
  await one.reload({ waitUntil: "commit" });
  await until(() => proxy.held > 0, "the answer is held back");
  proxy.hold(null);
  await two.reload();
  // Longer than the lease of a window that is gone.
  const late = Date.now() + 6000;
  await until(() => Date.now() > late);
  proxy.release();
  for (const page of [one, two]) {
    await page.waitForSelector("#state.online");
    assert.equal(await page.textContent("#me"), "nora");
  }
});

test("offline: the page says so, keeps what is written, and sends it later", async (t) => {
  const server = await Server.start(t, { flags });
  const jana = await person(t, server.url, "jana", "offline");
  await jana.context().setOffline(true);
  await jana.waitForSelector("#banner:has-text('offline')");
  await say(jana, "written offline");
  await jana.waitForSelector(".pending .note:visible");
  await screenshot(jana, "offline");
  await jana.context().setOffline(false);
  await sees(jana, "written offline");
  await jana.waitForSelector("#banner", { state: "hidden" });
});

test("what was left without a connection is not come back to", async (t) => {
  const server = await Server.start(t, { flags });
  const proxy = await Proxy.start(t, server.port);
  const karl = await person(t, proxy.url, "karl", "left");
  await joinRoom(karl, "kept");
  proxy.cut();
  await karl.waitForSelector("#banner:visible");
  await karl.locator("li:has(button.room:has-text('left')) .leave").click();
  proxy.restore();
  await karl.waitForSelector("#state.online");
  const lena = await Client.connect(t, server, "lena");
  await until(async () => (await lena.joins("kept")).members.includes("karl"), "karl is back");
  await until(async () => !(await lena.joins("left")).members.includes("karl"), "karl has left");
  assert.deepEqual(await karl.locator("button.room .name").allTextContents(), ["kept"]);
});

test("over a slow network the histories of many rooms come one after the other, and the connection stays", async (t) => {
  const more = ["--messages-per-second", "100000", "--history-messages", "1000"];
  const server = await Server.start(t, { flags: [...flags, ...more] });
  const proxy = await Proxy.start(t, server.port);
  const rooms = Array.from({ length: 6 }, (_, i) => `room ${i}`);
  const writer = await Client.join(t, server, "writer", rooms);
  const slow = await person(t, proxy.url, "slow");
  for (const room of rooms) await joinRoom(slow, room);
  proxy.cut();
  await slow.waitForSelector("#banner:visible");
  // A MiB each: together they take longer than an answer may.
  for (const room of rooms)
    await Promise.all(Array.from({ length: 90 }, () => writer.says(room, "\u6f22".repeat(3900))));
  proxy.slow(500_000);
  proxy.restore();
  await slow.waitForSelector("#state.online");
  await slow.evaluate(() => {
    window.states = [];
    const note = () => window.states.push(document.querySelector("#state").className);
    new MutationObserver(note).observe(document.querySelector("#state"), { attributes: true });
  });
  for (const room of rooms) {
    await slow.locator("button.room", { hasText: new RegExp(`^${room}$`) }).click();
    await say(slow, `back in ${room}`);
    await sees(slow, `back in ${room}`);
  }
  assert.deepEqual(await slow.evaluate(() => window.states), []);
});

test("where the sign-in is over the page asks for it, and says why", async (t) => {
  const server = await Server.start(t, { flags });
  const max = await person(t, server.url, "max", "over");
  // Another secret, as after a restore from nothing: no token of the old one is any good.
  await server.stop("SIGKILL");
  server.data = `${server.data}/other`;
  server.env = { JWT_SECRET: SECRET.toUpperCase() };
  await server.start();
  await max.waitForSelector("#sign-in-error:has-text('Please sign in again.')");
  assert.equal(await max.evaluate(() => document.activeElement.id), "username");
});

// The refresh token that this browser has, as somebody would who took it.
async function refreshCookie(page, url) {
  const [{ name, value }] = await page.context().cookies(`${url}/api/`);
  return `${name}=${value}`;
}

test("signing out while the server is away: it is told by itself once it is back", async (t) => {
  const server = await Server.start(t, { flags });
  const nora = await person(t, server.url, "nora", "private");
  const cookie = await refreshCookie(nora, server.url);
  await server.stop("SIGKILL");
  await nora.click("#logout");
  await nora.waitForSelector("#sign-in-form:visible");
  await nora.waitForSelector("#signing-out:has-text('could not be told yet')");
  await nora.waitForSelector("#sign-out-again:visible");
  await screenshot(nora, "signing-out");
  await server.start();
  await nora.waitForSelector("#sign-out-again", { state: "hidden" });
  assert.equal(await nora.textContent("#signing-out"), "");
  assert.equal((await server.refresh(cookie)).status, 401);
  assert.equal(await nora.evaluate(() => JSON.stringify({ ...localStorage })), "{}");
});

test("signing out while the server is away: it can be tried again, and a reload does not sign in", async (t) => {
  const server = await Server.start(t, { flags });
  for (const [name, act] of [
    ["olga", (page) => page.click("#sign-out-again")],
    ["paul", (page) => page.reload()],
    // Somebody else signs in before it has been tried again.
    ["quin", (page) => signIn(page, "another")],
  ]) {
    const page = await person(t, server.url, name, "private");
    const cookie = await refreshCookie(page, server.url);
    // Nothing happens by itself.
    await page.clock.install();
    await page.clock.pauseAt(Date.now() + 60_000);
    await server.stop("SIGKILL");
    await page.click("#logout");
    await page.click("#sign-out-again");
    await page.waitForSelector("#signing-out:has-text('could not be told yet')");
    await server.start();
    await act(page);
    await page.waitForFunction(() => localStorage.getItem("sockeye-signing-out") === null);
    assert.equal((await server.refresh(cookie)).status, 401, name);
    await page.clock.resume();
    await page.reload();
    const other = name === "quin";
    await page.waitForSelector(other ? "#state.online" : "#sign-in-form:visible");
    if (other) assert.equal(await page.textContent("#me"), "another");
  }
});
