// Two windows in Chromium against the real server: register, join, talk, type, leave, lose the server to `kill -9`.
// CHAT_BIN is the server's binary, CHROMIUM the browser's.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { chromium } from "playwright-core";

const data = mkdtempSync(join(tmpdir(), "sockeye-chat-"));
const LIMIT = { timeout: 20_000 };
let server;
let browser;
let port = 0;

async function start(...flags) {
  const args = ["--listen", `127.0.0.1:${port}`, "--data-dir", data, ...flags];
  server = spawn(process.env.CHAT_BIN, args, { stdio: ["ignore", "pipe", "inherit"] });
  const address = await new Promise((resolve, reject) => {
    let text = "";
    server.once("exit", (code) => reject(new Error(`the server ended with ${code}`)));
    server.stdout.on("data", (chunk) => {
      text += chunk;
      const found = /http:\/\/127\.0\.0\.1:(\d+)/.exec(text);
      if (found) resolve(found);
    });
  });
  port = Number(address[1]);
}

async function stop(signal) {
  const ended = new Promise((resolve) => server.once("exit", resolve));
  server.kill(signal);
  return ended;
}

before(async () => {
  await start("--access-token-seconds", "4");
  const flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync"];
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: flags });
});

after(async () => {
  await browser?.close();
  if (server?.exitCode === null) await stop("SIGTERM");
  rmSync(data, { recursive: true, force: true });
});

// A window that has signed in as a new user and joined the room.
async function person(t, name, room, options = {}) {
  const context = await browser.newContext(options);
  t.after(() => context.close());
  const page = await context.newPage();
  page.setDefaultTimeout(LIMIT.timeout);
  page.problems = [];
  page.on("pageerror", (error) => page.problems.push(String(error)));
  page.on("console", (message) => {
    if (/Content Security Policy/i.test(message.text())) page.problems.push(message.text());
  });
  await page.goto(`http://127.0.0.1:${port}/`);
  await page.fill("#username", name);
  await page.fill("#password", "a long password");
  await page.click("#register");
  await page.waitForSelector("#state.online");
  await page.fill("#join-name", room);
  await page.press("#join-name", "Enter");
  await page.waitForSelector("#text:enabled");
  return page;
}

async function say(page, text) {
  await page.fill("#text", text);
  await page.press("#text", "Enter");
}

const bodies = (page) => page.locator(".message:not(.pending) .body").allTextContents();

async function sees(page, text, count = 1) {
  const wanted = ([text, count]) =>
    [...document.querySelectorAll(".message:not(.pending) .body")].filter((body) => body.textContent === text).length === count;
  await page.waitForFunction(wanted, [text, count], LIMIT);
}

test("two windows talk, and text is text", async (t) => {
  const ann = await person(t, "ann", "lobby");
  const ben = await person(t, "ben", "lobby");
  await ann.waitForSelector(".line:has-text('ben joined')");
  await say(ann, "hello ben");
  await sees(ben, "hello ben");
  const markup = `<img src=x onerror="window.broken = true">`;
  await say(ben, markup);
  await sees(ann, markup);
  assert.equal(await ann.evaluate(() => window.broken), undefined);
  await ben.locator("#text").pressSequentially("typ");
  await ann.waitForSelector("#typing:has-text('ben is typing')");
  await ann.waitForFunction(() => document.querySelector("#typing").textContent === "", undefined, LIMIT);
  assert.deepEqual(await ann.locator("#members li span:last-child").allTextContents(), ["ann", "ben"]);
  await ann.screenshot({ path: new URL("screenshots/talk.png", import.meta.url).pathname });
  await ben.click(".leave");
  await ann.waitForSelector(".line:has-text('ben left')");
  assert.deepEqual([...ann.problems, ...ben.problems], []);
});

test("messages elsewhere are marked unread", async (t) => {
  const carl = await person(t, "carl", "one");
  await carl.fill("#join-name", "two");
  await carl.press("#join-name", "Enter");
  await carl.waitForSelector("#room-title:has-text('two')");
  const dora = await person(t, "dora", "one");
  await say(dora, "psst");
  await carl.waitForSelector(".unread:has-text('1')");
  await carl.locator("button.room", { hasText: "one" }).click();
  await sees(carl, "psst");
  assert.equal(await carl.locator(".unread").count(), 0);
});

test("kill -9: every acknowledged message is there once, and the windows come back", async (t) => {
  const [emma, finn] = [await person(t, "emma", "crash"), await person(t, "finn", "crash")];
  for (let i = 0; i < 20; i += 1) await say(i % 2 ? emma : finn, `before ${i}`);
  for (let i = 0; i < 20; i += 1) await Promise.all([sees(emma, `before ${i}`), sees(finn, `before ${i}`)]);
  await stop("SIGKILL");
  await emma.waitForSelector("#state:not(.online)");
  await say(emma, "while it was away");
  await start("--access-token-seconds", "4");
  await Promise.all([emma, finn].map((page) => page.waitForSelector("#state.online")));
  await Promise.all([sees(emma, "while it was away"), sees(finn, "while it was away")]);
  for (const page of [emma, finn]) {
    const seen = await bodies(page);
    const wanted = Array.from({ length: 20 }, (_, i) => `before ${i}`);
    assert.deepEqual(seen.filter((text) => text.startsWith("before")).sort(), wanted.sort());
  }
});

test("a lost network is caught up with, and an expired token renewed", async (t) => {
  const [gina, hugo] = [await person(t, "gina", "net"), await person(t, "hugo", "net")];
  await gina.evaluate(() => new Promise((resolve) => setTimeout(resolve, 0)));
  await say(gina, "first");
  await sees(hugo, "first");
  await hugo.context().setOffline(true);
  await say(gina, "second");
  await sees(gina, "second");
  // The access token of four seconds has ended by the time the server is back.
  const issued = Date.now();
  await stop("SIGTERM");
  await gina.waitForFunction((issued) => Date.now() - issued > 5000, issued, LIMIT);
  await start("--access-token-seconds", "4");
  await hugo.context().setOffline(false);
  await sees(hugo, "second");
  await gina.waitForSelector("#state.online");
  await say(gina, "third");
  await sees(hugo, "third");
});

test("a narrow, dark window", async (t) => {
  const iris = await person(t, "iris", "small", { viewport: { width: 390, height: 780 }, colorScheme: "dark" });
  await say(iris, "from a phone");
  await sees(iris, "from a phone");
  await iris.click("#menu");
  await iris.waitForSelector("#side.open");
  await iris.screenshot({ path: new URL("screenshots/narrow.png", import.meta.url).pathname });
});
