// Node's servers and ours in one cluster: every operation, in both directions, over each adapter.
// With CLUSTER_KINDS=node,node the same is asked of Node alone, which proves the test.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Emitter } from "@socket.io/redis-emitter";
import { createClient } from "redis";
import { act, Cluster, connect, hears, hearsAll, until } from "./lib/cluster.mjs";

const KINDS = (process.env.CLUSTER_KINDS ?? "node,sockeye").split(",");
const ADAPTERS = {
  classic: { adapter: "classic" },
  "classic, ioredis, own response channels": { adapter: "classic", specific: true, client: "ioredis" },
  static: { adapter: "static" },
  dynamic: { adapter: "dynamic" },
  "dynamic-private": { adapter: "dynamic-private" },
  streams: { adapter: "streams" },
  "Redis Cluster: classic": { adapter: "classic", redisCluster: true },
  "Redis Cluster: classic, ioredis": { adapter: "classic", client: "ioredis", redisCluster: true },
  "Redis Cluster: static": { adapter: "static", redisCluster: true },
  "Redis Cluster: dynamic": { adapter: "dynamic", redisCluster: true },
  "Redis Cluster: streams": { adapter: "streams", redisCluster: true },
};
const VALUES = [
  0, 127, 128, 255, 256, 65_535, 65_536, 2 ** 31, 2 ** 32, 2 ** 40, Number.MAX_SAFE_INTEGER,
  -1, -32, -33, -128, -129, -32_769, -(2 ** 31) - 1, 0.5, -0.1, 1e-7, null, true, false, "", [], {},
  "\u0000é😀\u2028", "x".repeat(70_000), [[[1]], { a: { b: [null] } }],
];

for (const [title, options] of Object.entries(ADAPTERS)) {
  test(`${title}: both ways`, async (t) => {
    const cluster = await Cluster.start(t, KINDS, options);
    const [one, other] = cluster.nodes;
    for (const [actor, far] of [[one, other], [other, one]]) {
      const name = `${actor.name} acts`;
      const isOrdered = keepsOrder(options, actor);
      await t.test(`${name}: broadcasts`, (t) => broadcasts(t, actor, far, isOrdered));
      await t.test(`${name}: values and binary data`, (t) => values(t, actor, far));
      await t.test(`${name}: acknowledgements`, (t) => acknowledgements(t, actor, far));
      await t.test(`${name}: remote sockets`, (t) => remoteSockets(t, actor, far));
      await t.test(`${name}: servers`, () => servers(actor, far));
    }
    if (options.adapter === "classic") {
      await t.test("Node's emitter is heard by all", (t) => emitter(t, cluster));
    }
    if (["classic", "streams"].includes(options.adapter) && other.kind === "sockeye") {
      await t.test("our emitter is heard by all", (t) => ourEmitter(t, one, other, options));
    }
  });
}

/** In a Redis Cluster what has its own channel may overtake, as each goes through its own node. Where it need not, we do not. */
function keepsOrder({ adapter, redisCluster }, actor) {
  if (!redisCluster || ["static", "streams"].includes(adapter)) return true;
  return adapter === "classic" && actor.kind === "sockeye";
}

async function clients(t, actor, far, auth, namespace) {
  const both = [await connect(actor, auth, namespace), await connect(far, auth, namespace)];
  t.after(() => both.forEach((socket) => socket.disconnect()));
  return both;
}

/** A room's channel may be subscribed to a moment after the room is there. */
async function reachable(actor, socket, to, namespace) {
  await until(`${to} to be reached`, async () => {
    await act(actor, { what: "emit", to: [to], event: "reach", namespace });
    return socket.inbox.length > 0;
  });
  // Whatever else was on its way is before these, the one or the other.
  await act(actor, { what: "emit", event: "reached", namespace });
  await act(actor, { what: "emit", to: [to], event: "reached", namespace });
  await until("the last", () => {
    return socket.inbox.filter(([event]) => event === "reached").length === 2;
  });
  socket.inbox.length = 0;
}

