// Raw Engine.IO 3, where the option `allowEIO3` is on: payloads with lengths, as text and binary,
// pings that the client sends, typed binary messages. FEATURES A6 and H 24, 30.

import assert from "node:assert/strict";
import { test } from "node:test";
import { request } from "../lib/http.mjs";
import { KIND, useServer } from "../lib/server.mjs";
import { Peer } from "../lib/websocket.mjs";

const server = await useServer({ allowEIO3: true, pingInterval: 25_000 });

/** The packets of a textual payload. */
function split(body) {
  const packets = [];
  for (let at = 0; at < body.length; ) {
    const colon = body.indexOf(":", at);
    const length = Number(body.slice(at, colon));
    packets.push(body.slice(colon + 1, colon + 1 + length));
    at = colon + 1 + length;
  }
  return packets;
}

/** A textual payload. */
function join(...packets) {
  return packets.map((packet) => `${packet.length}:${packet}`).join("");
}

/** A piece of a binary payload. */
function piece(kind, data) {
  const bytes = Buffer.from(data);
  const digits = [...String(bytes.length)].map(Number);
  return Buffer.concat([Buffer.from([kind, ...digits, 255]), bytes]);
}

/** One session; what is in `/` already. */
class Session {
  static async open(query = {}) {
    const session = new Session();
    session.query = { EIO: "3", transport: "polling", ...query };
    const { body, headers } = await session.get();
    assert.equal(headers["content-type"], "text/plain; charset=UTF-8");
    const packets = split(body);
    assert.equal(packets[0][0], "0");
    session.query.sid = JSON.parse(packets[0].slice(1)).sid;
    assert.deepEqual(packets[1] ?? split((await session.get()).body)[0], "40");
    return session;
  }

  get() {
    return request(server, { query: this.query });
  }

  post(body, type = "text/plain;charset=UTF-8") {
    const headers = { "Content-Type": type };
    return request(server, { method: "POST", query: this.query, headers, body });
  }

  /** The packets of a GET's answer. */
  async packets() {
    const { status, body } = await this.get();
    assert.equal(status, 200);
    return split(body);
  }

  async isGone() {
    const { status, body } = await this.post("1:2");
    return status === 400 && JSON.parse(body || "{}").code === 1;
  }
}

test("A6 the client is in / at once, and pings are its own to send", async () => {
  const session = await Session.open();
  for (const payload of [join("2", "2ignored"), join("2")]) {
    assert.equal((await session.post(payload)).status, 200);
  }
  const pongs = [];
  while (pongs.length < 3) pongs.push(...(await session.packets()));
  assert.deepEqual(pongs, ["3", "3", "3"]);
});

test("H24 a pong in place of a ping ends the session", async () => {
  const session = await Session.open();
  assert.equal((await session.post(join("3"))).status, 200);
  assert(await session.isGone());
});

test("H30 lengths count UTF-16 units, both ways", async () => {
  const session = await Session.open();
  for (const text of ["é", "€", "😀", "a😀é€"]) {
    const packet = `42["echo","${text}"]`;
    assert.equal((await session.post(join(packet, packet))).status, 200);
    const packets = await session.packets();
    if (packets.length < 2) packets.push(...(await session.packets()));
    assert.deepEqual(packets, [packet, packet]);
  }
});

const BINARY = '451-["echo",{"_placeholder":true,"num":0}]';

test("A6 binary data comes in a binary payload, or in base64 with b64", async () => {
  const data = Buffer.from([0, 1, 254, 255]);
  const base64 = `b4${data.toString("base64")}`;
  for (const [query, expected, type] of [
    [{}, Buffer.concat([piece(0, BINARY), piece(1, [4, ...data])]), "application/octet-stream"],
    [{ b64: "1" }, Buffer.from(join(BINARY, base64)), "text/plain; charset=UTF-8"],
  ]) {
    const session = await Session.open(query);
    for (const [body, sent] of [
      [join(BINARY, base64), "text/plain;charset=UTF-8"],
      [Buffer.concat([piece(0, BINARY), piece(1, [4, ...data])]), "application/octet-stream"],
    ]) {
      assert.equal((await session.post(body, sent)).status, 200);
      const answer = await session.get();
      assert.equal(answer.headers["content-type"], type);
      assert.deepEqual(answer.bytes, expected);
    }
  }
});

test("A6 text in a binary payload is UTF-8, whose bytes are counted", async () => {
  const session = await Session.open();
  const event = '452-["echo",{"_placeholder":true,"num":0},"é😀",{"_placeholder":true,"num":1}]';
  const body = [piece(0, event), piece(1, [4]), piece(1, [4, ...Buffer.alloc(300, 9)])];
  assert.equal((await session.post(Buffer.concat(body), "application/octet-stream")).status, 200);
  assert.deepEqual((await session.get()).bytes, Buffer.concat(body));
});

