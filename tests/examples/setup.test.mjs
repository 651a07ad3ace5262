// Page `setup`: cross-origin rules and the heartbeat.

import assert from "node:assert/strict";
import { test } from "node:test";
import { client, connect, next, serve } from "./lib/page.mjs";

const OWN = "http://localhost:5173";

test("pages of the named origin connect, over each transport", async (t) => {
  const page = await serve(t, "setup");
  for (const transports of [["polling"], ["websocket"]]) {
    const socket = await connect(t, page, { transports, extraHeaders: { origin: OWN } });
    const { id } = socket;
    await page.line(new RegExp(`^${id} is here, over ${transports[0]}$`));
    socket.disconnect();
    await page.line(new RegExp(`^${id} is gone: client namespace disconnect$`));
  }
});

test("pages of other origins do not", async (t) => {
  const page = await serve(t, "setup");
  for (const transports of [["polling"], ["websocket"]]) {
    const extraHeaders = { origin: "http://elsewhere.example" };
    const [error] = await next(client(t, page, { transports, extraHeaders }), "connect_error");
    assert.match(error.message, /error/);
  }
  assert.equal(page.lines.length, 1, "nobody was let in");
});

test("a browser is told what it may do", async (t) => {
  const page = await serve(t, "setup");
  const preflight = await fetch(`${page.url}/socket.io/?EIO=4&transport=polling`, {
    method: "OPTIONS",
    headers: { origin: OWN, "access-control-request-method": "POST" },
  });
  assert.equal(preflight.status, 204);
  assert.equal(preflight.headers.get("access-control-allow-origin"), OWN);
  assert.equal(preflight.headers.get("access-control-allow-credentials"), "true");
});

test("clients are told the heartbeat, and the application serves on", async (t) => {
  const page = await serve(t, "setup");
  const open = await (await fetch(`${page.url}/socket.io/?EIO=4&transport=polling`)).text();
  const { pingInterval, pingTimeout } = JSON.parse(open.slice(1));
  assert.deepEqual({ pingInterval, pingTimeout }, { pingInterval: 10_000, pingTimeout: 5_000 });
  assert.equal(await (await fetch(page.url)).text(), "hello");
});
