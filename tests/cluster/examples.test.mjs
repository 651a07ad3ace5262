// The examples of `sockeye-redis` as somebody would start them, by the official client.

import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { Cluster, SOCKEYE, connect, hears, until, within } from "./lib/cluster.mjs";

const example = (name) => join(dirname(SOCKEYE), name);

/** Two processes on one Redis, a client at each, both of which hear both. */
async function start(t) {
  const cluster = await Cluster.start(t, [], {});
  const env = { REDIS_URL: cluster.redis };
  const sockets = [];
  for (const _ of [1, 2]) {
    const node = await cluster.process(example("two-processes"), env);
    const socket = await connect(node);
    t.after(() => socket.disconnect());
    sockets.push(socket);
  }
  for (const socket of sockets) {
    await until("both to hear it", () => {
      socket.emit("say", "hello", socket.id);
      return sockets.every(({ inbox }) => inbox.some(([, , id]) => id === socket.id));
    });
  }
  for (const socket of sockets) {
    socket.emit("say", "the last", socket.id);
    for (const { inbox } of sockets) {
      await until("the last", () => inbox.some(([, word, id]) => word === "the last" && id === socket.id));
    }
  }
  for (const { inbox } of sockets) inbox.length = 0;
  return { cluster, env, sockets };
}

test("two processes: what a client of one says, those of both hear", async (t) => {
  const { sockets } = await start(t);
  const bytes = Buffer.from([1, 2]);
  for (const speaker of sockets) {
    speaker.emit("say", { from: speaker.id }, bytes);
    for (const socket of sockets) await hears(socket, ["said", { from: speaker.id }, bytes]);
  }
});

test("a script speaks to a room of both processes, and ends", async (t) => {
  const { cluster, env, sockets } = await start(t);
  for (const socket of sockets) await socket.emitWithAck("enter", "news");
  const outsider = await connect(cluster.nodes[1]);
  t.after(() => outsider.disconnect());
  const once = (...args) => cluster.run(example("emit-once"), args, env);
  assert.equal(await once("news", "headline", '{"weather":"rain"}'), 0);
  for (const socket of sockets) await hears(socket, ["headline", { weather: "rain" }]);
  sockets[0].emit("say", "end");
  await hears(outsider, ["said", "end"]);
  assert.notEqual(await once("news", "headline"), 0, "without data");
  assert.notEqual(await once("news", "connect", "1"), 0, "a reserved name");
});

test("a client goes on at the other process when the first one ends", async (t) => {
  const cluster = await Cluster.start(t, [], {});
  const env = { REDIS_URL: cluster.redis };
  const [going, staying] = [
    await cluster.process(example("restored-sessions"), env),
    await cluster.process(example("restored-sessions"), env),
  ];
  const [client, friend] = [await connect(going), await connect(staying)];
  t.after(() => [client, friend].forEach((socket) => socket.disconnect()));
  const { id } = client;
  await client.emitWithAck("enter", "garden");
  // A process hears the other a moment after it listens; without an offset nothing is restored.
  await until("the first to be heard", () => {
    friend.emit("say", "garden", "hello");
    return client.inbox.some(([, word]) => word === "hello");
  });
  const gone = new Promise((resolve) => client.once("disconnect", resolve));
  going.child.kill("SIGTERM");
  await gone;
  await friend.emitWithAck("say", "garden", "meanwhile");
  client.io.uri = staying.url;
  const back = new Promise((resolve) => client.once("connect", resolve));
  client.connect();
  await within("the client to be back", back);
  assert.deepEqual([client.recovered, client.id], [true, id]);
  await until("what it missed", () => client.inbox.some(([, word]) => word === "meanwhile"));
  friend.emit("say", "garden", "welcome");
  await until("what is said now", () => client.inbox.some(([, word]) => word === "welcome"));
});
