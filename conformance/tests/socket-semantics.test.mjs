// Raw Socket.IO 5: connection order, rooms and volatile where the official client cannot look.
// FEATURES B3-B5, H 43-50.

import assert from "node:assert/strict";
import { test } from "node:test";
import { event, Polling } from "../lib/polling.mjs";
import { serverFor, useServer } from "../lib/server.mjs";
import { elapsed, until, within } from "../lib/wait.mjs";
import { frame, OPCODE, Peer, Tcp } from "../lib/websocket.mjs";

const server = await useServer();

test("H43 join after disconnect leaves no room behind", async (t) => {
  const own = await serverFor(t);
  const peer = await Peer.connect(t, own);
  peer.send(event("disconnect-then-join", "late room"));
  assert.equal(await peer.receive(), "41");
  await until("no rooms", async () => (await own.stats()).rooms === 0);
  assert.equal((await own.stats()).sockets, 0);
});

test("H43 join in a middleware that then fails leaves no room behind", async (t) => {
  const own = await serverFor(t);
  const peer = await Peer.handshake(t, own);
  peer.send('40/slow,{"room":"waiting","delay":50,"refuse":"no"}');
  assert.equal(await peer.receive(), '44/slow,{"message":"no"}');
  const { rooms, sockets } = await own.stats();
  assert.deepEqual({ rooms, sockets }, { rooms: 0, sockets: 0 });
});

test("B3 join in a middleware that succeeds is kept", async (t) => {
  const peer = await Peer.handshake(t, server);
  const id = await peer.join("/slow", { room: "waiting", delay: 20 });
  peer.send('42/slow,1["rooms"]');
  assert.equal(await peer.receive(), `43/slow,1${JSON.stringify([[id, "waiting"].sort()])}`);
});

test("H44 a client gone during a middleware never connects and leaves no room", async (t) => {
  const own = await serverFor(t, { pingInterval: 60_000 });
  // It is gone long before the middleware has ended, on a slow machine too.
  const delay = 4_000;
  const auth = { mark: "H44", delay, room: "waiting" };
  const peer = await Peer.handshake(t, own);
  peer.send(`40/slow,${JSON.stringify(auth)}`);
  await own.logged("H44", "middleware");
  peer.ws.terminate();

  const session = await Polling.handshake(null, own);
  await session.post(`40/slow,${JSON.stringify(auth)}`);
  await session.close();
  await elapsed(2 * delay);
  await own.empty();
  const events = (await own.log("H44")).map((record) => record.event);
  assert(!events.includes("connection"), String(events));
});

test("H45 not connected in a middleware, and frames emitted there precede CONNECT", async (t) => {
  const peer = await Peer.handshake(t, server);
  peer.send('40/slow,{"mark":"H45","early":"bird","delay":20}');
  assert.equal(await peer.receive(), '42/slow,["early","bird"]');
  assert((await peer.receive()).startsWith('40/slow,{"sid":"'));
  assert.equal((await server.logged("H45", "middleware")).connected, false);
});

test("H46 the connection handler runs behind the CONNECT packet", async (t) => {
  const peer = await Peer.handshake(t, server);
  peer.send('40{"welcome":"hello"}');
  assert((await peer.receive()).startsWith('40{"sid":"'));
  assert.equal(await peer.receive(), event("welcome", "hello"));

  const session = await Polling.handshake(t, server);
  await session.post('40/chat,{"welcome":"hello"}');
  assert((await session.receive()).startsWith('40/chat,{"sid":"'));
  assert.equal(await session.receive(), '42/chat,["welcome","hello"]');
});

test("H47 a union reaches each socket once; except wins, with the own id as well", async (t) => {
  const [a, b] = [await Peer.connect(t, server), await Peer.connect(t, server)];
  await a.ask("join", ["47x", "47y"]);
  await b.ask("join", ["47x", "47y"]);
  const rooms = ["47x", "47y", b.id];
  await a.ask("broadcast", { from: "socket", to: rooms, event: "once" }, 1);
  await a.ask("broadcast", { from: "server", to: rooms, except: [b.id], event: "not b" });
  await a.ask("broadcast", { from: "server", to: rooms, except: ["47y"], event: "nobody" });
  assert.deepEqual(await a.heard(), [event("not b")]);
  assert.deepEqual(await b.heard(), [event("once", 1)]);
});

