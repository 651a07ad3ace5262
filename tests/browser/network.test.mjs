// Networks that break and servers that die: every message that was written is there once, in every
// window.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Client } from "../chat/lib/client.mjs";
import { Proxy } from "../chat/lib/proxy.mjs";
import { Server } from "../chat/lib/server.mjs";
import { areThereOnce, bodies, person, say, screenshot, sees } from "./lib/window.mjs";

const flags = ["--sign-ins-per-minute", "1000", "--messages-per-second", "1000"];

const numbered = (name, count) => Array.from({ length: count }, (_, i) => `${name} ${i}`);

test("a network that breaks again and again loses nothing and doubles nothing", async (t) => {
  const server = await Server.start(t, { flags });
  const proxy = await Proxy.start(t, server.port);
  const windows = [
    await person(t, proxy.url, "ann", "net"),
    await person(t, proxy.url, "ben", "net"),
  ];
  const each = (act) => Promise.all(windows.map(act));
  for (let round = 0; round < 4; round += 1) {
    const write = (from) => async (page, window) => {
      for (let i = from; i < from + 2; i += 1)
        await say(page, `${["ann", "ben"][window]} ${4 * round + i}`);
    };
    // Cut with messages on their way, in one direction or the other.
    await each(write(0));
    proxy.cut();
    await each(write(2));
    await each((page) => page.waitForSelector("#banner:visible"));
    if (round === 0) await screenshot(windows[0], "reconnecting");
    proxy.restore();
    await each((page) => page.waitForSelector("#state.online"));
  }
  const texts = [...numbered("ann", 16), ...numbered("ben", 16)];
  await areThereOnce(windows, texts, server, t, "net");
});

test("a message whose acknowledgement was swallowed is sent again and is there once", async (t) => {
  const server = await Server.start(t, { flags });
  const proxy = await Proxy.start(t, server.port);
  const [carl, dora] = [
    await person(t, proxy.url, "carl", "lost"),
    await person(t, server.url, "dora", "lost"),
  ];
  proxy.swallow();
  // The first reaches the server, which is heard no more; the second waits behind it.
  await say(carl, "carl 0");
  await say(carl, "carl 1");
  await sees(dora, "carl 0");
  assert.equal(await carl.locator(".pending").count(), 2);
  await areThereOnce([carl, dora], ["carl 0", "carl 1"], server, t, "lost");
});

test("kill -9: every message is there once, and the windows come back to their rooms", async (t) => {
  const server = await Server.start(t, { flags });
  const [emma, finn] = [
    await person(t, server.url, "emma", "crash"),
    await person(t, server.url, "finn", "crash"),
  ];
  const texts = ["emma", "finn"].flatMap((name) => numbered(name, 10));
  for (let i = 0; i < 10; i += 1) {
    await say(emma, `emma ${i}`);
    await say(finn, `finn ${i}`);
  }
  await server.stop("SIGKILL");
  await emma.waitForSelector("#banner:visible");
  await say(emma, "emma while it was away");
  assert.equal(await emma.locator(".pending .body").last().textContent(), "emma while it was away");
  await server.start();
  await areThereOnce([emma, finn], [...texts, "emma while it was away"], server, t, "crash");
  // Nobody came or went.
  for (const page of [emma, finn]) {
    await page.waitForFunction(() => document.querySelectorAll("#members li").length === 3);
    assert.deepEqual(
      (await page.locator(".line").allTextContents()).filter((line) => !line.startsWith("reader"))
        .length <= 1,
      true,
    );
  }
});

test("what was missed for long is caught up with, and what cannot be is said", async (t) => {
  const server = await Server.start(t, { flags: [...flags, "--history-messages", "5"] });
  const proxy = await Proxy.start(t, server.port);
  const gina = await person(t, proxy.url, "gina", "gap");
  const hugo = await Client.join(t, server, "hugo", "gap");
  await hugo.says("gap", "seen");
  await sees(gina, "seen");
  for (const count of [3, 8]) {
    proxy.cut();
    await gina.waitForSelector("#banner:visible");
    for (const text of numbered(`missed of ${count}:`, count)) await hugo.says("gap", text);
    proxy.restore();
    await sees(gina, `missed of ${count}: ${count - 1}`);
    assert.equal(await gina.locator(".line:has-text('not shown')").count(), count > 5 ? 1 : 0);
  }
  const shown = ["seen", ...numbered("missed of 3:", 3), ...numbered("missed of 8:", 8).slice(-5)];
  assert.deepEqual(await bodies(gina), shown);
});
