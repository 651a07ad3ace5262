// HARDENING.md: hostile WebSocket frames and peers that do not read. In each test a second,
// well-behaved client is served throughout.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Witness } from "../lib/client.mjs";
import { event, Polling } from "../lib/polling.mjs";
import { serverFor, sockeyeOnly, useServer } from "../lib/server.mjs";
import { until } from "../lib/wait.mjs";
import { frame, OPCODE, Peer, Tcp } from "../lib/websocket.mjs";

const server = await useServer();
const UNBOUNDED = "Node buffers without bound for a peer that does not read";

test("ws CVE-2026-48779: a flood of empty and of one-byte fragments", async (t) => {
  const own = await serverFor(t);
  const witness = await Witness.of(t, own);
  for (const byte of ["", "x"]) {
    const tcp = await joined(t, own);
    tcp.socket.write(frame(OPCODE.text, "4", { fin: false }));
    // More than either server's limit on the number of fragments (131,072 and 16,384).
    const flood = Buffer.concat(Array(10_000).fill(frame(0, byte, { fin: false })));
    for (let i = 0; i < 15 && !tcp.ended; i += 1) {
      await Promise.race([tcp.gone, new Promise((resolve) => tcp.socket.write(flood, resolve))]);
    }
    await tcp.end();
  }
  await until("only the witness to be left", async () => (await own.stats()).sessions === 1);
  await witness.check();
});

test("ws CVE-2016-10542: a huge frame is refused by its header", async (t) => {
  const witness = await Witness.of(t, server);
  const lengths = [1_000_001n, 1n << 32n, (1n << 53n) - 1n, 1n << 53n, (1n << 63n) - 1n];
  for (const length of lengths) {
    for (const opcode of [OPCODE.text, OPCODE.binary]) {
      const tcp = await joined(t, server);
      const header = Buffer.alloc(14);
      header[0] = 0x80 | opcode;
      header[1] = 0x80 | 127;
      header.writeBigUInt64BE(length, 2);
      tcp.socket.write(header);
      await tcp.end();
      assert.equal(closeCodeIn(tcp), 1009, `length ${length}`);
    }
  }
  await witness.check();
});

test("ws CVE-2016-10518: pongs and close frames return what came, no other memory", async (t) => {
  const witness = await Witness.of(t, server);
  const peer = await Peer.connect(t, server);
  for (const size of [0, 1, 4, 124, 125]) {
    const payload = Buffer.alloc(size, size + 65);
    const pong = new Promise((resolve) => peer.ws.once("pong", resolve));
    peer.ws.ping(payload);
    assert.deepEqual(await pong, payload);
  }
  peer.ws.close(4000, "é reason");
  const { code, reason } = await peer.closed;
  assert.equal(code, 4000);
  assert(["", "é reason"].includes(reason), reason);
  await witness.check();
});

test("RFC 6455: what breaks the framing is closed with the right code", async (t) => {
  const witness = await Witness.of(t, server);
  const close = (...bytes) => frame(OPCODE.close, Buffer.from(bytes));
  const cases = [
    ["RSV1 without compression", frame(OPCODE.text, "3", { rsv: 4 }), 1002],
    ["RSV2", frame(OPCODE.text, "3", { rsv: 2 }), 1002],
    ["RSV3", frame(OPCODE.text, "3", { rsv: 1 }), 1002],
    ["RSV1 on a ping", frame(OPCODE.ping, "", { rsv: 4 }), 1002],
    ["a reserved opcode", frame(3, "3"), 1002],
    ["a reserved control opcode", frame(11, ""), 1002],
    ["a continuation of nothing", frame(OPCODE.continuation, "3"), 1002],
    ["a fragmented ping", frame(OPCODE.ping, "", { fin: false }), 1002],
    ["a ping of 126 bytes", frame(OPCODE.ping, "x".repeat(126)), 1002],
    ["an unmasked frame", Buffer.from([0x81, 0x01, 0x33]), 1002],
    ["a close of one byte", close(3), 1002],
    ["close code 1005", close(0x03, 0xed), 1002],
    ["close code 999", close(0x03, 0xe7), 1002],
    ["close code 2000", close(0x07, 0xd0), 1002],
    ["text that is not UTF-8", frame(OPCODE.text, Buffer.from([0x34, 0xff])), 1007],
    ["an overlong encoding", frame(OPCODE.text, Buffer.from([0x34, 0xc0, 0xaf])), 1007],
    ["a close reason that is not UTF-8", close(0x03, 0xe8, 0xff), 1007],
  ];
  for (const [what, bytes, code] of cases) {
    const tcp = await joined(t, server);
    tcp.socket.write(bytes);
    await tcp.end();
    assert.equal(closeCodeIn(tcp), code, what);
  }
  const interrupted = await joined(t, server);
  interrupted.socket.write(frame(OPCODE.text, "4", { fin: false }));
  interrupted.socket.write(frame(OPCODE.text, "3"));
  await interrupted.end();
  assert.equal(closeCodeIn(interrupted), 1002);
  await witness.check();
});