async function broadcasts(t, actor, far, isOrdered) {
  const room = "a#b 1";
  const [near, remote] = await clients(t, actor, far, { rooms: [room, "both"] });
  const [, outside] = await clients(t, actor, far);
  const [, elsewhere] = await clients(t, actor, far, {}, "/other");
  for (const to of [room, "both", remote.id]) await reachable(actor, remote, to);
  const emit = (more, ...args) => act(actor, { what: "emit", ...more }, ...args);
  await emit({ event: "start" });
  await emit({ event: "start", namespace: "/other" });
  for (const { inbox } of [near, remote, outside, elsewhere]) {
    await until("all to hear the start", () => inbox.some(([event]) => event === "start"));
    inbox.length = 0;
  }
  await emit({ event: "all" }, 1);
  await emit({ event: "room", to: [room] }, 2);
  await emit({ event: "once", to: [room, "both", "nobody's"] }, 3);
  await emit({ event: "id", to: [remote.id] });
  await emit({ event: "but the room", except: ["both"] });
  await emit({ event: "but one", to: [room], except: [remote.id] });
  await emit({ event: "unknown", to: ["nobody's"] });
  await emit({ event: "local", to: [room], local: true });
  await emit({ event: "namespace", namespace: "/other" });
  for (let i = 0; i < 200; i += 1) await emit({ event: "n", to: i % 2 ? [room] : [] }, i);
  await emit({ event: "end" });

  const numbers = [...Array(200).keys()].map((i) => ["n", i]);
  const forRoom = [["all", 1], ["room", 2], ["once", 3], ["id"], ...numbers, ["end"]];
  const even = numbers.filter(([, i]) => i % 2 === 0);
  await hearsAll(remote, forRoom, isOrdered);
  await hearsAll(outside, [["all", 1], ["but the room"], ...even, ["end"]], isOrdered);
  await hearsAll(elsewhere, [["namespace"]], isOrdered);
  await until("the near one to hear the end", () => near.inbox.some(([event]) => event === "end"));
  const events = near.inbox.map(([event]) => event);
  assert(events.includes("local") && events.includes("but one"));
  // It is dropped where the transport is busy that instant.
  await until("a volatile event to arrive", async () => {
    await emit({ event: "volatile", to: [room], volatile: true });
    return remote.inbox.some(([event]) => event === "volatile");
  });
}

async function values(t, actor, far) {
  const [, remote] = await clients(t, actor, far, { rooms: ["values"] });
  await reachable(actor, remote, "values");
  const bytes = Buffer.from([0, 1, 255]);
  for (const to of [[], ["values"], [remote.id]]) {
    await act(actor, { what: "emit", event: "values", to }, ...VALUES);
    await hears(remote, ["values", ...VALUES]);
    const args = [bytes, { deep: [bytes, Buffer.alloc(0)] }, Buffer.alloc(100_000, 7)];
    await act(actor, { what: "emit", event: "binary", to }, ...args);
    await hears(remote, ["binary", ...args]);
  }
}

async function acknowledgements(t, actor, far) {
  const [near, remote] = await clients(t, actor, far, { rooms: ["asked"] });
  const ask = (more, ...args) => act(actor, { what: "ask", to: ["asked"], ...more }, ...args);
  const bytes = Buffer.from("bytes");
  const both = await ask({ event: "both" }, 1, bytes);
  assert.equal(both.whole, true);
  const ids = both.answers.map(({ from }) => from).sort();
  assert.deepEqual(ids, [near.id, remote.id].sort());
  for (const { args } of both.answers) assert.equal(args[0], 1);
  const none = await ask({ event: "nobody", to: ["nobody's"] });
  assert.deepEqual(none, { answers: [], whole: true });
  const partial = await ask({ event: "silent", timeout: 300 });
  assert.deepEqual(partial, { answers: [], whole: false });
}

async function remoteSockets(t, actor, far) {
  const data = { user: "ann", list: [1, { a: null }] };
  const auth = { rooms: ["group"], data };
  const [near, remote] = await clients(t, actor, far, auth);
  const fetched = await act(actor, { what: "fetch", to: ["group"] });
  const expected = [near, remote].map(({ id }) => ({
    id,
    rooms: ["group", id].sort(),
    data,
    auth,
    query: "tag",
  }));
  const byId = (a, b) => (a.id < b.id ? -1 : 1);
  assert.deepEqual(fetched.sort(byId), expected.sort(byId));
  const others = await act(actor, { what: "fetch", to: ["group"], except: [near.id] });
  assert.deepEqual(others.map(({ id }) => id), [remote.id]);

  const roomsOf = async () => (await act(far, { what: "fetch", to: [remote.id], local: true }))[0].rooms;
  await act(actor, { what: "join", to: [remote.id], rooms: ["x", "y"] });
  await until("it to have joined", async () => (await roomsOf()).includes("y"));
  await act(actor, { what: "leave", to: ["x"], rooms: ["x"] });
  await until("it to have left", async () => !(await roomsOf()).includes("x"));
  const gone = new Promise((resolve) => remote.once("disconnect", resolve));
  await act(actor, { what: "disconnect", to: ["y"], close: false });
  assert.equal(await gone, "io server disconnect");
  const closed = new Promise((resolve) => near.once("disconnect", resolve));
  await act(far, { what: "disconnect", to: [near.id], close: true });
  assert.match(await closed, /io server disconnect|transport close/);
}

