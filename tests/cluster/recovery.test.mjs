// Clients that go on at another node of a cluster, Node's and ours, over the streams adapter: the
// official client, whose server's address changes between two connections.
// With CLUSTER_KINDS=node,node the same is asked of Node alone, which proves the test.

import assert from "node:assert/strict";
import { test } from "node:test";
import { createClient } from "redis";
import { act, Cluster, connect, hears, until } from "./lib/cluster.mjs";

const KINDS = (process.env.CLUSTER_KINDS ?? "node,sockeye").split(",");
const OPTIONS = { adapter: "streams", recovery: true };

for (const [first, second] of [KINDS, KINDS.toReversed(), [KINDS[1], KINDS[1]]]) {
  test(`from ${first} to ${second} and back`, async (t) => {
    const cluster = await Cluster.start(t, [first, second], OPTIONS);
    const [one, other] = cluster.nodes;
    const redis = await sessions(t, cluster);
    const data = { user: "ann", list: [1, { a: null }], key: Buffer.from([1, 2]) };
    const auth = { rooms: ["room", "other"], data };
    const client = await connect(one, auth);
    t.after(() => client.disconnect());
    const { id } = client;
    const pid = client._pid;
    assert.match(pid, /^[\w-]{20}$/);
    await act(one, { what: "direct", id, event: "first" }, 1);
    await hearsAll(client, [["first", 1]]);

    for (const [from, to] of [[one, other], [other, one]]) {
      await lose(client, redis);
      const before = client._lastOffset;
      assert.match(before, /^[0-9]+-[0-9]+$/);
      const bytes = Buffer.from([1, 2, 3]);
      for (const [event, more, ...args] of [
        ["all", {}, "é\u2028", { a: [bytes] }],
        ["room", { to: ["room"] }, bytes],
        ["not mine", { to: ["elsewhere"] }],
        ["except", { except: ["other"] }],
        ["own", { to: [id] }, null],
        ["once", { to: ["room", "other"] }, "text"],
      ]) {
        await act(to, { what: "emit", event, ...more }, ...args);
      }
      await take(client, to);
      assert.equal(client.recovered, true);
      assert.deepEqual([client.id, client._pid], [id, pid]);
      assert.equal(await redis.exists(key(client)), 0, "it has been consumed");
      await hearsAll(client, [
        ["all", "é\u2028", { a: [bytes] }],
        ["room", bytes],
        ["own", null],
        ["once", "text"],
      ]);
      const [fetched] = await act(from, { what: "fetch", to: [id] });
      assert.deepEqual(fetched.rooms, [id, "room", "other"].sort());
      assert.deepEqual({ ...fetched.data, key: null }, { ...data, key: null });
      await act(to, { what: "direct", id, event: "direct" }, 7);
      await hearsAll(client, [["direct", 7]]);
      await act(from, { what: "emit", to: ["room"], event: "remote" }, 8);
      await hearsAll(client, [["remote", 8]]);
    }
    // Nobody else is let in by its private id while it lives.
    const thief = await connect(other, { pid, offset: client._lastOffset });
    t.after(() => thief.disconnect());
    assert.notEqual(thief.id, id);
  });
}

const needsOurs = KINDS[1] === "sockeye" ? {} : { skip: "Node's own node just ends" };
test("a node that shuts down hands its clients over", needsOurs, async (t) => {
  const cluster = await Cluster.start(t, [KINDS[1], KINDS[0]], OPTIONS);
  const [going, staying] = cluster.nodes;
  const redis = await sessions(t, cluster);
  const client = await connect(going, { rooms: ["room"] });
  t.after(() => client.disconnect());
  await act(going, { what: "emit", event: "first" });
  await hearsAll(client, [["first"]]);
  const gone = new Promise((resolve) => client.once("disconnect", resolve));
  going.child.kill("SIGTERM");
  await gone;
  await until("the session to be kept", () => redis.exists(key(client)));
  await act(staying, { what: "emit", to: ["room"], event: "meanwhile" });
  await take(client, staying);
  assert.equal(client.recovered, true);
  await hearsAll(client, [["meanwhile"]]);
});

