// Page `events`: events and their acknowledgements.

import assert from "node:assert/strict";
import { test } from "node:test";
import { client, connect, next, serve } from "./lib/page.mjs";

test("a client hears what the server sends on connection", async (t) => {
  const page = await serve(t, "events");
  assert.deepEqual(await next(client(t, page), "welcome"), ["What would you like?"]);
});

test("what a listener returns is the acknowledgement", async (t) => {
  const socket = await connect(t, await serve(t, "events"));
  const receipt = await socket.emitWithAck("order", { item: "tea", amount: 2 });
  assert.deepEqual(receipt, { item: "tea", cents: 500 });
});

test("an error is, too, also where the arguments cannot be read", async (t) => {
  const socket = await connect(t, await serve(t, "events"));
  const refused = await socket.emitWithAck("order", { item: "tea", amount: 0 });
  const error = { status: "error", code: "nothing_ordered", message: "Order at least one." };
  assert.deepEqual(refused, error);
  const { status, code } = await socket.emitWithAck("order", { item: "tea", amount: "two" });
  assert.deepEqual({ status, code }, { status: "error", code: "bad_arguments" });
});

test("any number of arguments, there and back", async (t) => {
  const socket = await connect(t, await serve(t, "events"));
  const answer = await new Promise((resolve) => {
    socket.emit("sum", 1, 2, 39, (...args) => resolve(args));
  });
  assert.deepEqual(answer, [42, 3]);
});

test("binary data", async (t) => {
  const socket = await connect(t, await serve(t, "events"));
  const picture = Buffer.alloc(2_000, 7);
  assert.equal(await socket.emitWithAck("upload", "cat.png", picture), "cat.png has 2000 bytes");
});

test("the server asks, and the client answers", async (t) => {
  const socket = await connect(t, await serve(t, "events"));
  socket.on("sure?", (item, answer) => answer(item === "tea"));
  assert.equal(await socket.emitWithAck("cancel", "tea"), "tea is cancelled");
  assert.equal(await socket.emitWithAck("cancel", "cake"), "cake is on its way");
});
