// Several processes that share a Redis are one chat, also while one of them dies, hangs or ends.

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { Client, until } from "./lib/client.mjs";
import { freePort } from "../lib/ports.mjs";
import { Redis } from "./lib/redis.mjs";
import { Nodes, PASSWORD, SECRET, Server, runToEnd, temporaryFolder, token } from "./lib/server.mjs";

const start = (t, flags = [], more = {}) => Nodes.start(t, { count: 2, flags, ...more });
const ids = (messages) => messages.map((message) => message.id);
const ready = async (node) => (await fetch(`${node.url}/readyz`)).status;

test("what happens on one node is heard on the other, and not by another chat on the same Redis", async (t) => {
  const chat = await start(t);
  const [one, two] = chat.nodes;
  const other = await start(t, ["--redis-prefix", "other:"], { redis: chat.redis });
  const ann = await Client.connect(t, one, "ann");
  assert.deepEqual((await ann.joins("room")).members, ["ann"]);
  const ben = await Client.connect(t, two, "ben");
  assert.deepEqual((await ben.joins("room")).members, ["ann", "ben"]);
  const foreign = await Client.join(t, other, "olaf", "room");
  assert.deepEqual(await ann.next("chat:userJoined"), { username: "ben", room: "room" });
  const id = await ann.says("room", "hello");
  const heard = await ben.next("chat:message");
  assert.deepEqual([heard.id, heard.username, heard.text, heard.room], [id, "ann", "hello", "room"]);
  assert.deepEqual((await ann.next("chat:message")).id, id, "its author hears it before the answer");
  ben.socket.emit("chat:typing", "room");
  assert.deepEqual(await ann.next("chat:typing"), { username: "ben", room: "room" });
  assert.equal((await ben.ask("chat:leave", "room")).status, "ok");
  assert.deepEqual(await ann.next("chat:userLeft"), { username: "ben", room: "room" });
  await ann.says("room", "alone");
  for (const client of [ben, foreign]) await client.caughtUp();
  assert.deepEqual(ben.all("chat:message"), []);
  for (const event of ["chat:message", "chat:userJoined", "chat:userLeft", "chat:typing"])
    assert.deepEqual(foreign.all(event), []);
  assert.deepEqual((await foreign.joins("room")).history, [], "the control: it is another chat");
  const { history, members } = await ben.joins("room");
  assert.deepEqual(members, ["ann", "ben"]);
  assert.deepEqual(
    history.map((message) => message.text),
    ["hello", "alone"],
  );
});

test("where Redis has no chat under these names, one node says that a new one begins", async (t) => {
  const begun = ({ log }) => log.split("\n").filter((line) => line.includes("a new one begins"));
  // What they print and what they log come apart.
  const told = (chat) => until(() => begun(chat).length > 0, "it is told");
  const chat = await start(t);
  await told(chat);
  const [line, ...more] = begun(chat);
  assert.match(line, /there is no chat in Redis at 127\.0\.0\.1:\d+ under "sockeye-chat:" yet/);
  assert.deepEqual(more, []);
  const restart = () => Promise.all(chat.nodes.map((node) => node.restart()));
  await restart();
  assert.deepEqual(begun(chat), [], "it goes on");
  const other = await start(t, ["--redis-prefix", "other:"], { redis: chat.redis });
  await told(other);
  assert.match(begun(other)[0], /under "other:" yet/);
  // As one that began before this was told.
  await Client.join(t, chat.nodes[0], "ann", "room");
  assert.deepEqual(await chat.redis.ask("DEL", "sockeye-chat:begun"), [":1"]);
  await restart();
  assert.deepEqual(begun(chat), []);
});

test("a user with windows on both nodes is there once, and has left when the last one has", async (t) => {
  const { nodes } = await start(t);
  const ann = await Client.join(t, nodes[0], "ann", "room");
  const here = await Client.join(t, nodes[0], "ben", "room");
  const there = await Client.connect(t, nodes[1], "ben");
  assert.deepEqual((await there.joins("room")).members, ["ann", "ben"]);
  assert.deepEqual(await ann.next("chat:userJoined"), { username: "ben", room: "room" });
  await here.says("room", "from one window");
  assert.equal((await there.next("chat:message")).text, "from one window");
  here.cut();
  await there.says("room", "still here");
  await ann.caughtUp();
  assert.deepEqual(ann.all("chat:userJoined"), []);
  assert.deepEqual(ann.all("chat:userLeft"), []);
  there.cut();
  assert.deepEqual(await ann.next("chat:userLeft"), { username: "ben", room: "room" });
  await ann.caughtUp();
  assert.deepEqual(ann.all("chat:userLeft"), []);
  assert.deepEqual((await ann.joins("room")).members, ["ann"]);
});