test("fragments, byte by byte, with pings between them, make one message", async (t) => {
  const tcp = await joined(t, server);
  const text = Buffer.from('4271["echo","é€😀"]');
  const frames = [...text].map((byte, i) => {
    const opcode = i === 0 ? OPCODE.text : OPCODE.continuation;
    return frame(opcode, [byte], { fin: i === text.length - 1 });
  });
  for (const one of frames) {
    for (const byte of one) tcp.socket.write(Buffer.from([byte]));
    tcp.socket.write(frame(OPCODE.ping, "p"));
  }
  await tcp.until(Buffer.from('4371["é€😀"]').toString("latin1"));
});

test("a ping flood with a slow reader", async (t) => {
  const own = await serverFor(t);
  const witness = await Witness.of(t, own);
  const tcp = await joined(t, own);
  await floodPings(tcp, 50_000);
  await witness.check();
  tcp.socket.destroy();
  await until("only the witness to be left", async () => (await own.stats()).sessions === 1);
  await witness.check();
});

test("a ping flood with a slow reader holds bounded memory", sockeyeOnly(UNBOUNDED), async (t) => {
  const own = await serverFor(t);
  const before = await own.residentBytes();
  const tcp = await joined(t, own);
  await floodPings(tcp, 500_000);
  const grown = (await own.residentBytes()) - before;
  assert(grown < 20_000_000, `63 MB of pongs owed, ${grown} bytes kept`);
});

test("a peer that never reads: others go on, and all is freed with it", async (t) => {
  const own = await serverFor(t);
  const witness = await Witness.of(t, own);
  const tcp = await joined(t, own);
  tcp.socket.pause();
  tcp.socket.write(frame(OPCODE.text, event("stream", "part", 2_000, 10_000)));
  for (let i = 0; i < 20; i += 1) await witness.check();

  // One that polls no more is the same thing.
  const session = await Polling.connect(null, own);
  await session.post(event("stream", "part", 500, 10_000));
  for (let i = 0; i < 20; i += 1) await witness.check();

  tcp.socket.destroy();
  await session.close();
  await until("only the witness to be left", async () => (await own.stats()).sessions === 1);
  await witness.check();
});

test("a peer that never reads is closed at a limit", sockeyeOnly(UNBOUNDED), async (t) => {
  const own = await serverFor(t, { pingInterval: 60_000 });
  const witness = await Witness.of(t, own);
  const tcp = await joined(t, own, "never reads");
  tcp.socket.pause();
  const before = await own.residentBytes();
  tcp.socket.write(frame(OPCODE.text, event("stream", "part", 20_000, 10_000)));
  await own.logged("never reads", "disconnect");
  const grown = (await own.residentBytes()) - before;
  assert(grown < 50_000_000, `200 MB emitted, ${grown} bytes kept`);
  await witness.check();
});

test("one receiver that never reads delays no broadcast", async (t) => {
  const own = await serverFor(t);
  const witness = await Witness.of(t, own);
  const tcp = await joined(t, own);
  tcp.socket.pause();
  const speaker = await Peer.connect(t, own);
  const text = "x".repeat(10_000);
  for (let i = 0; i < 500; i += 1) {
    speaker.send(event("broadcast", { from: "server", event: "news" }, i, text));
    // Those who read are given the time to, however slow the machine is.
    if (i % 50 === 49) await Promise.all([speaker.roundTrip(), witness.check()]);
  }
  assert.equal((await speaker.heard()).length, 500);
  await witness.check();
  tcp.socket.destroy();
});

test("one byte at a time, from the request line to an event", async (t) => {
  const witness = await Witness.of(t, server);
  const tcp = await Tcp.open(t, server);
  tcp.socket.setNoDelay(true);
  const head =
    "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n" +
    "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" +
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
  await drip(tcp, Buffer.from(head));
  await tcp.until("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
  await tcp.until('0{"sid"');
  await drip(tcp, frame(OPCODE.text, "40{}"));
  await tcp.until('40{"sid"');
  await drip(tcp, frame(OPCODE.text, '425["echo","slow"]'));
  await tcp.until('435["slow"]');
  await witness.check();
});

/** A WebSocket over bare TCP that has joined `/`. */
async function joined(t, where, mark) {
  const tcp = await Tcp.open(t, where);
  tcp.upgrade();
  await tcp.until('0{"sid"');
  tcp.socket.write(frame(OPCODE.text, `40${JSON.stringify({ mark })}`));
  await tcp.until('40{"sid"');
  return tcp;
}

/** Sends pings without reading pongs, until the server stops taking them or closes. */
async function floodPings(tcp, count) {
  tcp.socket.pause();
  const pings = Buffer.concat(Array(1_000).fill(frame(OPCODE.ping, "x".repeat(125))));
  for (let i = 0; i < count / 1_000 && !tcp.socket.destroyed; i += 1) {
    const taken = new Promise((resolve) => tcp.socket.write(pings, () => resolve(true)));
    const stuck = new Promise((resolve) => setTimeout(resolve, 2_000, false));
    // A server that reads no more while pongs are owed is doing well.
    if (!(await Promise.race([taken, stuck, tcp.gone]))) return;
  }
}

async function drip(tcp, bytes) {
  for (const byte of bytes) {
    await new Promise((resolve) => tcp.socket.write(Buffer.from([byte]), resolve));
  }
}

/** The code of the close frame that the server sent last, if it did. */
function closeCodeIn(tcp) {
  const at = tcp.received.lastIndexOf(0x88);
  const length = at < 0 ? 0 : tcp.received[at + 1];
  return length >= 2 ? tcp.received.readUInt16BE(at + 2) : undefined;
}
