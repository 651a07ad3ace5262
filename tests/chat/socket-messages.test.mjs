// Messages: who gets them, in which order, and what is kept.

import assert from "node:assert/strict";
import { before, test } from "node:test";

import { Client } from "./lib/client.mjs";
import { Server, wholeFile } from "./lib/server.mjs";

const file = wholeFile();
let server;
before(async () => {
  server = await Server.start(file, { flags: ["--messages-per-second", "1000"] });
});

for (const transport of ["websocket", "polling"]) {
  test(`a message over ${transport} reaches the whole room, its sender included, and is acknowledged with its id`, async (t) => {
    const room = `talk over ${transport}`;
    const options = { transports: [transport] };
    const [ann, ben] = [
      await Client.join(t, server, "ann", room, options),
      await Client.join(t, server, "ben", room, options),
    ];
    const outsider = await Client.join(t, server, "olaf", "elsewhere", options);
    const before = Date.now();
    const ack = await ann.ask("chat:message", { room, text: "hello" });
    const heard = await ann.next("chat:message");
    assert.deepEqual(ack, { status: "ok", id: heard.id });
    assert.deepEqual(heard, {
      id: heard.id,
      username: "ann",
      text: "hello",
      room,
      timestamp: heard.timestamp,
    });
    assert.match(heard.id, /^\d+$/);
    assert.ok(
      heard.timestamp >= before && heard.timestamp <= Date.now(),
      "milliseconds since 1970",
    );
    assert.deepEqual(await ben.next("chat:message"), heard);
    await outsider.caughtUp();
    assert.deepEqual(outsider.all("chat:message"), []);
    const late = await Client.connect(t, server, "lea", options);
    assert.deepEqual((await late.joins(room)).history, [heard]);
  });
}

test("a message arrives on the client's own transport, whichever the others have", async (t) => {
  const everyone = [];
  for (const transports of [["polling"], ["websocket"], ["polling", "websocket"]]) {
    everyone.push(
      await Client.join(t, server, `user of ${transports.join(" and ")}`, "mixed", { transports }),
    );
  }
  for (const one of everyone) await one.says("mixed", `from ${one.username}`);
  const texts = everyone.map((one) => `from ${one.username}`);
  for (const one of everyone) {
    await one.until(() => one.all("chat:message").length === texts.length);
    assert.deepEqual(
      one.all("chat:message").map((message) => message.text),
      texts,
    );
  }
});

test("all see one order, which is that of the ids and of the history", async (t) => {
  const everyone = await Promise.all(
    ["ann", "ben", "carl", "dora"].map((name) => Client.join(t, server, name, "busy")),
  );
  const acks = await Promise.all(
    everyone.flatMap((one) =>
      Array.from({ length: 25 }, (_, i) => one.says("busy", `${one.username} ${i}`)),
    ),
  );
  assert.equal(new Set(acks).size, 100);
  const orders = [];
  for (const one of everyone) {
    await one.until(() => one.all("chat:message").length === 100);
    orders.push(one.all("chat:message").map((message) => Number(message.id)));
  }
  for (const order of orders) assert.deepEqual(order, orders[0]);
  assert.deepEqual(
    orders[0],
    [...orders[0]].sort((a, b) => a - b),
  );
  assert.deepEqual(
    [...acks].map(Number).sort((a, b) => a - b),
    orders[0],
  );
  // What one client sends keeps its order.
  for (const one of everyone) {
    const own = one
      .all("chat:message", (message) => message.username === one.username)
      .map((message) => message.text);
    assert.deepEqual(
      own,
      Array.from({ length: 25 }, (_, i) => `${one.username} ${i}`),
    );
  }
  const { history } = await everyone[0].joins("busy");
  assert.deepEqual(
    history.map((message) => Number(message.id)),
    orders[0].slice(-50),
  );
});

