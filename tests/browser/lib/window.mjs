// Windows of a real browser. CHROMIUM is its binary.

import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before } from "node:test";
import { chromium } from "playwright-core";

import { Client } from "../../chat/lib/client.mjs";
import { temporaryFolder } from "../../chat/lib/server.mjs";

const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];
const BROWSER = { executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: FLAGS };
const SCREENSHOTS = new URL("../screenshots/", import.meta.url).pathname;
export const PASSWORD = "a long password";
const WAIT_MS = 60_000;

let browser;
// Of the file that imports this.
before(async () => {
  mkdirSync(SCREENSHOTS, { recursive: true });
  browser = await chromium.launch(BROWSER);
});
after(() => browser?.close());

// Windows that share cookies and storage. What goes wrong in one fails the test that has them,
// unless it takes it out of `problems`.
export async function profile(t, options = {}) {
  return watched(t, await browser.newContext(options));
}

// Of a browser that keeps nothing for any page: no cookies, no storage.
export async function blockedProfile(t) {
  let remove;
  const folder = temporaryFolder({ after: (end) => (remove = end) });
  mkdirSync(join(folder, "Default"));
  const preferences = { profile: { default_content_setting_values: { cookies: 2 } } };
  writeFileSync(join(folder, "Default", "Preferences"), JSON.stringify(preferences));
  const context = watched(t, await chromium.launchPersistentContext(folder, BROWSER));
  t.after(remove);
  return context;
}

function watched(t, context) {
  const problems = (context.problems = []);
  context.on("weberror", (error) => problems.push(String(error.error())));
  context.on("console", (message) => {
    if (/Content Security Policy|TrustedHTML|Trusted Type/i.test(message.text()))
      problems.push(message.text());
  });
  t.after(async () => {
    await context.close();
    if (problems.length) throw new Error(problems.join("\n"));
  });
  context.setDefaultTimeout(WAIT_MS);
  return context;
}

export async function open(context, url) {
  const page = await context.newPage();
  await page.goto(`${url}/`);
  return page;
}

export async function signIn(page, name, button = "#register") {
  await page.fill("#username", name);
  await page.fill("#password", PASSWORD);
  await page.click(button);
  await page.waitForSelector("#state.online");
}

export async function joinRoom(page, room) {
  await page.fill("#join-name", room);
  await page.press("#join-name", "Enter");
  await page.waitForFunction(
    (room) => document.querySelector("#room-title").textContent === room,
    room,
  );
  await page.waitForSelector("#members li");
}

// A window of somebody who has just registered and joined a room.
export async function person(t, url, name, room, options) {
  const page = await open(await profile(t, options), url);
  await signIn(page, name);
  if (room) await joinRoom(page, room);
  return page;
}

export async function say(page, text) {
  await page.fill("#text", text);
  await page.press("#text", "Enter");
}

export const bodies = (page) => page.locator(".message:not(.pending) .body").allTextContents();

// Waits until a text is there once, sent and received.
export async function sees(page, text) {
  const isThere = (text) => {
    const sent = [...document.querySelectorAll(".message:not(.pending) .body")];
    return sent.filter((body) => body.textContent === text).length === 1;
  };
  await page.waitForFunction(isThere, text).catch(async (error) => {
    const all = await page.locator("#box .body").allTextContents();
    const short = JSON.stringify(all.map((body) => body.slice(0, 100)));
    throw new Error(`"${text}" is not there once, but ${short}`, { cause: error });
  });
}

export const screenshot = (page, name) =>
  page.screenshot({ path: `${SCREENSHOTS}${name}.png`, animations: "disabled" });

// All of them, each once, each author's in the order in which they were written, in both windows
// and the history.
export async function areThereOnce(pages, texts, server, t, room) {
  for (const page of pages) for (const text of texts) await sees(page, text);
  const reader = await Client.connect(t, server, "reader");
  const kept = (await reader.joins(room)).history.map((message) => message.text);
  assert.deepEqual([...kept].sort(), [...texts].sort());
  for (const page of pages) {
    assert.deepEqual(await bodies(page), kept);
    assert.equal(await page.locator(".pending").count(), 0);
  }
  for (const name of new Set(texts.map((text) => text.split(" ")[0]))) {
    const own = (text) => text.startsWith(`${name} `);
    assert.deepEqual(kept.filter(own), texts.filter(own));
  }
}
