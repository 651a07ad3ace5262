// Raw Engine.IO 4: the upgrade from polling to WebSocket, finished, failed, doubled and abandoned.
// FEATURES A7, H 16, 18-22.

import assert from "node:assert/strict";
import { test } from "node:test";
import { event, Polling } from "../lib/polling.mjs";
import { serverFor, useServer } from "../lib/server.mjs";
import { elapsed, until, within } from "../lib/wait.mjs";
import { frame, OPCODE, Peer, Tcp } from "../lib/websocket.mjs";

const server = await useServer();

test("A7 a whole upgrade: probe, answer, upgrade, and WebSocket carries the session", async (t) => {
  const session = await Polling.connect(t, server);
  const peer = await probe(t, server, session);
  peer.send("5");
  peer.send(event("echo", "over WebSocket"));
  assert.equal(await peer.receive(), event("echo", "over WebSocket"));

  // Polling is over for this session.
  const { status, body } = await session.get();
  assert.equal(status, 400);
  assert.equal(JSON.parse(body).code, 3);
  assert.equal((await session.post(event("echo"))).status, 400);
  await peer.roundTrip();
});

test("H16 what was emitted in the upgrade window arrives once and in order", async (t) => {
  const session = await Polling.connect(t, server);
  const peer = await probe(t, server, session);
  const packets = Array.from({ length: 50 }, (_, i) => event("echo", i));
  // The answers find no GET; they wait for whatever comes first, a GET or the WebSocket.
  await session.post(...packets);
  peer.send("5");
  peer.send(event("echo", "last"));
  for (const packet of packets) assert.equal(await peer.receive(), packet);
  assert.equal(await peer.receive(), event("echo", "last"));
});

test("H16 binary emitted in the upgrade window keeps its place", async (t) => {
  const session = await Polling.connect(t, server);
  const peer = await probe(t, server, session);
  const header = '451-["echo",{"_placeholder":true,"num":0}]';
  await session.post(event("echo", "a"), header, "bAQI=", event("echo", "b"));
  peer.send("5");
  assert.equal(await peer.receive(), event("echo", "a"));
  assert.equal(await peer.receive(), header);
  assert.deepEqual(await peer.receive(), Buffer.from([1, 2]));
  assert.equal(await peer.receive(), event("echo", "b"));
});

test("a probe that waits for nothing: all of its frames come with the request", async (t) => {
  const session = await Polling.connect(t, server);
  const tcp = await Tcp.open(t, server);
  const texts = ["2probe", "5", event("echo", "behind")];
  const frames = texts.map((text) => frame(OPCODE.text, text));
  frames.splice(1, 0, frame(OPCODE.ping, "while probing"));
  frames.push(frame(OPCODE.ping, "upgraded"));
  tcp.upgrade({ query: { sid: session.sid }, behind: Buffer.concat(frames) });
  const answers = ["3probe", "while probing", event("echo", "behind"), "upgraded"];
  for (const answer of answers) await tcp.until(answer);
  assert(tcp.text.indexOf("3probe") < tcp.text.indexOf(answers[2]), "the probe's answer is first");
});

test("pings are answered while probing", async (t) => {
  const session = await Polling.connect(t, server);
  const peer = await probe(t, server, session);
  const pong = new Promise((resolve) => peer.ws.once("pong", (data) => resolve(String(data))));
  peer.ws.ping("are you there");
  assert.equal(await within("a pong", pong), "are you there");
  peer.send("5");
  await peer.roundTrip();
});

test("H16 (send callbacks), H17 (writeBuffer)", { skip: "absent: Node's engine API" }, () => {});

test("H18 while probing, a parked GET is released, and new GETs may come", async (t) => {
  const session = await Polling.connect(t, server);
  const parked = session.startGet();
  const peer = await probe(t, server, session);
  const released = await within("the parked GET", parked.answer);
  assert.deepEqual([released.status, released.body], [200, "6"]);

  for (let i = 0; i < 3; i += 1) {
    await session.post(event("echo", i));
    assert.equal(await session.receive(), event("echo", i));
  }
  peer.send("5");
  await peer.roundTrip();
});

test("H18 an idle GET during the probe is released, too", async (t) => {
  const session = await Polling.connect(t, server);
  await probe(t, server, session);
  for (let i = 0; i < 2; i += 1) {
    const { status, packets } = await within("the GET", session.get());
    assert.deepEqual([status, packets], [200, ["6"]]);
  }
});

for (const [what, packet] of [
  ["a message", event("echo", "too early")],
  ["another probe", "2something"],
  ["a ping without data", "2"],
  ["garbage", "x"],
  ["a close packet", "1"],
  ["binary", Buffer.from([1, 2, 3])],
]) {
  test(`H19 ${what} instead of the probe leaves the polling session alive`, async (t) => {
    const session = await Polling.connect(t, server);
    const peer = await Peer.open(t, server, { sid: session.sid });
    peer.send(packet);
    await peer.closeCode();
    await lives(session);
    // And it may try again.
    const again = await probe(t, server, session);
    again.send("5");
    await again.roundTrip();
  });
}

test("H19 a bad packet behind a good probe leaves the polling session alive", async (t) => {
  const session = await Polling.connect(t, server);
  const peer = await probe(t, server, session);
  peer.send(event("echo", "too early"));
  await peer.closeCode();
  await lives(session);
});

test("H19 upgradeTimeout closes the probe, the polling session lives", async (t) => {
  const own = await serverFor(t, { upgradeTimeout: 300 });
  for (const sendsProbe of [false, true]) {
    const began = Date.now();
    const session = await Polling.connect(t, own);
    const peer = await Peer.open(t, own, { sid: session.sid });
    if (sendsProbe) peer.send("2probe");
    await peer.closeCode();
    assert(Date.now() - began >= 300);
    await lives(session);
    // Another may be in time; a slow machine tries more than one.
    await until("an upgrade in time", async () => {
      const began = Date.now();
      const isUpgraded = await upgrade(t, own, session).then(() => true, () => false);
      assert(isUpgraded || Date.now() - began >= 300, "who is in time is upgraded");
      return isUpgraded;
    });
  }
});