test("the history is the last 50 messages of the room, oldest first", async (t) => {
  const ann = await Client.join(t, server, "ann", ["long", "other"]);
  for (let i = 0; i < 60; i += 1) {
    await ann.says("long", `message ${i}`);
    if (i % 10 === 0) await ann.says("other", `other ${i}`);
  }
  const ben = await Client.connect(t, server, "ben");
  const { history } = await ben.joins("long");
  assert.deepEqual(
    history.map((message) => message.text),
    Array.from({ length: 50 }, (_, i) => `message ${i + 10}`),
  );
  assert.deepEqual(
    (await ben.joins("other")).history.map((message) => message.text),
    ["other 0", "other 10", "other 20", "other 30", "other 40", "other 50"],
  );
});

test("--history-messages says how many", async (t) => {
  const short = await Server.start(t, { flags: ["--history-messages", "2"] });
  const ann = await Client.join(t, short, "ann", "room");
  for (const text of ["one", "two", "three"]) await ann.says("room", text);
  assert.deepEqual(
    (await ann.joins("room")).history.map((message) => message.text),
    ["two", "three"],
  );
});

test("a text comes out as it went in", async (t) => {
  const [ann, ben] = [
    await Client.join(t, server, "ann", "text"),
    await Client.join(t, server, "ben", "text"),
  ];
  const texts = [
    "<img src=x onerror=alert(1)>",
    "line\nline\ttab",
    "  spaces  ",
    "日本語 🐟 é",
    "\u0000\u0007",
    "\u202egnirts",
    '"\\/',
    "$& ${x} %s",
  ];
  for (const text of texts) {
    await ann.says("text", text);
    assert.equal((await ben.next("chat:message")).text, text);
  }
  assert.deepEqual(
    (await ben.joins("text")).history.map((message) => message.text),
    texts,
  );
});

test("the same key is the same message: stored once, told once, acknowledged again", async (t) => {
  const [ann, ben] = [
    await Client.join(t, server, "ann", "keys"),
    await Client.join(t, server, "ben", "keys"),
  ];
  const again = await Client.join(t, server, "ann", "keys");
  const id = await ann.says("keys", "hello", { key: "k1" });
  assert.equal(await ann.says("keys", "hello", { key: "k1" }), id);
  assert.equal(await again.says("keys", "hello", { key: "k1" }), id, "from another connection too");
  const two = await Promise.all([
    ann.says("keys", "twice", { key: "k2" }),
    again.says("keys", "twice", { key: "k2" }),
  ]);
  assert.equal(two[0], two[1]);
  assert.notEqual(
    await ben.says("keys", "hello", { key: "k1" }),
    id,
    "another's key is another key",
  );
  await ben.caughtUp();
  const wanted = [
    ["ann", "hello"],
    ["ann", "twice"],
    ["ben", "hello"],
  ];
  assert.deepEqual(
    ben.all("chat:message").map((message) => [message.username, message.text]),
    wanted,
  );
  await server.restart();
  const back = await Client.join(t, server, "ann", "keys");
  assert.equal(await back.says("keys", "hello", { key: "k1" }), id, "after a crash too");
  assert.deepEqual(
    (await back.joins("keys")).history.map((message) => [message.username, message.text]),
    wanted,
  );
});

test("what is missing an ack is done all the same", async (t) => {
  const [ann, ben] = [
    await Client.connect(t, server, "ann"),
    await Client.join(t, server, "ben", "no acks"),
  ];
  ann.socket.emit("chat:join", "no acks");
  assert.deepEqual(await ben.next("chat:userJoined"), { username: "ann", room: "no acks" });
  assert.deepEqual((await ann.next("chat:history")).messages, []);
  ann.socket.emit("chat:message", { room: "no acks", text: "hello" });
  assert.equal((await ben.next("chat:message")).text, "hello");
  ann.socket.emit("chat:message", { room: "no acks", text: "" });
  ann.socket.emit("chat:leave", "no acks");
  assert.deepEqual(await ben.next("chat:userLeft"), { username: "ann", room: "no acks" });
});