async function servers(actor, far) {
  const before = (await act(actor, { what: "heard" })).length;
  const args = [1, { b: ["c", null] }];
  await act(actor, { what: "hello" }, ...args, actor.name);
  await until("the other server to hear", async () => {
    const heard = await act(far, { what: "heard" });
    return heard.some((list) => list.at(-1) === actor.name);
  });
  const heard = await act(far, { what: "heard" });
  assert.deepEqual(heard.at(-1), [...args, actor.name]);
  assert.equal((await act(actor, { what: "heard" })).length, before, "not by itself");
  const answers = await act(actor, { what: "who" }, { question: 1 });
  const expected = [{ name: far.name, asked: { question: 1 } }];
  assert.deepEqual(answers, { answers: expected, whole: true });
}

async function ourEmitter(t, one, other, { adapter }) {
  const sockets = await clients(t, one, other, { rooms: ["room"] });
  const bytes = Buffer.from([1, 2]);
  await act(other, { what: "emitter", event: "all" }, 1, { bytes });
  await act(other, { what: "emitter", event: "room", to: ["room"], except: [sockets[1].id] });
  await act(other, { what: "emitter", event: "end" });
  for (const socket of sockets) await hears(socket, ["all", 1, { bytes }]);
  await hears(sockets[0], ["room"]);
  for (const socket of sockets) await hears(socket, ["end"]);

  const emit = (event, more, ...args) => act(other, { what: "emitter", event, ...more }, ...args);
  const members = async (room) => (await act(one, { what: "fetch", to: [room] })).length;
  await emit("(join)", { to: ["room"], rooms: ["joined", "joined too"] });
  await until("both to have joined", async () => (await members("joined too")) === 2);
  await emit("(leave)", { to: [sockets[0].id], rooms: ["joined"] });
  await until("one to have left", async () => (await members("joined")) === 1);
  if (adapter === "classic") {
    await emit("(server side)", {}, "from our emitter");
    for (const node of [one, other]) {
      await until("servers to hear", async () => {
        return (await act(node, { what: "heard" })).some(([word]) => word === "from our emitter");
      });
    }
  }
  await emit("(disconnect)", { to: ["room"] });
  for (const socket of sockets) await until("it to be gone", () => !socket.connected);
}

async function emitter(t, cluster) {
  const redis = createClient({ url: cluster.oneRedis });
  await redis.connect();
  t.after(() => redis.close());
  const emitter = new Emitter(redis);
  const sockets = [];
  for (const node of cluster.nodes) sockets.push(await connect(node, { rooms: ["room"] }));
  t.after(() => sockets.forEach((socket) => socket.disconnect()));
  const bytes = Buffer.from([1, 2]);
  emitter.emit("all", 1, bytes);
  emitter.to("room").except("nobody's").emit("room", { a: 1 });
  emitter.to(["room", "nobody's"]).compress(false).emit("once");
  emitter.in("room").socketsJoin("joined");
  emitter.in("room").socketsJoin("left");
  emitter.in("joined").socketsLeave("left");
  for (const socket of sockets) {
    await hears(socket, ["all", 1, bytes]);
    await hears(socket, ["room", { a: 1 }]);
    await hears(socket, ["once"]);
  }
  await until("both to have joined", async () => {
    return (await act(cluster.nodes[0], { what: "fetch", to: ["joined"] })).length === 2;
  });
  await until("both to have left", async () => {
    return (await act(cluster.nodes[0], { what: "fetch", to: ["left"] })).length === 0;
  });
  emitter.serverSideEmit("hello", "from an emitter");
  for (const node of cluster.nodes) {
    await until("servers to hear", async () => {
      return (await act(node, { what: "heard" })).some(([word]) => word === "from an emitter");
    });
  }
  emitter.in("joined").disconnectSockets();
  for (const socket of sockets) await until("it to be gone", () => !socket.connected);
}

test("what the test sees is the bus's doing: without one Redis between them nothing is heard", async (t) => {
  const apart = [];
  for (const kind of KINDS) apart.push(await Cluster.start(t, [kind], { adapter: "classic" }));
  const [one, other] = apart.map(({ nodes }) => nodes[0]);
  const [near, remote] = await clients(t, one, other, { rooms: ["room"] });
  await act(one, { what: "emit", event: "lost", to: ["room"] });
  await hears(near, ["lost"]);
  await act(other, { what: "emit", event: "mark" });
  await hears(remote, ["mark"]);
  assert.equal((await act(one, { what: "fetch" })).length, 2, "the control client and the near one");
});
