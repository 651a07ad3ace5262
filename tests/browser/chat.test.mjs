// Windows of a real browser talk to each other over the real server.

import assert from "node:assert/strict";
import { before, test } from "node:test";

import { Client, until } from "../chat/lib/client.mjs";
import { Proxy } from "../chat/lib/proxy.mjs";
import { Server, wholeFile } from "../chat/lib/server.mjs";
import { joinRoom, open, person, profile, say, screenshot, sees, signIn } from "./lib/window.mjs";

const file = wholeFile();
let server;
before(async () => {
  server = await Server.start(file, {
    flags: ["--sign-ins-per-minute", "1000", "--messages-per-second", "1000"],
  });
});

test("two windows talk, see each other come, type and go, and text is text", async (t) => {
  const ann = await person(t, server.url, "ann", "lobby");
  const ben = await person(t, server.url, "ben", "lobby");
  await ann.waitForSelector(".line:has-text('ben joined')");
  await say(ann, "hello ben");
  await sees(ben, "hello ben");
  const markup = `<img src=x onerror="window.broken = true">`;
  await say(ben, markup);
  await sees(ann, markup);
  assert.equal(await ann.locator("#messages img").count(), 0);
  assert.equal(await ann.evaluate(() => window.broken), undefined);
  // It is there for some seconds only, however long the typing takes.
  const typing = ann.waitForSelector("#typing:has-text('ben is typing')");
  await ben.locator("#text").pressSequentially("typ");
  await typing;
  await screenshot(ann, "talk");
  await ann.waitForFunction(() => document.querySelector("#typing").textContent === "");
  assert.deepEqual(await ann.locator("#members .name").allTextContents(), ["ann", "ben"]);
  await ben.click(".leave");
  await ann.waitForSelector(".line:has-text('ben left')");
  await ann.waitForFunction(() => document.querySelectorAll("#members li").length === 1);
  await ben.waitForSelector("#suggestion");
});

test("no text becomes markup, even if a script of the page tried", async (t) => {
  const ann = await person(t, server.url, "annabel", "lobby");
  const thrown = await ann.evaluate(() => {
    try {
      document.createElement("p").innerHTML = "<b>x</b>";
      return null;
    } catch (error) {
      return error.name;
    }
  });
  assert.equal(thrown, "TypeError");
  await until(() => ann.context().problems.length > 0);
  ann.context().problems.length = 0;
});

test("messages elsewhere are marked, counted in the title, and where they begin is shown", async (t) => {
  const carl = await person(t, server.url, "carl", "one");
  const dora = await person(t, server.url, "dora", "one");
  await say(dora, "before");
  await sees(carl, "before");
  await joinRoom(carl, "two");
  await say(dora, "psst");
  await say(dora, "are you there?");
  await carl.waitForSelector(".unread:has-text('2')");
  assert.equal(await carl.title(), "(2) two – Sockeye chat");
  await screenshot(carl, "unread");
  await carl.locator("button.room", { hasText: "one" }).click();
  await sees(carl, "psst");
  assert.equal(await carl.locator(".unread").count(), 0);
  assert.equal(await carl.title(), "one – Sockeye chat");
  assert.equal(await carl.locator(".unread-from .body").textContent(), "psst");
  assert.equal(await carl.locator(".unread-from .new").textContent(), "New");
});

test("each room has its own draft", async (t) => {
  const emil = await person(t, server.url, "emil", "one");
  await emil.fill("#text", "for one");
  await joinRoom(emil, "two");
  assert.equal(await emil.inputValue("#text"), "");
  await emil.fill("#text", "for two");
  await emil.locator("button.room", { hasText: "one" }).click();
  assert.equal(await emil.inputValue("#text"), "for one");
});