const KILLS = KINDS[1] === "sockeye" ? {} : { skip: "Node's servers lose these clients" };

for (const redisCluster of [false, true]) {
  const where = redisCluster ? "a Redis Cluster" : "Redis";
  test(`the clients of a node that is killed go on at others, over ${where}`, KILLS, async (t) => {
    const kinds = ["sockeye", "sockeye", "sockeye"];
    const cluster = await Cluster.start(t, kinds, { ...OPTIONS, redisCluster });
    const [killed, ...others] = cluster.nodes;
    const data = { user: "ann", list: [1, { a: null }] };
    const clients = [];
    for (let i = 0; i < 4; i += 1) {
      const client = await connect(killed, { rooms: ["room", `of ${i}`], data });
      t.after(() => client.disconnect());
      clients.push(client);
    }
    await act(killed, { what: "emit", event: "first" });
    for (const client of clients) await hearsAll(client, [["first"]]);
    await untilKept(cluster, clients, "room");
    const ids = clients.map((client) => client.id);
    await kill(killed, clients);
    await act(others[0], { what: "emit", to: ["room"], event: "meanwhile" }, Buffer.from([1]));
    // By the same node: the order of what two nodes say at once is the log's.
    await act(others[0], { what: "emit", to: ["of 2"], event: "to one" }, "text");
    await Promise.all(clients.map((client, i) => take(client, others[i % 2])));
    await act(others[0], { what: "emit", to: ["room"], event: "after" });
    for (const [i, client] of clients.entries()) {
      assert.deepEqual([client.recovered, client.id], [true, ids[i]]);
      await hearsAll(client, [["meanwhile", Buffer.from([1])]]);
      if (i === 2) await hearsAll(client, [["to one", "text"]]);
      await hearsAll(client, [["after"]]);
      const [fetched, ...more] = await act(others[0], { what: "fetch", to: [ids[i]] });
      assert.deepEqual(more, []);
      assert.deepEqual(fetched.rooms, [ids[i], "room", `of ${i}`].sort());
      assert.deepEqual(fetched.data, data);
    }
    // Killed once more, they go on once more.
    await untilKept(cluster, clients, "room");
    const moved = clients.filter((_, i) => i % 2 === 0);
    await kill(others[0], moved);
    await act(others[1], { what: "emit", to: ["room"], event: "again" });
    for (const client of moved) {
      await take(client, others[1]);
      assert.equal(client.recovered, true);
      await hearsAll(client, [["again"]]);
    }
  });
}

test("a client that left by itself is not let in again when its node is killed", KILLS, async (t) => {
  const cluster = await Cluster.start(t, ["sockeye", "sockeye"], OPTIONS);
  const redis = await sessions(t, cluster);
  const client = await connect(cluster.nodes[0]);
  const { id } = client;
  await until("the session to be there", () => redis.exists(liveKey(client)));
  const [live, claim] = [liveKey(client), { pid: client._pid, offset: client._lastOffset }];
  client.disconnect();
  await until("the session to be gone", async () => !(await redis.exists(live)));
  await kill(cluster.nodes[0], []);
  const again = await connect(cluster.nodes[1], claim);
  t.after(() => again.disconnect());
  assert.notEqual(again.id, id);
});