test("H19 a frame that breaks the WebSocket protocol ends the probe only", async (t) => {
  const session = await Polling.connect(t, server);
  const tcp = await Tcp.open(t, server);
  // An unmasked text frame.
  tcp.upgrade({ query: { sid: session.sid }, behind: Buffer.from([0x81, 0x01, 0x32]) });
  await tcp.end();
  await lives(session);
});

test("H20 a second upgrade is refused without harming the first", async (t) => {
  const session = await Polling.connect(t, server);
  const first = await probe(t, server, session);
  await endsClosed(t, session);
  first.send("5");
  await first.roundTrip();
});

test("H20 an upgrade after the upgrade is refused without harming the session", async (t) => {
  const session = await Polling.connect(t, server);
  const first = await probe(t, server, session);
  first.send("5");
  await first.roundTrip();
  await endsClosed(t, session);
  await first.roundTrip();
});

test("H20 an upgrade of a session that began with WebSocket is refused", async (t) => {
  const peer = await Peer.connect(t, server);
  // Node takes such a probe as an upgrade to another WebSocket; nobody may lose anything by it.
  const second = new Peer(server, { sid: peer.sid });
  t.after(() => second.ws.terminate());
  await within("an outcome", Promise.race([second.opened, second.closed]));
  second.ws.terminate();
  await peer.roundTrip();
});

test("H20 ten upgrades at once: one wins, the session lives", async (t) => {
  const session = await Polling.connect(t, server, { mark: "H20 ten" });
  const peers = Array.from({ length: 10 }, () => new Peer(server, { sid: session.sid }));
  t.after(() => peers.forEach((peer) => peer.ws.terminate()));
  const answers = await Promise.all(peers.map(async (peer) => {
    await peer.opened.catch(() => {});
    if (peer.ws.readyState === 1) peer.send("2probe");
    return peer.receive().catch(() => "closed");
  }));
  const won = peers.filter((_, i) => answers[i] === "3probe");
  assert.equal(won.length, 1, String(answers));
  won[0].send("5");
  await won[0].roundTrip();
});

test("H21 a session closed while probing closes the probe", async (t) => {
  const session = await Polling.connect(t, server, { mark: "H21" });
  const peer = await probe(t, server, session);
  await session.post("1");
  await peer.closeCode();
  assert.equal((await server.logged("H21", "disconnect")).reason, "transport close");
});

test("H21 a probe that goes away leaves a session that can flush and close", async (t) => {
  const session = await Polling.connect(t, server, { mark: "H21 gone" });
  const peer = await probe(t, server, session);
  await session.post(event("echo", "buffered"));
  peer.ws.terminate();
  assert.equal(await session.receive(), event("echo", "buffered"));
  await session.post("1");
  assert.equal((await server.logged("H21 gone", "disconnect")).reason, "transport close");
});

test("A7 an upgrade that finishes while the server is closing completes the close", async (t) => {
  const session = await Polling.connect(t, server, { mark: "closing" });
  const peer = await probe(t, server, session);
  await session.post(event("disconnect-me", true, "last words"));
  await server.logged("closing", "disconnect");
  peer.send("5");
  const received = [];
  await until("the WebSocket to be closed", async () => {
    const packet = await peer.receive().catch(() => undefined);
    if (packet !== undefined) received.push(packet);
    return packet === undefined;
  });
  assert.deepEqual(received.slice(0, 2), [event("bye", "last words"), "41"]);
});

test("H22 pings go on after the upgrade", async (t) => {
  const began = Date.now();
  const own = await serverFor(t, { pingInterval: 500, pingTimeout: 20_000 });
  const session = await Polling.connect(t, own);
  const peer = await probe(t, own, session);
  peer.send("5");
  for (let i = 0; i < 3; i += 1) {
    assert.equal(await peer.receive(), "2");
    peer.send("3");
  }
  assert(Date.now() - began >= 1_500);
});

test("H22 a pong still owed at the upgrade does not end the session", async (t) => {
  const pingTimeout = 6_000;
  const own = await serverFor(t, { pingInterval: 300, pingTimeout });
  const session = await Polling.connect(t, own, { mark: "H22" });
  assert.equal(await session.receive(), "2");
  const pinged = Date.now();
  const peer = await probe(t, own, session);
  peer.send("5");
  // A client that has upgraded answers whatever pings come now.
  peer.ws.on("message", (data) => data.toString() === "2" && peer.send("3"));
  await elapsed(2 * pingTimeout, pinged);
  await peer.roundTrip();
  assert.equal((await own.log("H22")).length, 1);
});

/** Opens the WebSocket of a session and probes it. */
async function probe(t, where, session) {
  const peer = await Peer.open(t, where, { sid: session.sid });
  peer.send("2probe");
  assert.equal(await peer.receive(), "3probe");
  return peer;
}

async function upgrade(t, where, session) {
  const peer = await probe(t, where, session);
  peer.send("5");
  await peer.roundTrip();
}

/** The session is served over polling. */
async function lives(session) {
  await session.post(event("echo", "alive"));
  assert.equal(await session.receive(), event("echo", "alive"));
}

/** Another WebSocket for the session is refused, or accepted and closed. */
async function endsClosed(t, session) {
  const peer = new Peer(server, { sid: session.sid });
  t.after(() => peer.ws.terminate());
  peer.opened.then(() => peer.send("2probe")).catch(() => {});
  await peer.closeCode();
}
