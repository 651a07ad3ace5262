// HARDENING.md: hostile Socket.IO packets. In each test a second, well-behaved client is served
// throughout.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Witness } from "../lib/client.mjs";
import { event, Polling } from "../lib/polling.mjs";
import { serverFor, useServer } from "../lib/server.mjs";
import { inParallel, until, within } from "../lib/wait.mjs";
import { Peer } from "../lib/websocket.mjs";

const LIMIT = 1_000_000;
const server = await useServer({ connectTimeout: 6_000 });
const PLACEHOLDER = '{"_placeholder":true,"num":0}';

test("CVE-2026-33151: a huge number of attachments is refused at its declaration", async (t) => {
  const witness = await Witness.of(t, server);
  for (const count of ["11", "1000", "451000000", "9".repeat(300)]) {
    await closedBy(t, `45${count}-["silence",${PLACEHOLDER}]`);
    await closedBy(t, `46${count}-1[${PLACEHOLDER}]`);
  }
  await witness.check();
});

test("CVE-2023-32695: event names that are no strings, or reserved", async (t) => {
  const witness = await Witness.of(t, server);
  const names = ["{}", '{"toString":1}', '{"length":1e9}', "[]", "null", "true", '"newListener"'];
  for (const name of [...names, '"removeListener"', '"disconnecting"']) {
    await closedBy(t, `42[${name},1]`);
    await closedBy(t, `451-[${name},${PLACEHOLDER}]`);
  }
  await witness.check();
});

test("CVE-2022-2421: placeholder numbers that are no numbers or out of range", async (t) => {
  const witness = await Witness.of(t, server);
  const numbers = ['"splice"', '"length"', '"__proto__"', "-1", "1", "4294967296", "{}", "null"];
  for (const num of numbers) {
    const packet = `451-["silence",{"_placeholder":true,"num":${num}}]`;
    await closedBy(t, packet, Buffer.from("x"));
  }
  await witness.check();
});

test("CVE-2024-38355: an error event, raw binary, CONNECT_ERROR", async (t) => {
  const witness = await Witness.of(t, server);
  const peer = await Peer.connect(t, server);
  peer.send(event("error", "unhandled"), event("error"));
  await peer.roundTrip();
  await closedBy(t, Buffer.from("raw"));
  await closedBy(t, '44{"message":"from a client"}');
  for (const packet of [Buffer.from("raw"), '44{"message":"x"}', "44", "4"]) {
    const unjoined = await Peer.handshake(t, server);
    unjoined.send(packet);
    await unjoined.closeCode();
  }
  await witness.check();
});

test("CVE-2020-36049: packets that are expensive to parse", async (t) => {
  const witness = await Witness.of(t, server);
  const room = LIMIT - 100;
  const costly = [
    "4".repeat(room),
    `42${"1".repeat(room)}`,
    `42${"1".repeat(room - 20)}["silence"]`,
    `42/${"a".repeat(room)}`,
    `42/${"a".repeat(room - 20)},["silence"]`,
    `40/${"a".repeat(room)}`,
    `45${"1".repeat(room)}-["silence"]`,
    `42[${"0".repeat(room)}]`,
    `42["silence",${"1".repeat(room - 20)}]`,
    `42["silence",1e${"9".repeat(room - 20)}]`,
    `42["silence","${"\\u0000".repeat(room / 7)}"]`,
    `42["silence",[${"0,".repeat(room / 2 - 20)}0]]`,
    `42["silence",{${'"a":0,'.repeat(room / 6 - 20)}"a":0}]`,
    `42["silence",${" ".repeat(room - 20)}]`,
  ];
  for (const packet of costly) {
    const peer = await Peer.connect(t, server);
    peer.send(packet);
    await settled(peer);
  }
  await witness.check();
});

test("CVE-2020-36048: a payload of a million packets", async (t) => {
  const witness = await Witness.of(t, server);
  const noops = "6\x1e".repeat(LIMIT / 2 - 1) + "6";
  for (const body of [noops, "\x1e".repeat(LIMIT), "b\x1e".repeat(1_000)]) {
    const session = await Polling.connect(t, server);
    const answer = await within("an answer", session.startPost(body).answer);
    assert(answer.status < 500, `${answer.status}`);
  }
  await witness.check();
});

test("deeply nested JSON in events, acks, CONNECT and binary events", async (t) => {
  const witness = await Witness.of(t, server);
  for (const depth of [1_000, 100_000, 400_000]) {
    const lists = "[".repeat(depth) + "]".repeat(depth);
    const half = Math.floor(depth / 3);
    const objects = '{"":'.repeat(half) + "1" + "}".repeat(half);
    for (const nest of [lists, objects, "[".repeat(2 * depth)]) {
      const packets = [`42["silence",${nest}]`, `421["echo",${nest}]`, `431[${nest}]`, `42${nest}`];
      for (const packet of packets) {
        const peer = await Peer.connect(t, server);
        peer.send(packet);
        await settled(peer);
      }
      const binary = await Peer.connect(t, server);
      binary.send(`451-["silence",${PLACEHOLDER},${nest}]`, Buffer.from("x"));
      await settled(binary);
      const unjoined = await Peer.handshake(t, server);
      unjoined.send(`40{"nest":${nest}}`);
      await settled(unjoined, (packet) => packet.startsWith("40"));
    }
  }
  await witness.check();
});

