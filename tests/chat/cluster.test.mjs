// The chat on a Redis in cluster mode: all its names have one hash tag, so one node of the cluster
// has them all, and their slot may move to another in the middle of it.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Client, until } from "./lib/client.mjs";
import { Persistent, insist, keepsAll } from "./lib/persistent.mjs";
import { Redis } from "./lib/redis.mjs";
import { nginx } from "./lib/balancer.mjs";
import { Nodes, runToEnd } from "./lib/server.mjs";

const SLOTS = 16_384;
const PREFIX = "{a chat}:";
const FLAGS = [
  ...["--redis-prefix", PREFIX, "--messages-per-second", "1000", "--history-messages", "1000"],
  ...["--redis-lease-seconds", "60", "--redis-timeout-seconds", "5", "--events-per-second", "1000"],
];

// Three nodes of Redis with a third of the slots each.
async function cluster(t) {
  const all = [];
  for (let i = 0; i < 3; i += 1)
    all.push(await Redis.start(t, ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"]));
  for (const [i, redis] of all.entries()) {
    const [first, last] = [i, i + 1].map((part) => Math.ceil((part * SLOTS) / 3));
    assert.deepEqual(await redis.ask("CLUSTER", "ADDSLOTSRANGE", first, last - 1), ["+OK"]);
    assert.deepEqual(await redis.ask("CLUSTER", "SET-CONFIG-EPOCH", i + 1), ["+OK"]);
    redis.id = (await redis.ask("CLUSTER", "MYID"))[1];
  }
  for (const redis of all.slice(1))
    await meet(all[0], redis);
  for (const redis of all)
    await insist("the cluster is whole", async () => {
      const info = await redis.ask("CLUSTER", "INFO");
      return info.includes("cluster_state:ok") && info.includes("cluster_known_nodes:3");
    });
  const [answer] = await all[0].ask("CLUSTER", "KEYSLOT", PREFIX);
  const slot = Number(answer.slice(1));
  return { all, slot, ownerOf: (slot) => all[Math.floor((slot * 3) / SLOTS)] };
}

async function meet(one, other) {
  const at = ["127.0.0.1", other.port, other.busPort];
  assert.deepEqual(await one.ask("CLUSTER", "MEET", ...at), ["+OK"]);
}

// As the chat is told of it, by two of its nodes.
const asCluster = ([one, two]) => ({
  url: `redis-cluster://127.0.0.1:${one.port},127.0.0.1:${two.port}`,
});

// Moves a slot with all that is in it, as `redis-cli --cluster reshard` does.
async function move(all, slot, from, to, halfway) {
  const ask = async (redis, ...words) => assert.deepEqual(await redis.ask(...words), ["+OK"]);
  await ask(to, "CLUSTER", "SETSLOT", slot, "IMPORTING", from.id);
  await ask(from, "CLUSTER", "SETSLOT", slot, "MIGRATING", to.id);
  let moved = 0;
  for (;;) {
    const lines = await from.ask("CLUSTER", "GETKEYSINSLOT", slot, 5);
    const keys = keysOf(lines);
    if (keys.length === 0) break;
    const flags = ["", 0, 5000, "KEYS", ...keys];
    await ask(from, "MIGRATE", "127.0.0.1", to.port, ...flags);
    if (moved === 0) await halfway();
    moved += keys.length;
  }
  for (const redis of [to, from, ...all.filter((one) => one !== from && one !== to)])
    await ask(redis, "CLUSTER", "SETSLOT", slot, "NODE", to.id);
  return moved;
}

// Some names have line feeds in them; none is empty.
function keysOf([count, ...lines]) {
  const keys = [];
  let rest = lines.join("\r\n");
  for (let i = 0; i < Number(count.slice(1)); i += 1) {
    const head = /^\$(\d+)\r\n/.exec(rest);
    const begin = head[0].length;
    const bytes = Buffer.from(rest.slice(begin));
    keys.push(bytes.subarray(0, Number(head[1])).toString());
    rest = bytes.subarray(Number(head[1]) + 2).toString();
  }
  return keys;
}

test("the slot of a chat moves from one node of Redis to another, and nothing is lost or there twice", async (t) => {
  const { all, slot, ownerOf } = await cluster(t);
  const from = ownerOf(slot);
  const to = all.find((redis) => redis !== from);
  // The address is not where the data are.
  const redis = asCluster(all.filter((one) => one !== from));
  const flags = [...FLAGS, "--forward-requests"];
  const { nodes } = await Nodes.start(t, { count: 2, redis, flags });
  const front = await nginx(t, "round-robin.conf", nodes);
  const talkers = [];
  for (const [i, name] of ["ann", "ben", "carl", "dora"].entries()) {
    const transports = i < 2 ? ["websocket"] : ["polling"];
    talkers.push(await Persistent.connect(t, front, name, { transports }));
    await talkers[i].enter("room");
    talkers[i].talk(30);
  }
  const more = () => {
    const before = talkers.map(({ acknowledged }) => acknowledged.length);
    return insist("everybody says more", () =>
      talkers.every(({ acknowledged }, i) => acknowledged.length >= before[i] + 5),
    );
  };
  await more();
  const watcher = await Client.join(t, nodes[0], "watcher", "room");
  assert.ok(keysOf(await from.ask("CLUSTER", "GETKEYSINSLOT", slot, 5)).length > 0);
  const moved = await move(all, slot, from, to, async () => {
    // What needs the slot is refused meanwhile.
    for (const node of nodes)
      await until(async () => (await fetch(`${node.url}/readyz`)).status === 503, "not ready");
  });
  assert.ok(moved > 10, `${moved} keys`);
  for (const node of nodes)
    await until(async () => (await fetch(`${node.url}/readyz`)).status === 200, "ready again");
  await more();
  await Promise.all(talkers.map((talker) => talker.rest()));
  for (const talker of talkers) {
    const { history, members } = await talker.look();
    keepsAll(history, talkers, talker.username);
    assert.deepEqual(members, ["ann", "ben", "carl", "dora", "watcher"]);
  }
  // Whose request was on its way over the slot has lost its session, and nobody else.
  const cutOff = talkers.filter(({ lost }) => lost > 0).map(({ username }) => username);
  for (const { username } of watcher.all("chat:userLeft")) assert.ok(cutOff.includes(username), username);
  assert.ok(!cutOff.includes("ann") && !cutOff.includes("ben"), "WebSockets stay");
  const ids = watcher.all("chat:message").map(({ id }) => Number(id));
  assert.deepEqual(ids, [...new Set(ids)].sort((a, b) => a - b), "in order, none twice");
  assert.deepEqual(keysOf(await from.ask("CLUSTER", "GETKEYSINSLOT", slot, 5)), []);
  for (const talker of talkers) talker.leave();
  await insist("they have left", async () => (await watcher.joins("room")).members.length === 1);
});

test("a node of Redis fails over to its replica, and the chat goes on there with all it had", async (t) => {
  const { all, slot, ownerOf } = await cluster(t);
  const owner = ownerOf(slot);
  const replica = await Redis.start(t, ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"]);
  await meet(replica, owner);
  await insist("it is a replica", async () => {
    return (await replica.ask("CLUSTER", "REPLICATE", owner.id))[0] === "+OK";
  });
  const { nodes } = await Nodes.start(t, { count: 2, redis: asCluster(all), flags: FLAGS });
  const ann = await Persistent.connect(t, nodes[0], "ann");
  const ben = await Persistent.connect(t, nodes[1], "ben");
  for (const talker of [ann, ben]) await talker.enter("room");
  for (let i = 0; i < 10; i += 1) await ann.say(`before ${i}`);
  // What a replica lacks is lost with the owner: nothing of that is promised.
  const offset = async (redis, name) =>
    (await redis.ask("INFO", "replication")).find((line) => line.startsWith(`${name}:`))?.split(":")[1];
  await insist("the replica has all", async () => {
    const ask = (redis) => offset(redis, "master_repl_offset");
    return (await offset(replica, "master_link_status")) === "up" && (await ask(owner)) === (await ask(replica));
  });
  await owner.stop("SIGKILL");
  for (let i = 0; i < 10; i += 1) await ben.say(`after ${i}`);
  assert.equal((await offset(replica, "role")), "master");
  for (const talker of [ann, ben]) {
    const { history, members } = await talker.look();
    keepsAll(history, [ann, ben], talker.username);
    assert.deepEqual(members, ["ann", "ben"]);
  }
});

test("what cannot work in cluster mode is refused, with what it needs", async (t) => {
  const { all } = await cluster(t);
  const run = async (...flags) => {
    const { code, output } = await runToEnd(["--listen", "127.0.0.1:0", ...flags]);
    assert.ok(code > 0);
    return output;
  };
  assert.match(
    await run("--redis", asCluster(all).url),
    /in cluster mode redis-prefix needs a hash tag, such as \{sockeye-chat\}:/,
  );
  assert.match(
    await run("--redis", all[0].url, "--redis-prefix", PREFIX),
    /it is in cluster mode: its address begins with redis-cluster:/,
  );
});
