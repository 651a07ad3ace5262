// Raw Socket.IO 5 packets: what is accepted, what is fatal. FEATURES B3, B6, H 36-42.

import assert from "node:assert/strict";
import { test } from "node:test";
import { event, Polling } from "../lib/polling.mjs";
import { sockeyeOnly, useServer } from "../lib/server.mjs";
import { until } from "../lib/wait.mjs";
import { Peer } from "../lib/websocket.mjs";

const server = await useServer();
const PLACEHOLDER = '{"_placeholder":true,"num":0}';
let marks = 0;

test("H36 a second CONNECT to the same namespace is fatal", async (t) => {
  await fatal(t, "40");
  await fatal(t, "40{}");
  await fatal(t, "40/,{}");
});

const TWICE = "Node admits both: the first socket is orphaned when the second takes its place";

test("H36 two CONNECT back to back are fatal, too", sockeyeOnly(TWICE), async (t) => {
  const session = await Polling.handshake(t, server);
  await session.post("40", "40");
  await until("the close", async () => {
    const { status, packets } = await session.get();
    return status === 400 || packets.includes("1");
  });
});

test("H36 packets before any CONNECT are fatal", async (t) => {
  for (const packet of [event("echo"), "431[]", "41", '44{"message":"x"}']) {
    const peer = await Peer.handshake(t, server);
    peer.send(packet);
    await peer.closeCode();
  }
});

test("H36 packets for a namespace that was not joined are fatal", async (t) => {
  for (const packet of ['42/chat,["echo"]', "43/chat,1[]", "41/chat,", '42/nowhere,["echo"]']) {
    await fatal(t, packet);
  }
});

test("H36 CONNECT_ERROR from a client is fatal", async (t) => {
  await fatal(t, '44{"message":"x"}');
  await fatal(t, '44"x"');
  await fatal(t, '44/chat,{"message":"x"}');
});

test("B3 a CONNECT payload that is not an object is fatal", async (t) => {
  for (const payload of ["[]", '"x"', "null", "true", "{bad", '{"a":1}x']) {
    const peer = await Peer.handshake(t, server);
    peer.send(`40${payload}`);
    await peer.closeCode();
  }
});

test("B3 a refused CONNECT leaves the connection, which may connect again", async (t) => {
  const peer = await Peer.handshake(t, server);
  peer.send("40/nowhere,");
  assert.equal(await peer.receive(), '44/nowhere,{"message":"Invalid namespace"}');
  peer.send("40/admin,{}");
  const reply = await peer.receive();
  assert(reply.startsWith("44/admin,"));
  assert.deepEqual(JSON.parse(reply.slice(9)), {
    message: "not authorized",
    data: { code: "E_TOKEN", given: null },
  });
  peer.send('40/admin,{"token":"letmein","plain":true}');
  assert.equal(await peer.receive(), '44/admin,{"message":"plain refusal"}');
  await peer.join("/admin", { token: "letmein" });
  await peer.join("/");
  await peer.roundTrip();
});

test("B3 a namespace may be left and joined again", async (t) => {
  const peer = await Peer.connect(t, server);
  const first = await peer.join("/chat", { mark: "again" });
  peer.send("41/chat,");
  await server.logged("again", "disconnect");
  assert.notEqual(await peer.join("/chat"), first);
  await peer.roundTrip();
});

const RACE = "Node handles the DISCONNECT a tick later and takes the CONNECT for a second one";

test("B3 DISCONNECT and CONNECT back to back join anew", sockeyeOnly(RACE), async (t) => {
  const session = await Polling.connect(t, server);
  await session.post("40/chat,");
  const first = await session.receive();
  await session.post("41/chat,", "40/chat,");
  const second = await session.receive();
  assert(second.startsWith('40/chat,{"sid":"') && second !== first, second);
  await session.post(event("echo"));
  assert.equal(await session.receive(), event("echo"));
});

