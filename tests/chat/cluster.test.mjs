// The chat on a Redis in cluster mode: all its names have one hash tag, so one node of the cluster
// has them all, and their slot may move to another in the middle of it.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Client, until } from "./lib/client.mjs";
import { Persistent, insist, keepsAll } from "./lib/persistent.mjs";
import { Redis } from "./lib/redis.mjs";
import { Nodes, SECRET, runToEnd } from "./lib/server.mjs";

const SLOTS = 16_384;
const PREFIX = "{a chat}:";

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
    assert.deepEqual(await all[0].ask("CLUSTER", "MEET", "127.0.0.1", redis.port), ["+OK"]);
  for (const redis of all)
    await insist("the cluster is whole", async () => {
      const info = await redis.ask("CLUSTER", "INFO");
      return info.includes("cluster_state:ok") && info.includes("cluster_known_nodes:3");
    });
  const [answer] = await all[0].ask("CLUSTER", "KEYSLOT", PREFIX);
  const slot = Number(answer.slice(1));
  return { all, slot, ownerOf: (slot) => all[Math.floor((slot * 3) / SLOTS)] };
}

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
  const flags = ["--redis-prefix", PREFIX, "--messages-per-second", "1000"];
  flags.push("--history-messages", "1000", "--redis-lease-seconds", "5");
  const { nodes } = await Nodes.start(t, { count: 2, redis: to, flags });
  const talkers = [];
  for (const [i, name] of ["ann", "ben", "carl", "dora"].entries()) {
    talkers.push(await Persistent.connect(t, nodes[i % 2], name));
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
  assert.deepEqual(watcher.all("chat:userLeft"), [], "nobody went by that");
  const ids = watcher.all("chat:message").map(({ id }) => Number(id));
  assert.deepEqual(ids, [...new Set(ids)].sort((a, b) => a - b), "in order, none twice");
  assert.deepEqual(keysOf(await from.ask("CLUSTER", "GETKEYSINSLOT", slot, 5)), []);
  for (const talker of talkers) talker.leave();
  await insist("they have left", async () => (await watcher.joins("room")).members.length === 1);
});

test("in cluster mode a prefix without a hash tag is refused with what it needs, and so is forwarding", async (t) => {
  const { all } = await cluster(t);
  for (const redis of all) {
    const flags = ["--listen", "127.0.0.1:0", "--redis", redis.url];
    const { code, output } = await runToEnd(flags, { env: { JWT_SECRET: SECRET } });
    assert.ok(code > 0);
    assert.match(output, /the prefix needs a hash tag, such as \{sockeye-chat\}:/);
    flags.push("--redis-prefix", PREFIX, "--forward-requests");
    const forwarding = await runToEnd(flags, { env: { JWT_SECRET: SECRET } });
    assert.ok(forwarding.code > 0);
    assert.match(forwarding.output, /requests cannot be forwarded over a Redis in cluster mode/);
  }
});