test("H48 operators are immutable and reusable", async (t) => {
  const [a, b] = [await Peer.connect(t, server), await Peer.connect(t, server)];
  await a.ask("join", "48 first");
  await b.ask("join", "48 second");
  await b.ask("operators", "48 first", "48 second");
  const wanted = ["both", "first", "first again"].map((value) => event("operators", value));
  assert.deepEqual(await a.heard(), wanted);
  assert.deepEqual(await b.heard(), [event("operators", "both")]);
});

test("H49 sockets that come and go during broadcasts miss nothing else up", async (t) => {
  const room = "49";
  const rounds = 300;
  const [speaker, ...others] = await Promise.all(
    Array.from({ length: 17 }, () => Peer.connect(t, server)),
  );
  const stable = others.slice(0, 8);
  const restless = others.slice(8);
  for (const peer of stable) await peer.ask("join", room);
  for (let i = 0; i < rounds; i += 1) {
    speaker.send(event("broadcast", { from: "server", to: [room], event: "n" }, i));
    for (const peer of restless) peer.send(event(i % 2 === 0 ? "join" : "leave", room));
    // A breath, so that the three streams really interleave on the server.
    if (i % 20 === 19) await speaker.roundTrip();
  }
  await speaker.roundTrip();
  const all = Array.from({ length: rounds }, (_, i) => event("n", i));
  for (const peer of stable) assert.deepEqual(await peer.heard(), all);
  for (const peer of restless) {
    const heard = (await peer.heard()).map((packet) => JSON.parse(packet.slice(2))[1]);
    const sorted = [...new Set(heard)].sort((x, y) => x - y);
    assert.deepEqual(heard, sorted, "in order and never twice");
  }
});

test("H50 volatile is dropped while no GET waits; normal emits behind it are not", async (t) => {
  const session = await Polling.connect(t, server);
  const speaker = await Peer.connect(t, server);
  const spec = { from: "server", to: [session.id] };
  await speaker.ask("broadcast", { ...spec, volatile: true, event: "dropped" }, 1);
  speaker.send(
    `451-${JSON.stringify([
      "broadcast",
      { ...spec, volatile: true, event: "dropped" },
      { _placeholder: true, num: 0 },
    ])}`,
    Buffer.from("bytes"),
  );
  await speaker.ask("broadcast", { ...spec, event: "kept" }, 2);
  assert.equal(await session.receive(), event("kept", 2));
});

test("H50 volatile with binary is delivered as a whole when a GET waits", async (t) => {
  const session = await Polling.connect(t, server);
  const speaker = await Peer.connect(t, server);
  const spec = { from: "server", to: [session.id], volatile: true, event: "whole" };
  const header = `451-${JSON.stringify(["broadcast", spec, { _placeholder: true, num: 0 }])}`;
  const parked = session.startGet();
  let answered = false;
  parked.answer.finally(() => (answered = true));
  // The first of them may still come before the GET.
  await until("the GET to be answered", () => {
    if (!answered) speaker.send(header, Buffer.from("bytes"));
    return answered;
  });
  const { body } = await within("the GET", parked.answer);
  const packets = body.split("\x1e");
  // Node spreads them over two GETs; what counts is that the attachment comes.
  if (packets.length === 1) packets.push(await session.receive());
  const whole = ['451-["whole",{"_placeholder":true,"num":0}]', "bYnl0ZXM="];
  assert.deepEqual(packets.slice(0, 2), whole);
});

test("H50 volatile is dropped for a peer that does not read, the rest follows", async (t) => {
  const count = 2_000;
  const tcp = await Tcp.open(t, server);
  tcp.upgrade();
  await tcp.until('"sid"');
  tcp.socket.write(frame(OPCODE.text, '40{"mark":"H50"}'));
  await tcp.until('40{"sid"');
  tcp.socket.pause();
  // 40 MB in all, far more than the kernel takes for a peer that does not read.
  tcp.socket.write(frame(OPCODE.text, event("volatile", count, "x".repeat(20_000))));
  tcp.socket.write(frame(OPCODE.text, event("record", "all emitted")));
  await server.logged("H50", "record");
  tcp.socket.resume();
  await tcp.until(event("volatile-end", count));
  const numbers = [...tcp.text.matchAll(/42\["volatile",(\d+),/g)].map(([, n]) => Number(n));
  assert(numbers.length > 0, "the first one found room");
  assert(numbers.length < count, "not all of them can have found room");
  assert.deepEqual(numbers, [...numbers].sort((a, b) => a - b));
  tcp.socket.write(frame(OPCODE.text, '427["echo","normal"]'));
  await tcp.until('437["normal"]');
});