test("B6 the layout's freedoms", async (t) => {
  const peer = await Peer.handshake(t, server);
  // The comma may be missing at the end of a packet.
  peer.send("40/chat");
  assert((await peer.receive()).startsWith('40/chat,{"sid":"'));
  peer.send('42/chat,17["echo",1]');
  assert.equal(await peer.receive(), "43/chat,17[1]");
  peer.send("41/chat");
  // The main namespace may be named.
  peer.send("40/,");
  assert((await peer.receive()).startsWith('40{"sid":"'));
  peer.send('42/,18["echo",2]');
  assert.equal(await peer.receive(), "4318[2]");
  peer.send('420["echo",3]');
  assert.equal(await peer.receive(), "430[3]");
  peer.send('42 ["echo",4]', '42["echo" , 5 ]');
});

test("H37 reserved event names from the wire are fatal", async (t) => {
  const names = ["connect", "connect_error", "disconnect", "disconnecting"];
  for (const name of [...names, "newListener", "removeListener"]) {
    await fatal(t, event(name));
    await fatal(t, `421${JSON.stringify([name, 1])}`);
  }
});

test("H37 names that look reserved are not", async (t) => {
  const peer = await Peer.connect(t, server);
  for (const name of ["connection", "error", "ping", "message", "Connect", "", "toString"]) {
    peer.send(event(name, 1));
  }
  await peer.roundTrip();
});

test("H37 numeric event names are allowed", async (t) => {
  const peer = await Peer.connect(t, server);
  peer.send('42[7,"number"]', '42["7","string"]', "42[-1.5e3]");
  assert.equal(await peer.receive(), event("seven", "number"));
  assert.equal(await peer.receive(), event("seven", "string"));
  await peer.roundTrip();
});

test("H37 an event without a name is fatal", async (t) => {
  for (const payload of ["[]", "[{}]", "[null]", "[true]", '[["echo"]]', "{}", '"echo"', "null"]) {
    await fatal(t, `42${payload}`);
  }
});

test("H38 42 without JSON is tolerated", async (t) => {
  const peer = await Peer.connect(t, server);
  peer.send("42");
  await peer.roundTrip();
});

test("H38 broken packets are fatal", async (t) => {
  const packets = ['421.5["echo"]', '42["echo"', '42["echo"]x', "42[echo]", '42-1["echo"]'];
  for (const packet of [...packets, "4", "47", "4x", "49[]", "4é"]) await fatal(t, packet);
});

test("H38 acks and disconnects have the right payload or none", async (t) => {
  for (const packet of ["431{}", '431"x"', "431null", "431[", "41{}", "41[]", "41x"]) {
    await fatal(t, packet);
  }
});

test("H39 a packet declares from one to ten attachments", async (t) => {
  for (const type of ["45", "46"]) {
    for (const count of ["0", "11", "451000000", "-1", "1.5", "", "abc", "1e1x", "١"]) {
      await fatal(t, `${type}${count}-["echo",${PLACEHOLDER}]`);
    }
    await fatal(t, `${type}1["echo",${PLACEHOLDER}]`);
    await fatal(t, `${type}1`);
  }
});

test("H39 ten attachments pass", async (t) => {
  const peer = await Peer.connect(t, server);
  const list = Array.from({ length: 10 }, (_, num) => ({ _placeholder: true, num }));
  const header = `4510-["echo",${JSON.stringify(list)}]`;
  peer.send(header, ...list.map(({ num }) => Buffer.from([num])));
  assert.equal(await peer.receive(), header);
  for (const { num } of list) assert.deepEqual(await peer.receive(), Buffer.from([num]));
});

test("H39 placeholders may come in any order and place", async (t) => {
  const peer = await Peer.connect(t, server);
  const list = '[{"num":0,"_placeholder":true}]';
  const swapped = `452-["echo",{"b":{"_placeholder":true,"num":1},"a":${list}}]`;
  peer.send(swapped, Buffer.from("first"), Buffer.from("second"));
  // The server numbers them anew, in the order of the document.
  const answer = await peer.receive();
  const parts = [await peer.receive(), await peer.receive()];
  const [, value] = JSON.parse(answer.slice(answer.indexOf("[")));
  assert.equal(parts[value.b.num].toString(), "second");
  assert.equal(parts[value.a[0].num].toString(), "first");
});

