// The official client: events, acknowledgements, timeouts, binary, in every mode.

import assert from "node:assert/strict";
import { test } from "node:test";
import { ask, askAll, collect, connect, MODES, next } from "../lib/client.mjs";
import { useServer } from "../lib/server.mjs";
import { until } from "../lib/wait.mjs";

const server = await useServer();

const JSON_VALUES = [
  null,
  true,
  0,
  -1.5,
  1e21,
  Number.MAX_SAFE_INTEGER,
  "",
  'quotes " and \\ and \n',
  [],
  {},
  [[[1]], { a: { b: [null] } }],
  { "": "empty key", __proto__x: 1, constructor: "c", _placeholder: false },
];
const CONTROLS = "\u0000\u001e\u001f";
const UNICODE = ["héllo", "日本語", "😀👩‍👩‍👧", CONTROLS, "\u2028\u2029", "\uffff"];

for (const mode of Object.keys(MODES)) {
  test(`${mode}: events come back with any number of arguments`, async (t) => {
    const socket = await connect(t, server, mode);
    const twenty = Array.from({ length: 20 }, (_, i) => i);
    for (const args of [[], ["one"], [1, "two", { three: 3 }], JSON_VALUES, twenty]) {
      const echoed = next(socket, "echo");
      socket.emit("echo", ...args);
      assert.deepEqual(await echoed, args);
    }
  });

  test(`${mode}: acknowledgements carry any number of arguments`, async (t) => {
    const socket = await connect(t, server, mode);
    assert.deepEqual(await askAll(socket, "echo"), []);
    assert.deepEqual(await askAll(socket, "echo", ...JSON_VALUES), JSON_VALUES);
    const many = Array.from({ length: 50 }, (_, i) => askAll(socket, "echo", i));
    assert.deepEqual(await Promise.all(many), many.map((_, i) => [i]));
  });

  test(`${mode}: a handler awaits the acknowledgement of its own client`, async (t) => {
    const socket = await connect(t, server, mode);
    socket.on("sum", (a, b, ack) => ack(a + b, "sum"));
    assert.deepEqual(await askAll(socket, "ask", "sum", 2, 3), [5, "sum"]);
    socket.on("nothing", (ack) => ack());
    assert.deepEqual(await askAll(socket, "ask", "nothing"), []);
    socket.on("bytes", (data, ack) => ack({ data }));
    const [answer] = await askAll(socket, "ask", "bytes", Buffer.from([1, 2]));
    assert.deepEqual(Buffer.from(answer.data), Buffer.from([1, 2]));
  });

  test(`${mode}: questions of the server to one client may overlap`, async (t) => {
    const socket = await connect(t, server, mode);
    const pending = [];
    socket.on("slow", (value, ack) => pending.push(() => ack(value)));
    const answers = [1, 2, 3].map((i) => ask(socket, "ask", "slow", i));
    // Whether the server runs handlers of one socket side by side or in turn is not said here.
    const all = Promise.all(answers);
    let done = false;
    all.finally(() => (done = true));
    await until("all questions to be answered", () => {
      pending.pop()?.();
      return done;
    });
    assert.deepEqual(await all, [1, 2, 3]);
  });

  test(`${mode}: a client's acknowledgement times out`, async (t) => {
    const socket = await connect(t, server, mode);
    await assert.rejects(
      socket.timeout(100).emitWithAck("silence", 1),
      /operation has timed out/,
    );
    assert.equal(await ask(socket, "echo", "after"), "after");
  });

  test(`${mode}: a server's acknowledgement times out, and a late one is ignored`, async (t) => {
    const socket = await connect(t, server, mode);
    let late;
    socket.on("mute", (ack) => (late = ack));
    assert.deepEqual(await askAll(socket, "ask-timeout", 100, "mute"), ["timeout"]);
    late("too late");
    socket.on("quick", (value, ack) => ack(value, "b"));
    const answers = await askAll(socket, "ask-timeout", 20_000, "quick", "a");
    assert.deepEqual(answers, ["ok", "a", "b"]);
  });

  test(`${mode}: binary arrives at any depth, in order and bit by bit`, async (t) => {
    const socket = await connect(t, server, mode);
    const all = Buffer.from(Array.from({ length: 256 }, (_, i) => i));
    const view = new Uint8Array(all.buffer, all.byteOffset + 10, 5);
    const make = (part) => [all, { deep: [{ deeper: part }, "x"] }, Buffer.alloc(0), "end", [all]];
    const args = make(view);
    const wanted = make(Buffer.from(view));

    const echoed = next(socket, "echo");
    socket.emit("echo", ...args);
    assert.deepEqual(await echoed, wanted);
    assert.deepEqual(await askAll(socket, "echo", ...args), wanted);
  });

  test(`${mode}: H32 of a view of a buffer its part is sent, and nothing else`, async (t) => {
    const socket = await connect(t, server, mode);
    const { buffer } = Uint8Array.from([1, 2, 3, 4, 5, 6, 7, 8]);
    const views = [
      new Uint8Array(buffer, 2, 3),
      new Uint16Array(buffer, 2, 2),
      new DataView(buffer, 5, 2),
      Buffer.from(buffer, 1, 3),
    ];
    const wanted = [[3, 4, 5], [3, 4, 5, 6], [6, 7], [2, 3, 4]].map((bytes) => Buffer.from(bytes));
    assert.deepEqual(await askAll(socket, "echo", ...views), wanted);
  });

  test(`${mode}: ten attachments are allowed`, async (t) => {
    const socket = await connect(t, server, mode);
    const ten = Array.from({ length: 10 }, (_, i) => Buffer.from([i]));
    assert.deepEqual(await ask(socket, "echo", ten), ten);
  });

  test(`${mode}: unicode survives in names, texts and keys`, async (t) => {
    const socket = await connect(t, server, mode);
    for (const text of UNICODE) {
      assert.deepEqual(await ask(socket, "echo", { [text]: text }), { [text]: text });
    }
    socket.on("название 😀", (value, ack) => ack(value));
    assert.equal(await ask(socket, "ask", "название 😀", "да"), "да");
  });

  test(`${mode}: one connection's messages keep their order in both directions`, async (t) => {
    const socket = await connect(t, server, mode);
    const echoed = collect(socket, "echo");
    for (let i = 0; i < 300; i += 1) socket.emit("echo", i);
    for (let i = 0; i < 300; i += 1) assert.deepEqual(await echoed.next(), [i]);
  });

  test(`${mode}: text and binary keep their order among each other`, async (t) => {
    const socket = await connect(t, server, mode);
    const echoed = collect(socket, "echo");
    const sent = Array.from({ length: 60 }, (_, i) => (i % 3 === 0 ? Buffer.from([i]) : i));
    for (const value of sent) socket.emit("echo", value);
    for (const value of sent) assert.deepEqual(await echoed.next(), [value]);
  });

  test(`${mode}: a handler that fails ends nothing but itself`, async (t) => {
    const socket = await connect(t, server, mode);
    let lost = false;
    socket.once("disconnect", () => (lost = true));
    socket.emit("throw", "on purpose");
    socket.emit("throw", "with an acknowledgement", () => {});
    assert.equal(await ask(socket, "echo", "alive"), "alive");
    assert.equal(lost, false);
  });

  test(`${mode}: volatile messages reach a client that keeps up`, async (t) => {
    const socket = await connect(t, server, mode);
    // Over polling the server may drop while no GET waits, so it is asked until one arrives.
    const received = collect(socket, "volatile");
    await until("a volatile message", async () => {
      const end = next(socket, "volatile-end");
      socket.emit("volatile", 1, "now");
      await end;
      return received.size > 0;
    });
    assert.deepEqual(await received.next(), [0, "now"]);
  });

  test(`${mode}: a client's volatile emits arrive`, async (t) => {
    const socket = await connect(t, server, mode);
    const echoed = collect(socket, "echo");
    await until("a volatile echo", () => {
      if (echoed.size === 0) socket.volatile.emit("echo", "v");
      return echoed.size > 0;
    });
    assert.deepEqual(await echoed.next(), ["v"]);
  });

  test(`${mode}: reserved names are refused on emit, others are not`, async (t) => {
    const socket = await connect(t, server, mode);
    const reserved = ["connect", "connect_error", "disconnect", "disconnecting"];
    for (const name of [...reserved, "newListener", "removeListener"]) {
      assert.equal(await ask(socket, "emit-named", name), "refused", name);
    }
    for (const name of ["connection", "error", "ping"]) {
      assert.equal(await ask(socket, "emit-named", name), "ok", name);
    }
  });
}