test("A6 good packets before garbage are handled, then the session ends", async () => {
  for (const [garbage, type] of [
    ["nonsense", undefined],
    ["3:abc", undefined],
    ["99:4", undefined],
    [piece(0, "x"), "application/octet-stream"],
  ]) {
    const session = await Session.open();
    const good = type ? piece(0, "2") : join("2");
    const body = Buffer.concat([Buffer.from(good), Buffer.from(garbage)]);
    assert.equal((await session.post(body, type)).status, 200);
    assert(await session.isGone(), String(garbage));
  }
  const session = await Session.open();
  assert.equal((await session.post("")).status, 200);
  assert(await session.isGone());
});

test("malformed lengths, among them those of half characters, end their session only", async () => {
  const other = await Session.open();
  const texts = [
    ":", ":4", "4", "-1:4", "1.5:4", "1e9:4", "NaN:4", "99999999999999999999:4", "2:4",
    `${"9".repeat(5_000)}:4`, "1:😀", "1:1:1:1:",
    // To Node the one is a number, and the other a packet of half a character.
    ...(KIND === "sockeye" ? ["0x1:4", "2:4😀"] : []),
  ];
  for (const text of texts) {
    const session = await Session.open();
    assert.equal((await session.post(text)).status, 200, text.slice(0, 20));
    assert(await session.isGone(), text.slice(0, 20));
  }
  const digits = Array(400).fill(9);
  const binary = [[], [0], [0, 255], [0, 9, 9, 255, 52], [2, 1, 255, 52], [0, ...digits, 255, 52]];
  for (const bytes of binary) {
    const session = await Session.open();
    const { status } = await session.post(Buffer.from(bytes), "application/octet-stream");
    assert.equal(status, 200, String(bytes.slice(0, 9)));
    // Node goes on with the next packet, if there is one.
    if (KIND === "sockeye") assert(await session.isGone(), String(bytes.slice(0, 9)));
  }
  assert.equal((await other.post(join('42["echo","unharmed"]'))).status, 200);
  assert.deepEqual(await other.packets(), ['42["echo","unharmed"]']);
});

test("A6 over WebSocket a binary message begins with its type", async (t) => {
  const peer = await Peer.handshake(t, server, { EIO: "3" });
  assert.equal(await peer.receive(), "40");
  peer.send("2");
  assert.equal(await peer.receive(), "3");
  peer.send(BINARY);
  peer.send(Buffer.from([4, 1, 2, 3]));
  assert.equal(await peer.receive(), BINARY);
  assert.deepEqual(await peer.receive(), Buffer.from([4, 1, 2, 3]));
  peer.send(BINARY);
  peer.send("b4AQID");
  assert.equal(await peer.receive(), BINARY);
  assert.deepEqual(await peer.receive(), Buffer.from([4, 1, 2, 3]));
  peer.send("3");
  assert.equal(await peer.closeCode(), 1005);
});

test("A6 over WebSocket with b64 binary data is text", async (t) => {
  const peer = await Peer.handshake(t, server, { EIO: "3", b64: "1" });
  assert.equal(await peer.receive(), "40");
  peer.send(BINARY);
  peer.send(Buffer.from([4, 1, 2, 3]));
  assert.equal(await peer.receive(), BINARY);
  assert.equal(await peer.receive(), "b4AQID");
});

test("A6 an upgrade goes as ever, and the revision stays the session's", async (t) => {
  const session = await Session.open();
  const other = await request(server, { query: { ...session.query, EIO: "4" } });
  assert.equal(JSON.parse(other.body).code, 3);
  const peer = await Peer.open(t, server, { EIO: "3", sid: session.query.sid });
  peer.send("2probe");
  assert.equal(await peer.receive(), "3probe");
  const waiting = session.get();
  assert.deepEqual(split((await waiting).body), ["6"]);
  peer.send("5");
  peer.send('42["echo","upgraded"]');
  assert.equal(await peer.receive(), '42["echo","upgraded"]');
});

test("A6 a close packet answers the waiting GET, and ends the session", async () => {
  const session = await Session.open();
  const waiting = session.get();
  await session.post(join("1"));
  // A GET that is overtaken by the close finds no session any more.
  const { status, body } = await waiting;
  assert((status === 200 && body === "1:6") || status === 400, `${status} ${body}`);
  assert(await session.isGone());
});