test("H39 placeholder numbers that name no attachment are fatal", async (t) => {
  for (const num of ['"0"', "-1", "1", "1e9", "null", "{}", "[]", '"__proto__"']) {
    const packet = `451-["echo",{"_placeholder":true,"num":${num}}]`;
    await fatal(t, packet, Buffer.from("x"));
  }
  await fatal(t, '451-["echo",{"_placeholder":true}]', Buffer.from("x"));
});

const amplifies = "Node hands the same buffer out as often as it is named";
test("an attachment that two placeholders name is fatal", sockeyeOnly(amplifies), async (t) => {
  await fatal(t, `451-["echo",${PLACEHOLDER},[${PLACEHOLDER}]]`, Buffer.from("x"));
});

test("H39 text among attachments is fatal", async (t) => {
  await fatal(t, `452-["echo",${PLACEHOLDER}]`, Buffer.from("x"), event("echo"));
  await fatal(t, `451-["echo",${PLACEHOLDER}]`, `451-["echo",${PLACEHOLDER}]`);
});

test("H39 binary without a header is fatal", async (t) => {
  await fatal(t, Buffer.from("stray"));
  await fatal(t, "bc3RyYXk=");
  await fatal(t, Buffer.alloc(0));
  await fatal(t, `451-["silence",${PLACEHOLDER}]`, Buffer.from("its own"), Buffer.from("stray"));
});

test("H39 a reserved or missing name is fatal in binary events as well", async (t) => {
  await fatal(t, `451-["connect",${PLACEHOLDER}]`);
  await fatal(t, `451-[${PLACEHOLDER}]`);
  await fatal(t, "451-{}");
});

test("H40 half a binary packet ends with its connection", async (t) => {
  const first = await Peer.connect(t, server, { mark: "half" });
  first.send(`452-["echo",${PLACEHOLDER}]`, Buffer.from("one of two"));
  first.ws.terminate();
  await server.logged("half", "disconnect");
  const second = await Peer.connect(t, server);
  await second.roundTrip();
});

test("H41 the same value emitted twice is the same twice", async (t) => {
  const peer = await Peer.connect(t, server);
  const header = `451-["twice",{"deep":[${PLACEHOLDER}],"text":"x"}]`;
  peer.send(header, Buffer.from("bytes"));
  for (let i = 0; i < 2; i += 1) {
    assert.equal(await peer.receive(), header);
    assert.deepEqual(await peer.receive(), Buffer.from("bytes"));
  }
});

test("H42 packets behind a disconnect in the same payload are ignored", async (t) => {
  const session = await Polling.connect(t, server, { mark: "H42" });
  const late = [event("echo", "late"), event("record", "late"), '421["echo"]', "431[]"];
  await session.post(event("disconnect-me", false, "bye"), ...late);
  assert.equal(await session.receive(), event("bye", "bye"));
  assert.equal(await session.receive(), "41");
  const events = (await server.log("H42")).map((record) => record.event);
  assert.deepEqual(events, ["connection", "disconnecting", "disconnect"]);

  // The connection is still good for a new socket, and nothing late was answered.
  await session.post("40");
  assert.match(await session.receive(), /^40\{"sid":"/);
});

/** The packets close a connection that was healthy until then, with the official reason. */
async function fatal(t, ...packets) {
  const mark = `fatal ${(marks += 1)}`;
  const peer = await Peer.connect(t, server, { mark });
  peer.send(...packets);
  const what = packets.map(String).join(" then ");
  await peer.closeCode().catch((error) => assert.fail(`${what}: ${error.message}`));
  const { reason } = await server.logged(mark, "disconnect");
  assert.equal(reason, "forced close", what);
}