test("a socket of a node that was stopped for a while ends if it was taken up", KILLS, async (t) => {
  let stopped;
  // First of all, so that it can end.
  t.after(() => stopped?.child.kill("SIGCONT"));
  const cluster = await Cluster.start(t, ["sockeye", "sockeye"], OPTIONS);
  const [, other] = cluster.nodes;
  stopped = cluster.nodes[0];
  const [client, idle] = [await connect(stopped, { rooms: ["room"] }), await connect(stopped)];
  t.after(() => client.disconnect());
  t.after(() => idle.disconnect());
  await act(stopped, { what: "emit", event: "first" });
  await hearsAll(client, [["first"]]);
  await untilKept(cluster, [client, idle], "");
  await untilKept(cluster, [client], "room");
  const claim = { pid: client._pid, offset: client._lastOffset };
  const early = await connect(other, claim);
  t.after(() => early.disconnect());
  assert.notEqual(early.id, client.id, "its node is there");

  stopped.child.kill("SIGSTOP");
  await act(other, { what: "emit", to: ["room"], event: "meanwhile" });
  // Its old connection is still open.
  const taken = await connect(other, claim);
  t.after(() => taken.disconnect());
  assert.equal(taken.id, client.id);
  await hearsAll(taken, [["meanwhile"]]);

  const ended = new Promise((resolve) => client.once("disconnect", resolve));
  stopped.child.kill("SIGCONT");
  assert.equal(await ended, "io server disconnect");
  await until("one of it to be left", async () => {
    const left = await act(other, { what: "fetch", to: [taken.id] });
    return left.length === 1;
  });
  await act(stopped, { what: "emit", to: ["room"], event: "after" });
  await hearsAll(taken, [["after"]]);
  assert.ok(idle.connected, "nobody wanted this one");
});

test("a session that is gone, or an offset that is, makes a new socket", async (t) => {
  const cluster = await Cluster.start(t, KINDS, OPTIONS);
  const redis = await sessions(t, cluster);
  for (const node of cluster.nodes) {
    for (const spoil of [
      (client) => redis.del(key(client)),
      (client) => (client._lastOffset = "nonsense"),
      // Node's server does not answer then.
      ...(node.kind === "node" ? [] : [(client) => redis.set(key(client), "nonsense")]),
    ]) {
      const client = await connect(cluster.nodes[0]);
      t.after(() => client.disconnect());
      const { id } = client;
      await act(cluster.nodes[0], { what: "direct", id, event: "first" });
      await hearsAll(client, [["first"]]);
      await lose(client, redis);
      await spoil(client);
      await take(client, node);
      assert.equal(client.recovered, false, `${node.name} ${spoil}`);
      assert.notEqual(client.id, id);
    }
  }
});

function key(client) {
  return `sio:session:${client._pid}`;
}

/** Where the session of a client is while it lives. */
function liveKey(client) {
  return `{${key(client)}}:live`;
}

/** Waits until the sessions of clients that live are kept, each with a room. */
async function untilKept(cluster, clients, room) {
  for (const client of clients) {
    await until("a session to be kept", async () => {
      const session = (await cluster.get(liveKey(client))).slice(24);
      return session !== "" && Buffer.from(session, "base64").includes(room);
    });
  }
}

/** A node ends without a word; waits until its clients have noticed. */
async function kill(node, clients) {
  const ends = [...clients, node.control].map((client) => {
    return new Promise((resolve) => client.once("disconnect", resolve));
  });
  node.child.kill("SIGKILL");
  await Promise.all(ends);
}

async function sessions(t, cluster) {
  const redis = createClient({ url: cluster.redis });
  // It goes before this one.
  redis.on("error", () => {});
  await redis.connect();
  t.after(() => redis.close());
  return redis;
}

/** Cuts a client's connection, and waits until its session is kept. */
async function lose(client, redis) {
  const gone = new Promise((resolve) => client.once("disconnect", resolve));
  client.io.engine.transport.ws.terminate();
  await gone;
  await until("the session to be kept", () => redis.exists(key(client)));
}

/** Connects a client to another node. */
async function take(client, node) {
  client.io.uri = node.url;
  const connected = new Promise((resolve, reject) => {
    client.once("connect", resolve);
    client.io.once("error", reject);
  });
  client.connect();
  await connected;
}

/** As `hears`, of events with an offset as their last argument. */
async function hearsAll(client, events) {
  for (const event of events) {
    await until(`hearing ${event[0]}`, () => client.inbox.length > 0);
    const offset = client.inbox[0].pop();
    assert.match(String(offset), /^[0-9]+-[0-9]+$/);
    await hears(client, event);
  }
}
