// The official client with the official MessagePack parser, in every mode. What the server writes
// is compared with that parser's own bytes.

import assert from "node:assert/strict";
import { test } from "node:test";
import parser from "socket.io-msgpack-parser";
import * as official from "../lib/client.mjs";
import { ask, askAll, collect, connectBeside, MODES, next, refusal } from "../lib/client.mjs";
import { KIND, useServer } from "../lib/server.mjs";
import { Peer } from "../lib/websocket.mjs";

const server = await useServer({ parser: "msgpack", pingInterval: 60_000 });

const connect = (t, mode, options) => official.connect(t, server, mode, { parser, ...options });
const encode = (packet) => new parser.Encoder().encode(packet)[0];

// Around every width, and beyond what a double has exactly.
const EDGES = [5, 7, 8, 15, 16, 31, 32, 53, 63].flatMap((bits) => [2 ** bits - 1, 2 ** bits]);
const INTEGERS = [0, ...EDGES, ...EDGES.map((edge) => -edge), ...EDGES.map((edge) => -edge - 1)];
const FLOATS = [0.5, -0.1, 1e-7, 5e-324, 1.1e-300, Math.PI];
const TEXTS = ["", "x".repeat(31), "é".repeat(16), "\u0000 \u001f \u2028 \uffff", "😀".repeat(9000)];
const LOOKS_BINARY = { _placeholder: true, num: 0 };
const VALUES = [
  ...INTEGERS.filter((value) => Math.abs(value) < 2 ** 63),
  ...FLOATS,
  ...TEXTS,
  null,
  true,
  false,
  [],
  {},
  [[[1]], { a: { b: [null] } }],
  Array.from({ length: 16 }, (_, i) => i),
  Array.from({ length: 70_000 }, () => 1),
  Object.fromEntries(Array.from({ length: 20 }, (_, i) => [`key ${i}`, i])),
  { "": "empty", constructor: "c" },
  LOOKS_BINARY,
  Buffer.alloc(0),
  Buffer.from([0, 255]),
  Buffer.alloc(300, 1),
  Buffer.alloc(70_000, 2),
  { deep: [{ bytes: Buffer.from("here") }, Buffer.from("there")] },
];

for (const mode of Object.keys(MODES)) {
  test(`${mode}: values come back, in the official bytes`, async (t) => {
    const socket = await connect(t, mode);
    const bytes = [];
    socket.io.engine.on("packet", ({ type, data }) => {
      if (type === "message") bytes.push(Buffer.from(data));
    });
    for (const value of VALUES) {
      const echoed = next(socket, "echo");
      socket.emit("echo", value);
      const [came] = await echoed;
      assert.deepEqual(came, value);
      const expected = encode({ type: 2, data: ["echo", value], nsp: "/" });
      assert.ok(bytes.pop().equals(expected), `other bytes for ${String(value).slice(0, 40)}`);
    }
  });

  test(`${mode}: what JSON does not have`, async (t) => {
    const socket = await connect(t, mode);
    const date = new Date("2026-11-25T10:20:30.456Z");
    const values = [Number.NaN, Number.NEGATIVE_INFINITY, [undefined, 1], date, { gone: undefined }];
    const here = [null, null, [null, 1], date.toISOString(), {}];
    assert.deepEqual(await askAll(socket, "echo", ...values), KIND === "node" ? values : here);
    // A typed array is an ext of the parser's own.
    const [back] = await askAll(socket, "echo", new Uint8Array([1, 2, 3]));
    assert.deepEqual(new Uint8Array(back), new Uint8Array([1, 2, 3]));
  });

  test(`${mode}: acknowledgements, both ways, with binary data`, async (t) => {
    const socket = await connect(t, mode);
    assert.deepEqual(await askAll(socket, "echo"), []);
    const values = VALUES.filter((value) => value !== LOOKS_BINARY);
    assert.deepEqual(await askAll(socket, "echo", ...values), values);
    const bytes = Buffer.from("bytes");
    assert.deepEqual(await askAll(socket, "echo", bytes, { bytes }), [bytes, { bytes }]);
    socket.on("question", (data, ack) => ack({ data }, data));
    assert.deepEqual(await askAll(socket, "ask", "question", bytes), [{ data: bytes }, bytes]);
    assert.deepEqual(await askAll(socket, "ask-timeout", 50, "nothing"), ["timeout"]);
  });

  test(`${mode}: namespaces, and those who are refused`, async (t) => {
    const root = await connect(t, mode);
    const chat = await connectBeside(t, root, "/chat");
    assert.equal((await ask(chat, "whoami")).namespace, "/chat");
    assert.equal((await refusal(root.io.socket("/unknown"))).message, "Invalid namespace");
    const auth = { token: "no" };
    const refused = official.client(t, server, mode, { parser, namespace: "/admin", auth });
    const error = await refusal(refused);
    assert.equal(error.message, "not authorized");
    assert.deepEqual(error.data, { code: "E_TOKEN", given: "no" });
    const admin = await connectBeside(t, root, "/admin", { token: "letmein", list: [1, 2.5] });
    assert.deepEqual((await ask(admin, "whoami")).auth, { token: "letmein", list: [1, 2.5] });
    chat.disconnect();
    const gone = next(admin, "disconnect");
    admin.emit("disconnect-me", false);
    assert.deepEqual((await gone)[0], "io server disconnect");
    assert.equal(await ask(root, "echo", "still"), "still");
  });

  test(`${mode}: a broadcast reaches all, in order`, async (t) => {
    const room = `msgpack ${mode}`;
    const sockets = await Promise.all([1, 2, 3].map(() => connect(t, mode)));
    for (const socket of sockets) await ask(socket, "join", room);
    const inboxes = sockets.map((socket) => collect(socket, "news"));
    const bytes = Buffer.from("news");
    for (let i = 0; i < 20; i += 1) {
      sockets[0].emit("broadcast", { from: "server", to: room, event: "news" }, i, bytes);
    }
    for (const inbox of inboxes) {
      for (let i = 0; i < 20; i += 1) assert.deepEqual(await inbox.next(), [i, bytes]);
    }
  });
}

test("bytes that are no packet close the connection, and no other", async (t) => {
  const witness = await connect(t, "websocket");
  const packets = [
    Buffer.alloc(0),
    Buffer.from([0xc1]),
    Buffer.from([0xdf, 0xff, 0xff, 0xff, 0xff]),
    Buffer.alloc(100_000, 0x91),
    Buffer.concat([encode({ type: 2, data: ["echo"], nsp: "/" }), Buffer.from([0])]),
    encode({ type: 5, data: [], nsp: "/" }),
    encode({ type: 2, data: ["echo"] }),
    encode({ type: 2, data: "echo", nsp: "/" }),
    encode({ type: 2, data: ["echo"], nsp: "/", id: "1" }),
    encode({ type: 4, data: { message: "a server's" }, nsp: "/" }),
    encode({ type: 2, data: ["disconnecting"], nsp: "/" }),
  ];
  for (const packet of KIND === "node" ? packets.slice(1, -2) : packets) {
    const peer = await Peer.handshake(t, server);
    peer.send(encode({ type: 0, nsp: "/" }));
    await peer.receive();
    peer.send(packet);
    await peer.closeCode();
  }
  assert.equal(await ask(witness, "echo", "still here"), "still here");
});