test("where nodes forward requests, a session is reached through any, and all is heard once", async (t) => {
  const { nodes } = await start(t, ["--forward-requests"]);
  const ann = await Client.join(t, nodes[0], "ann", "room");
  const ben = await Client.join(t, nodes[1], "ben", "room");
  await ann.says("room", "hello");
  ben.socket.emit("chat:typing", "room");
  await ann.next("chat:typing");
  assert.equal((await ben.ask("chat:leave", "room")).status, "ok");
  await ann.next("chat:userLeft");
  for (const client of [ann, ben]) await client.caughtUp();
  assert.equal(ben.all("chat:message").length, 1);
  assert.equal(ann.all("chat:message").length, 1);
  assert.equal(ann.all("chat:userJoined", ({ room }) => room === "room").length, 1);
  for (const event of ["chat:typing", "chat:userLeft"]) assert.deepEqual(ann.all(event), [], event);
  const polling = "/socket.io/?EIO=4&transport=polling";
  const handshake = await (await fetch(nodes[0].url + polling)).text();
  const { sid } = JSON.parse(handshake.slice(1));
  const through = async (node, options) => {
    const answer = await fetch(`${node.url}${polling}&sid=${sid}`, options);
    return { status: answer.status, body: await answer.text() };
  };
  const connect = `40${JSON.stringify({ token: token("carl") })}`;
  assert.deepEqual(await through(nodes[1], { method: "POST", body: connect }), {
    status: 200,
    body: "ok",
  });
  assert.match((await through(nodes[1])).body, /^40\{"sid"/);
  assert.deepEqual((await through(nodes[0], { method: "POST", body: "1" })).status, 200);
  for (const node of nodes) assert.equal((await through(node)).status, 400, "it has ended");
});

// Everybody talks at once until `stop`; what was acknowledged.
function talking(clients, room) {
  let isOver = false;
  const acknowledged = [];
  const talk = async (client) => {
    for (let i = 0; !isOver && client.socket.connected; i += 1) {
      const text = `${client.username} ${i}`;
      const ack = await client.socket
        .timeout(10_000)
        .emitWithAck("chat:message", { room, text, key: text })
        .catch(() => null);
      if (ack?.status === "ok") acknowledged.push({ id: ack.id, text });
      // So that the history stays whole.
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  };
  const all = clients.map(talk);
  const stop = async () => {
    isOver = true;
    await Promise.all(all);
    return acknowledged;
  };
  return { acknowledged, stop };
}

// What these heard is one order, that of the ids, and what was acknowledged is in it once.
async function heardAll(clients, acknowledged, room) {
  const last = Math.max(...acknowledged.map(({ id }) => Number(id)));
  const orders = [];
  for (const client of clients) {
    await client.until(
      () => client.all("chat:message").some((message) => Number(message.id) >= last),
      "the last message",
    );
    await client.caughtUp();
    orders.push(ids(client.all("chat:message", (message) => message.room === room)));
  }
  for (const order of orders) assert.deepEqual(order, orders[0]);
  assert.deepEqual(
    orders[0],
    [...orders[0]].sort((a, b) => a - b),
    "in the order of the ids, none twice",
  );
  const { history } = await clients[0].joins(room);
  assert.ok(history.length < 1000, "the history is whole");
  assert.deepEqual(ids(history), orders[0], "the history is what was heard");
  for (const { id, text } of acknowledged) {
    const kept = history.filter((message) => message.text === text);
    assert.deepEqual(ids(kept), [id], text);
  }
}

// What ends is waited for, and longer than a machine stands still that goes on.
const LEASE = ["--redis-lease-seconds", "10"];
const FAST = ["--messages-per-second", "100000", "--history-messages", "1000"];

test("on three nodes all hear one order, which is that of the ids and of the history", async (t) => {
  const { nodes } = await start(t, FAST, { count: 3 });
  const names = ["ann", "ben", "carl", "dora", "emma", "finn"];
  const clients = await Promise.all(
    names.map((name, i) => Client.join(t, nodes[i % 3], name, "busy")),
  );
  const talk = talking(clients, "busy");
  await until(() => talk.acknowledged.length > 200, "200 messages");
  // One who comes in the middle of it hears the rest, and has the beginning in the history.
  const late = await Client.connect(t, nodes[1], "late");
  const { history } = await late.joins("busy");
  const acknowledged = await talk.stop();
  await heardAll(clients, acknowledged, "busy");
  await late.caughtUp();
  assert.deepEqual(
    ids([...history, ...late.all("chat:message")]),
    ids(clients[0].all("chat:message")),
  );
});

test("connections to Redis that are cut in the middle of it lose nothing and double nothing", async (t) => {
  const { nodes, redis } = await start(t, FAST);
  const clients = await Promise.all(
    ["ann", "ben", "carl", "dora"].map((name, i) => Client.join(t, nodes[i % 2], name, "cut")),
  );
  await clients[0].caughtUp();
  const joined = clients[0].all("chat:userJoined").length;
  const talk = talking(clients, "cut");
  for (const [after, type] of [
    [50, "pubsub"],
    [100, "normal"],
    [150, "pubsub"],
  ]) {
    await until(() => talk.acknowledged.length > after, `${after} messages`);
    // There may be none for a moment, after the one before.
    await until(
      async () => /^:[1-9]/.test((await redis.ask("CLIENT", "KILL", "TYPE", type))[0]),
      `connections for ${type} to cut`,
    );
    const before = talk.acknowledged.length;
    await until(() => talk.acknowledged.length > before + 20, "it goes on");
  }
  await heardAll(clients, await talk.stop(), "cut");
  assert.equal(clients[0].all("chat:userJoined").length, joined, "nobody comes or goes by that");
  assert.deepEqual(clients[0].all("chat:userLeft"), []);
});

test("kill -9 of a node: its users leave once, what was acknowledged is kept, sessions restore elsewhere", async (t) => {
  const { nodes } = await start(t, [...FAST, ...LEASE]);
  const [one, two] = nodes;
  const ann = await Client.join(t, one, "ann", "room");
  const ben = await Client.join(t, two, "ben", ["room", "other"]);
  const carl = [await Client.join(t, one, "carl", "room"), await Client.join(t, two, "carl", "room")];
  const talk = talking([ann, ben], "room");
  await until(() => talk.acknowledged.length > 100, "100 messages");
  await two.stop("SIGKILL");
  const left = await ann.next("chat:userLeft");
  assert.deepEqual(left, { username: "ben", room: "room" });
  const acknowledged = await talk.stop();
  const again = await Client.connect(t, one, "ben");
  const ack = await again.ask("session:restore", ben.session);
  assert.deepEqual([ack.status, ack.rooms?.sort()], ["ok", ["other", "room"]]);
  assert.deepEqual(await ann.next("chat:userJoined", (who) => who.username === "ben"), {
    username: "ben",
    room: "room",
  });
  await again.refused("session_rejected", "session:restore", ben.session);
  // What it does not know to have arrived it sends again.
  const mine = acknowledged.findLast(({ text }) => text.startsWith("ben "));
  assert.equal(await again.says("room", mine.text, { key: mine.text }), mine.id);
  await heardAll([ann, carl[0]], acknowledged, "room");
  assert.deepEqual(ann.all("chat:userLeft"), [], "nobody else, and nobody twice");
  assert.deepEqual((await again.joins("room")).members, ["ann", "ben", "carl"]);
});

test("SIGTERM of a node: its users leave at once, and their sessions restore elsewhere", async (t) => {
  const { nodes } = await start(t, ["--redis-lease-seconds", "3600"]);
  const ann = await Client.join(t, nodes[0], "ann", "room");
  const ben = await Client.join(t, nodes[1], "ben", "room");
  assert.equal(await nodes[1].stop("SIGTERM"), 0);
  assert.deepEqual(await ann.next("chat:userLeft"), { username: "ben", room: "room" });
  const again = await Client.connect(t, nodes[0], "ben");
  assert.deepEqual((await again.ask("session:restore", ben.session)).rooms, ["room"]);
  await ann.caughtUp();
  assert.deepEqual(ann.all("chat:userLeft"), []);
});

test("a node that hangs for longer than its lease: its users leave, come back, and miss nothing", async (t) => {
  const { nodes } = await start(t, [...FAST, ...LEASE]);
  const ann = await Client.join(t, nodes[0], "ann", "room");
  const ben = await Client.join(t, nodes[1], "ben", "room");
  await ann.next("chat:userJoined");
  nodes[1].child.kill("SIGSTOP");
  assert.deepEqual(await ann.next("chat:userLeft"), { username: "ben", room: "room" });
  const said = [];
  for (let i = 0; i < 300; i += 1) said.push(await ann.says("room", `while it hangs ${i}`));
  nodes[1].child.kill("SIGCONT");
  assert.deepEqual(await ann.next("chat:userJoined"), { username: "ben", room: "room" });
  await ben.until(() => ben.all("chat:message").length >= said.length, "what was said meanwhile");
  await until(async () => (await ready(nodes[1])) === 200, "the node is well");
  said.push(await ben.says("room", "back again"));
  assert.deepEqual(ids(ben.all("chat:message")), said);
  // Its connection lived, and so does its session.
  ben.cut();
  await ann.next("chat:userLeft");
  const again = await Client.connect(t, nodes[0], "ben");
  assert.deepEqual((await again.ask("session:restore", ben.session)).rooms, ["room"]);
});

for (const [how, away, back] of [
  ["killed and started again", (redis) => redis.stop("SIGKILL"), (redis) => redis.start()],
  [
    "hanging for some seconds",
    (redis) => redis.child.kill("SIGSTOP"),
    (redis) => redis.child.kill("SIGCONT"),
  ],
]) {
  test(`Redis ${how}: refused meanwhile, and then it goes on by itself`, async (t) => {
    const flags = ["--events-per-second", "1000", "--sign-ins-per-minute", "1000"];
    flags.push("--redis-timeout-seconds", "3");
    const { nodes, redis } = await start(t, [...FAST, ...flags]);
    const { cookie } = await nodes[0].register("ann");
    const ann = await Client.join(t, nodes[0], "ann", ["room", "left"]);
    const ben = await Client.join(t, nodes[1], "ben", ["room", "left"]);
    const carl = await Client.join(t, nodes[1], "carl", "room");
    await ann.says("room", "before");
    await ann.until(() => ann.all("chat:userJoined").length === 3);
    await away(redis);
    await ann.refused("internal", "chat:message", { room: "room", text: "x", key: "maybe" });
    for (const node of nodes) await until(async () => (await ready(node)) === 503, "not ready");
    await ann.refused("internal", "chat:message", { room: "room", text: "y" });
    await ben.refused("internal", "chat:join", "new");
    await ben.refused("internal", "session:restore", "x".repeat(43));
    const nobody = new Client(t, nodes[0], "dora");
    assert.equal((await nobody.next("connect_error")).data.code, "internal");
    for (const answer of [await nodes[0].login("ann"), await nodes[1].refresh(cookie)]) {
      assert.equal(answer.status, 500);
      assert.equal(answer.body.error.code, "internal");
    }
    assert.equal((await fetch(`${nodes[0].url}/healthz`)).status, 200, "it lives");
    // To leave is possible, and told later.
    assert.equal((await ben.ask("chat:leave", "left")).status, "ok");
    await back(redis);
    for (const node of nodes) await until(async () => (await ready(node)) === 200, "ready again");
    assert.deepEqual(await ann.next("chat:userLeft"), { username: "ben", room: "left" });
    const id = await ben.says("room", "after");
    await ann.next("chat:message", (message) => message.id === id);
    for (const client of [ann, ben, carl]) await client.caughtUp();
    assert.equal(ann.all("chat:userJoined").length, 3, "nobody came by that");
    assert.deepEqual(ann.all("chat:userLeft"), [], "or went");
    const { history, members } = await carl.joins("room");
    assert.deepEqual(members, ["ann", "ben", "carl"]);
    const texts = history.map((message) => message.text).filter((text) => text !== "x");
    assert.deepEqual(texts, ["before", "after"], "what was refused while it was away is not there");
    assert.ok([200, 401].includes((await nodes[1].refresh(cookie)).status));
    for (const node of nodes) assert.ok(!/panicked/.test(node.log), node.log);
  });
}

test("Redis that has lost everything begins anew, with those who are there", async (t) => {
  const { nodes, redis } = await start(t, FAST);
  const ann = await Client.join(t, nodes[0], "ann", "room");
  const ben = await Client.join(t, nodes[1], "ben", "room");
  for (let i = 0; i < 5; i += 1) await ann.says("room", "before");
  assert.deepEqual(await redis.ask("FLUSHALL"), ["+OK"]);
  await until(
    async () => (await ann.ask("chat:join", "room")).members?.length === 2,
    "both are known again",
  );
  const id = await ann.says("room", "after");
  await ben.next("chat:message", (message) => message.text === "after" && message.id === id);
});

test("limits are those of all nodes together", async (t) => {
  const flags = ["--messages-per-second", "1", "--sign-ins-per-minute", "4"];
  const { nodes } = await start(t, flags);
  const ann = await Promise.all(nodes.map((node) => Client.join(t, node, "ann", "fast")));
  const begun = Date.now();
  const acks = [];
  // However long twenty take: they are refused once they come faster than the limit allows.
  await until(async () => {
    const twenty = ann.flatMap((one) =>
      Array.from({ length: 10 }, (_, i) => one.ask("chat:message", { room: "fast", text: `${i}` })),
    );
    acks.push(...(await Promise.all(twenty)));
    return acks.some((ack) => ack.status !== "ok");
  }, "it is too fast");
  const sent = acks.filter((ack) => ack.status === "ok").length;
  const most = 5 + Math.ceil((Date.now() - begun) / 1000);
  assert.ok(sent >= 5 && sent <= most, `${sent} of at most ${most}`);
  const refused = acks.find((ack) => ack.status !== "ok");
  assert.equal(refused.code, "too_fast");
  assert.ok(refused.data.retryAfterMs > 0 && refused.data.retryAfterMs <= 1000);
  const first = Date.now();
  const attempts = [];
  await until(async () => {
    for (const node of nodes) attempts.push((await node.login("ann", "wrong password")).status);
    return attempts.at(-1) === 429;
  }, "an attempt too many");
  const wrong = attempts.filter((status) => status === 401).length;
  assert.ok(wrong >= 4 && wrong <= 4 + (Date.now() - first) / 15_000, `${attempts}`);
});

test("accounts, sign-ins and the secret of the tokens are shared, and no data folder is made", async (t) => {
  const data = join(temporaryFolder(t), "none");
  const { nodes } = await start(t, ["--sign-ins-per-minute", "1000"], { env: {}, data });
  const { status, body, cookie } = await nodes[0].register("ann");
  assert.equal(status, 201);
  assert.equal((await nodes[1].register("ANN")).status, 409);
  assert.deepEqual((await nodes[1].login("Ann")).body.user, body.user);
  const ann = await Client.connect(t, nodes[1], "ann", { auth: { token: body.accessToken } });
  assert.ok(ann.session);
  const second = await nodes[1].refresh(cookie);
  assert.equal(second.status, 200);
  assert.equal((await nodes[0].refresh(cookie)).status, 401, "it was replaced on the other node");
  assert.equal((await nodes[1].refresh(second.cookie)).status, 401, "and that ended the sign-in");
  assert.ok(!existsSync(data));
});

test("what Redis keeps of passwords and tokens is not what was given, and all of it ends in time", async (t) => {
  const { nodes, redis } = await start(t, ["--restore-seconds", "100"]);
  const { cookie } = await nodes[0].register("karl");
  const karl = await Client.join(t, nodes[1], "karl", "room");
  await karl.says("room", "hello", { key: "k" });
  const keys = async () => (await redis.ask("KEYS", "*")).filter((line) => line.includes(":"));
  assert.ok((await keys()).every((key) => key.startsWith("sockeye-chat:") || key[0] === "*"));
  const [id, secret] = cookie.split("=")[1].split(".");
  const signIn = await redis.ask("HGETALL", `sockeye-chat:sign-in:${id}`);
  assert.ok(signIn.includes("karl") && !signIn.join().includes(secret));
  assert.ok(!(await redis.ask("GET", "sockeye-chat:user:karl")).join().includes(PASSWORD));
  karl.cut();
  await until(
    async () => !(await keys()).some((key) => /:(members:|last$|node:)/.test(key)),
    "nobody is anywhere, and no session lives",
  );
  for (const kind of ["session", "sign-in", "sent", "limit"]) {
    const some = (await keys()).filter((key) => key.includes(`:${kind}:`));
    assert.ok(some.length > 0, kind);
    for (const key of some) {
      const [left] = await redis.ask("PTTL", key);
      // One may have ended meanwhile.
      assert.ok(Number(left.slice(1)) > 0 || left === ":-2", `${key} ${left}`);
    }
  }
});

test("without its Redis a node does not start, and says why without the password", async (t) => {
  const url = `redis://:hidden@127.0.0.1:${await freePort()}`;
  const flags = ["--listen", "127.0.0.1:0", "--redis", url];
  const { code, output } = await runToEnd(flags, { env: { JWT_SECRET: SECRET } });
  assert.ok(code > 0);
  assert.match(output, /cannot use Redis at 127\.0\.0\.1:\d+: /);
  assert.ok(!output.includes("hidden"));
});

test("a Redis with a password lets in who knows it", async (t) => {
  const redis = await Redis.start(t, ["--requirepass", "open sesame"]);
  const wrong = await runToEnd(["--listen", "127.0.0.1:0", "--redis", redis.url]);
  assert.ok(wrong.code > 0);
  assert.match(wrong.output, /cannot use Redis at .*(NOAUTH|[Aa]uthentication)/);
  const url = redis.url.replace("//", "//:open%20sesame@");
  const node = await Server.start(t, { alone: true, flags: ["--redis", url] });
  const ann = await Client.join(t, node, "ann", "room");
  assert.ok(await ann.says("room", "hello"));
});
