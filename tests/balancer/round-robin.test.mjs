// Two processes on one Redis behind a real nginx that is not sticky: the official client over
// long-polling, each of whose requests comes to another node than the one before.

import assert from "node:assert/strict";
import { test } from "node:test";
import { io } from "socket.io-client";
import { nginx, node, redis, until } from "./lib/processes.mjs";

const FILE = "round-robin.conf";
const CLIENTS = 10;
const ROUNDS = 15;

for (const BUS of ["classic", "sharded"]) {
  test(`${BUS} bus: clients long-poll through a round-robin balancer`, async (t) => {
    const { nodes, url } = await balanced(t, { BUS, FORWARD: "1" }, openedByTurns);
    const sockets = await clients(t, url, { transports: ["polling"], reconnection: false });
    assert.deepEqual(await sessions(nodes), [CLIENTS / 2, CLIENTS / 2]);
    await talk(sockets);
    const large = Buffer.alloc(200_000, 7);
    sockets[0].emit("say", large);
    for (const socket of sockets) assert.deepEqual(Buffer.from((await heard(socket))[0]), large);
    assert(sockets.every((socket) => socket.io.engine.transport.name === "polling"));
    for (const socket of sockets) socket.disconnect();
    await until("all have gone", async () => (await sessions(nodes)).every((count) => count === 0));
  });
}

test("an upgrade finds its node, since the balancer tries the next", async (t) => {
  const { nodes, url } = await balanced(t, { FORWARD: "1" }, openedByTurns);
  const sockets = await clients(t, url, { reconnection: false });
  await talk(sockets);
  await until("all have upgraded", () => sockets.every(isUpgraded));
  await talk(sockets);
  assert.deepEqual(await sessions(nodes), [CLIENTS / 2, CLIENTS / 2]);
});

test("where the balancer does not try the next, clients stay on long-polling", async (t) => {
  const { nodes, url } = await balanced(t, { FORWARD: "1" }, upgradedAtTheFirst);
  const ended = [];
  const sockets = await clients(t, url, { reconnection: false }, (socket) => {
    for (const event of ["upgrade", "upgradeError"]) {
      socket.io.engine.on(event, () => ended.push(socket));
    }
  });
  await talk(sockets);
  await until("each probe has come to an end", () => ended.length === CLIENTS);
  await talk(sockets);
  assert(sockets.every(({ connected }) => connected));
  const upgraded = sockets.filter(isUpgraded).length;
  assert.deepEqual(await sessions(nodes), [upgraded, CLIENTS - upgraded]);
  assert.equal(upgraded, CLIENTS / 2, "every second client lives on the first node");
});

test("a session of nobody is refused", async (t) => {
  const { url } = await balanced(t, { FORWARD: "1" });
  for (let i = 0; i < 4; i += 1) {
    const query = "EIO=4&transport=polling&sid=AAAAAAAAAAAAAAAAAAAA";
    const answer = await fetch(`${url}/socket.io/?${query}`);
    assert.equal(answer.status, 400);
    assert.deepEqual(await answer.json(), { code: 1, message: "Session ID unknown" });
  }
});

test("without forwarding a client comes nowhere", async (t) => {
  const { url } = await balanced(t, {});
  const socket = io(url, { forceNew: true, reconnection: false, transports: ["polling"] });
  t.after(() => socket.disconnect());
  const ended = new Promise((resolve) => socket.io.engine.once("close", resolve));
  await ended;
  assert.equal(socket.connected, false);
});

for (const signal of ["SIGTERM", "SIGKILL"]) {
  test(`${signal} ends one node, and the clients of the other go on`, async (t) => {
    const { nodes, url } = await balanced(t, { FORWARD: "1" });
    const sockets = await clients(t, url, { transports: ["polling"] });
    await talk(sockets);
    await nodes[1].end(signal);
    await until("all are with the other node", async () => {
      return (await nodes[0].sessions()) === CLIENTS && sockets.every(({ connected }) => connected);
    });
    for (const socket of sockets) socket.inbox.length = 0;
    await talk(sockets);
  });
}

async function balanced(t, settings, change) {
  const REDIS_URL = await redis(t);
  const nodes = [];
  for (let i = 0; i < 2; i += 1) nodes.push(await node(t, { REDIS_URL, ...settings }));
  return { nodes, url: await nginx(t, nodes, FILE, change) };
}

/**
 * A configuration that opens sessions on the nodes by turns, whatever is asked between: chance may
 * bring all to one node.
 */
function openedByTurns(text, _nodes, others = "") {
  const [upstream] = text.match(/^upstream sockeye \{[^}]*\}\n/m);
  return text
    .replaceAll("proxy_pass http://sockeye;", "proxy_pass http://$asked;")
    .concat(upstream.replace("sockeye", "opening"))
    .concat('map "$http_upgrade,$arg_sid" $asked {\n')
    .concat(`  "," opening;\n  ${others}\n  default sockeye;\n}\n`);
}

/** And asks for upgrades at the first alone: chance may bring each probe to its own node. */
function upgradedAtTheFirst(text, nodes) {
  const first = `~^websocket ${new URL(nodes[0].url).host};`;
  return openedByTurns(text.replace(" http_404;", ";"), nodes, first);
}

async function clients(t, url, options, watch = () => {}) {
  const sockets = [];
  for (let i = 0; i < CLIENTS; i += 1) {
    const socket = io(url, { forceNew: true, ...options });
    t.after(() => socket.disconnect());
    watch(socket);
    socket.inbox = [];
    socket.on("said", (...args) => socket.inbox.push(args));
    sockets.push(socket);
  }
  await until("all are connected", () => sockets.every(({ connected }) => connected));
  return sockets;
}

/** Each says something to all, many times; all hear all of it, each one's in its order. */
async function talk(sockets) {
  for (let round = 0; round < ROUNDS; round += 1) {
    sockets.forEach((socket, number) => socket.emit("say", number, round));
  }
  for (const socket of sockets) {
    const next = sockets.map(() => 0);
    for (let count = 0; count < sockets.length * ROUNDS; count += 1) {
      const [number, round] = await heard(socket);
      assert.equal(round, next[number]);
      next[number] += 1;
    }
    assert.equal(socket.inbox.length, 0);
  }
}

async function heard(socket) {
  await until("an event", () => socket.inbox.length > 0);
  return socket.inbox.shift();
}

function isUpgraded(socket) {
  return socket.io.engine.transport.name === "websocket";
}

function sessions(nodes) {
  return Promise.all(nodes.map((one) => one.sessions()));
}