test("lone surrogates, as escapes and as bytes", async (t) => {
  const witness = await Witness.of(t, server);
  const peer = await Peer.connect(t, server);
  peer.send('421["echo","\\ud800","\\udc00\\ud800"]');
  // Untouched arguments keep the escapes.
  assert.equal(await peer.receive(), '431["\\ud800","\\udc00\\ud800"]');
  const others = ['42["\\ud800",1]', '422["join","\\ud800"]', '42["silence",{"\\ud800":1}]'];
  for (const packet of others) {
    const other = await Peer.connect(t, server);
    other.send(packet);
    await settled(other);
  }

  const bytes = Buffer.concat([
    Buffer.from('42["silence","'),
    Buffer.from([0xed, 0xa0, 0x80]),
    Buffer.from('"]'),
  ]);
  const broken = await Peer.connect(t, server);
  broken.ws.send(bytes, { binary: false });
  assert.equal(await broken.closeCode(), 1007);
  const session = await Polling.connect(t, server);
  const answer = await within("an answer", session.startPost(bytes).answer);
  assert(answer.status < 500, `${answer.status}`);
  await witness.check();
});

test("unsolicited, duplicate and impossible acks", async (t) => {
  const witness = await Witness.of(t, server);
  const peer = await Peer.connect(t, server);
  for (let id = 0; id < 1_000; id += 1) peer.send(`43${id}[]`);
  peer.send("4318446744073709551615[1]", "439007199254740993[1]", "439007199254740991[1]");
  peer.send("461-5[{\"_placeholder\":true,\"num\":0}]", Buffer.from("x"));
  peer.send('42777["ask","question"]');
  // The number of the question is the server's choice.
  const question = await until("the question", async () => {
    return /^42(\d+)\["question"\]$/.exec(await peer.receive());
  });
  peer.send(`43${question[1]}["first"]`, `43${question[1]}["second"]`);
  assert.equal(await peer.receive(), '43777["first"]');
  assert.deepEqual(await peer.heard(), []);
  await witness.check();
});

test("CONNECT never sent: connectTimeout closes the connection", async (t) => {
  const own = await serverFor(t, { connectTimeout: 5_000 });
  const witness = await Witness.of(t, own);
  const began = Date.now();
  const silent = await Peer.handshake(t, own);
  // A refused CONNECT joins no namespace either.
  const refused = await Peer.handshake(t, own);
  refused.send("40/nowhere,");
  const session = await Polling.handshake(t, own);
  await Promise.all([silent.closeCode(), refused.closeCode()]);
  assert(Date.now() - began >= 5_000);
  await until("the polling session to be closed", async () => {
    const { status, packets } = await session.get();
    return status === 400 || packets.includes("1");
  });
  await until("only the witness to be left", async () => (await own.stats()).sessions === 1);
  await witness.check();
});

test("a flood of namespaces is refused one by one or ended", async (t) => {
  const witness = await Witness.of(t, server);
  const peer = await Peer.handshake(t, server);
  const count = 5_000;
  for (let i = 0; i < count; i += 1) peer.send(`40/flood${i},`);
  await until("every answer, or the end", () => peer.unread === count || peer.ws.readyState === 3);
  await witness.check();
});

test("joining and leaving a namespace again and again", async (t) => {
  const own = await serverFor(t);
  const peer = await Peer.connect(t, own);
  for (let i = 0; i < 300; i += 1) {
    await peer.join("/chat");
    peer.send("41/chat,");
    await peer.roundTrip();
  }
  await until("one socket to be left", async () => (await own.stats()).sockets === 1);
  peer.ws.terminate();
  await own.empty();
});

test("a flood of rooms is kept or refused, and gone with its socket", async (t) => {
  const own = await serverFor(t);
  const witness = await Witness.of(t, own);
  const peer = await Peer.connect(t, own);
  for (let i = 0; i < 100; i += 1) {
    if (peer.ws.readyState !== 1) break;
    const rooms = Array.from({ length: 100 }, (_, j) => `flood ${i} ${j}`);
    peer.send(event("join", rooms));
  }
  await settled(peer);
  peer.ws.terminate();
  // The witness and its own-id room stay.
  await until("the rooms to be gone", async () => (await own.stats()).rooms === 1);
  await witness.check();
});

test("a flood of events", async (t) => {
  const witness = await Witness.of(t, server);
  await inParallel(4, 4, async () => {
    const peer = await Peer.connect(t, server);
    for (let i = 0; i < 10_000; i += 1) peer.send('42["silence",{"some":"payload"}]');
    await settled(peer);
  });
  await witness.check();
});

test("failing handlers in a row", async (t) => {
  const witness = await Witness.of(t, server);
  const peer = await Peer.connect(t, server);
  for (let i = 0; i < 200; i += 1) peer.send(event("throw", `on purpose ${i}`));
  // Arguments of other types than a handler expects are the handler's failure as well.
  for (const name of ["ask", "ask-timeout", "stream", "join", "whoami", "data-get"]) {
    peer.send(event(name), event(name, null), event(name, { a: 1 }, [2]), event(name, 1, 2, 3));
  }
  await peer.roundTrip();
  await witness.check();
});

/** The packets close a connection that had joined. */
async function closedBy(t, ...packets) {
  const peer = await Peer.connect(t, server);
  peer.send(...packets);
  const what = packets.map((packet) => String(packet).slice(0, 80)).join(" then ");
  await peer.closeCode().catch((error) => assert.fail(`${what}: ${error.message}`));
}

/** Whatever the server does with a hostile packet: it goes on serving this peer, or closes it. */
async function settled(peer, isAnswer = (packet) => packet.startsWith("43")) {
  if (peer.ws.readyState === 1) peer.send('42999["echo"]');
  const outcome = async () => {
    for (;;) if (isAnswer(String(await peer.receive()))) return;
  };
  const answer = outcome().catch(() => peer.closed);
  await within("an answer or the end", Promise.race([answer, peer.closed]));
  peer.ws.terminate();
}