test("two windows of one account: both have all messages, and there is one member", async (t) => {
  const context = await profile(t);
  const one = await open(context, server.url);
  await signIn(one, "emma");
  await joinRoom(one, "twice");
  // It is signed in already, and in the rooms of the last time.
  const two = await open(context, server.url);
  await two.waitForSelector("#members li");
  assert.equal(await two.textContent("#room-title"), "twice");
  await say(one, "from one");
  await say(two, "from two");
  for (const page of [one, two]) {
    await sees(page, "from one");
    await sees(page, "from two");
    assert.deepEqual(await page.locator("#members .name").allTextContents(), ["emma"]);
    assert.equal(await page.locator(".line").count(), 0);
    assert.equal(await page.locator(".pending").count(), 0);
  }
});

test("a window comes back to its own rooms, whatever another window of the account has joined", async (t) => {
  const context = await profile(t);
  const one = await open(context, server.url);
  await signIn(one, "rosa");
  await joinRoom(one, "both");
  const two = await open(context, server.url);
  await two.waitForSelector("#members li");
  await joinRoom(two, "of two");
  await joinRoom(one, "of one");
  const rooms = (page) => page.locator("button.room .name").allTextContents();
  for (const [page, own] of [
    [two, "of two"],
    [one, "of one"],
  ]) {
    await page.reload();
    await page.waitForSelector("#members li");
    assert.deepEqual(await rooms(page), ["both", own]);
    assert.equal(await page.textContent("#room-title"), own);
  }
});

test("signing out in one window signs out in the other, and the rooms are forgotten", async (t) => {
  const context = await profile(t);
  const one = await open(context, server.url);
  await signIn(one, "finn");
  await joinRoom(one, "private matters");
  const two = await open(context, server.url);
  await two.waitForSelector("#members li");
  await one.click("#logout");
  await one.waitForSelector("#sign-in");
  await two.waitForSelector("#sign-in-error:has-text('signed out in another window')");
  await two.reload();
  await two.waitForSelector("#sign-in");
  assert.equal(await two.evaluate(() => JSON.stringify({ ...localStorage })), "{}");
  await signIn(one, "finn", "#login");
  for (const page of [one, two]) {
    await page.reload();
    await page.waitForSelector("#state.online");
    assert.equal(await page.locator("button.room").count(), 0);
  }
  // A connection that was open is gone as well.
  const gina = await Client.connect(t, server, "gina");
  assert.deepEqual((await gina.joins("private matters")).members, ["gina"]);
});

test("signing in as somebody else in one window ends the other: nobody writes as the wrong one", async (t) => {
  const context = await profile(t);
  const [one, two] = [await open(context, server.url), await open(context, server.url)];
  await signIn(one, "gerd");
  await signIn(two, "gesa");
  await one.waitForSelector("#sign-in-error:has-text('signed in as gesa')");
  await two.waitForSelector("#state.online");
  assert.equal(await two.textContent("#me"), "gesa");
});

test("a reload stays signed in, in its rooms", async (t) => {
  const hugo = await person(t, server.url, "hugo", "first");
  await joinRoom(hugo, "second");
  await hugo.locator("button.room", { hasText: "first" }).click();
  await hugo.reload();
  await hugo.waitForSelector("#members li");
  assert.equal(await hugo.textContent("#room-title"), "first");
  assert.deepEqual(await hugo.locator("button.room .name").allTextContents(), ["first", "second"]);
});

test("a reload in the middle of a reload stays signed in: the page that is left still gets its new token", async (t) => {
  const proxy = await Proxy.start(t, server.port);
  const iris = await person(t, proxy.url, "iris", "reloads");
  proxy.hold("POST /api/refresh");
  await iris.goto(proxy.url, { waitUntil: "commit" });
  // The server has replaced the refresh token, and nobody knows the new one.
  await until(() => proxy.held > 0);
  proxy.hold(null);
  await iris.goto(proxy.url, { waitUntil: "domcontentloaded" });
  proxy.release();
  await iris.waitForSelector("#members li");
  assert.equal(await iris.textContent("#me"), "iris");
});
