// Serves a page of the tutorial, and connects clients to it.
// TUTORIAL_BIN is the example's binary.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { io } from "socket.io-client";

const PATIENCE = 20_000;
const { TUTORIAL_BIN } = process.env;
if (!TUTORIAL_BIN) throw new Error("TUTORIAL_BIN must be the tutorial; `cargo xtask test` sets it");

/** The page, on a port of its own, until the test ends. */
export async function serve(t, name) {
  const child = spawn(TUTORIAL_BIN, [name, "127.0.0.1:0"], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const closed = once(child, "close");
  t.after(async () => {
    child.kill();
    await closed;
  });
  const page = { lines: [], url: undefined };
  createInterface({ input: child.stdout }).on("line", (line) => page.lines.push(line));
  page.line = (pattern) =>
    until(`${name} to say ${pattern}`, () => page.lines.find((line) => pattern.test(line)));
  page.url = (await page.line(/^listening on/)).split(" ").at(-1);
  return page;
}

/** A client that is not connected yet; it is disconnected with the test. */
export function client(t, page, { namespace = "/", ...options } = {}) {
  const socket = io(page.url + namespace, { forceNew: true, reconnection: false, ...options });
  t.after(() => socket.disconnect());
  return socket;
}

/** A client that is connected. */
export async function connect(t, page, options) {
  const socket = client(t, page, options);
  await within("the client to connect", new Promise((resolve, reject) => {
    socket.once("connect", resolve);
    socket.once("connect_error", reject);
  }));
  return socket;
}

/** The arguments of the next event of this name: call it before the cause. */
export function next(emitter, event) {
  const heard = new Promise((resolve) => emitter.once(event, (...args) => resolve(args)));
  const outcome = within(`the event ${event}`, heard);
  // Not every test waits for what it might hear.
  outcome.catch(() => {});
  return outcome;
}

/** The outcome of a promise, in bounded time. */
export function within(what, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited in vain for ${what}`)), PATIENCE).unref();
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** Waits until there is a value, and returns it. */
export async function until(what, look) {
  for (const deadline = Date.now() + PATIENCE; ; ) {
    const value = await look();
    if (value) return value;
    if (Date.now() > deadline) throw new Error(`waited in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
