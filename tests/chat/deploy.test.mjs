// What operators begin with: the environment file has every setting, systemd takes the units, and
// the chat works on two nodes behind nginx and HAProxy with each of their files.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import http from "node:http";
import { join } from "node:path";
import { test } from "node:test";

import { Client, until } from "./lib/client.mjs";
import { haproxy, nginx } from "./lib/balancer.mjs";
import { Persistent, insist, keepsAll } from "./lib/persistent.mjs";
import { Nodes, Server, runToEnd, temporaryFolder } from "./lib/server.mjs";

const DEPLOY = join(import.meta.dirname, "../../deploy");
const text = (name) => readFileSync(join(DEPLOY, name), "utf8");

test("the environment file has every setting, with its default, and no other", async (t) => {
  const { output } = await runToEnd(["--help"]);
  const told = new Map();
  for (const part of output.split(/\n\s+(?=--|-h,|-V,)/).slice(1)) {
    const words = part.replace(/\s+/g, " ");
    const name = /\[env: (\w+)/.exec(words)?.[1];
    if (name) told.set(name, /\[default: (.*?)\]/.exec(words)?.[1] ?? "");
  }
  const lines = text("sockeye-chat.env").matchAll(/^#?([A-Z_]+)=(.*)$/gm);
  const written = new Map([...lines].map(([, name, value]) => [name, value]));
  assert.ok(told.size > 20);
  assert.deepEqual(
    [...written].sort(),
    [...told].sort(),
    "names and defaults are those of --help",
  );
  // With all that has a value the server is what it is without.
  const env = Object.fromEntries([...written].filter(([, value]) => value !== ""));
  delete env.SOCKEYE_CHAT_LISTEN;
  delete env.SOCKEYE_CHAT_DATA_DIR;
  const server = await Server.start(t, { alone: true, env });
  assert.equal((await fetch(`${server.url}/readyz`)).status, 200);
});

for (const unit of ["sockeye-chat.service", "sockeye-chat@.service"]) {
  const found = spawnSync("systemd-analyze", ["--version"]).status === 0;
  test(`systemd takes ${unit}`, { skip: !found && "there is no systemd-analyze" }, (t) => {
    const folder = temporaryFolder(t);
    const name = unit.replace("@", "@3001");
    // The program is not installed here.
    writeFileSync(join(folder, name), text(unit).replaceAll("/usr/local/bin/sockeye-chat", process.env.CHAT_BIN));
    const { status, stderr } = spawnSync("systemd-analyze", ["verify", join(folder, name)], {
      encoding: "utf8",
    });
    assert.equal(status, 0, stderr);
    const own = stderr.split("\n").filter((line) => line.includes("sockeye-chat"));
    assert.deepEqual(own, []);
  });
}

// What a node counts, from its admin listener.
async function opened(node) {
  await until(() => node.admin, "the admin listener");
  const metrics = await (await fetch(`${node.admin}/metrics`)).text();
  const counts = metrics.matchAll(/^sockeye_connections_opened_total\{.*\} (\d+)$/gm);
  return [...counts].reduce((sum, [, count]) => sum + Number(count), 0);
}

const FLAGS = ["--admin-listen", "127.0.0.1:0", "--trusted-proxies", "127.0.0.1"];

// Everybody talks, and everybody hears everybody.
async function talk(t, front, count, options) {
  const clients = [];
  for (let i = 0; i < count; i += 1)
    clients.push(await Client.join(t, front, `user${i}`, "room", options));
  const ids = [];
  for (const client of clients) ids.push(await client.says("room", `from ${client.username}`));
  for (const client of clients) {
    await client.until(() => client.all("chat:message").length === count, "all messages");
    assert.deepEqual(
      client.all("chat:message").map((message) => message.id),
      ids,
    );
  }
  return clients;
}

const BOTH = { transports: ["polling", "websocket"] };
const POLLING = { transports: ["polling"] };
const COOKIES = { withCredentials: true };
const FORWARD = ["--forward-requests"];

for (const [balancer, file, options, flags = []] of [
  [nginx, "ip-hash.conf", BOTH],
  [nginx, "ip-hash.conf", POLLING],
  [nginx, "cookie.conf", { ...BOTH, ...COOKIES }],
  [nginx, "cookie.conf", { ...POLLING, ...COOKIES }],
  [nginx, "round-robin.conf", BOTH, FORWARD],
  [nginx, "round-robin.conf", POLLING, FORWARD],
  [nginx, "websocket.conf", { transports: ["websocket"] }],
  [haproxy, "source.cfg", BOTH],
  [haproxy, "source.cfg", POLLING],
  [haproxy, "cookie.cfg", { ...BOTH, ...COOKIES }],
  [haproxy, "cookie.cfg", { ...POLLING, ...COOKIES }],
  [haproxy, "round-robin.cfg", BOTH, FORWARD],
  [haproxy, "round-robin.cfg", POLLING, FORWARD],
  [haproxy, "websocket.cfg", { transports: ["websocket"] }],
]) {
  const over = options.transports.join(" and ");
  test(`two nodes behind ${balancer.name}, ${file}, over ${over}`, async (t) => {
    const { nodes } = await Nodes.start(t, { count: 2, flags: [...FLAGS, ...flags] });
    const front = await balancer(t, file, nodes);
    // As a browser says where its page is from.
    const extraHeaders = { origin: front.url };
    const clients = await talk(t, front, 8, { ...options, extraHeaders });
    if (options.transports.includes("websocket"))
      for (const { socket } of clients)
        await until(() => socket.io.engine.transport.name === "websocket", "over WebSocket");
    const counts = () => Promise.all(nodes.map(opened));
    const [first, second] = await counts();
    assert.equal(first + second, 8);
    // An address is at one node; of connections, and of cookies in the long run, each has some.
    if (/ip-hash|source/.test(file)) assert.ok(first === 0 || second === 0, `${first}, ${second}`);
    else {
      let more = 0;
      await until(async () => {
        if (!(await counts()).includes(0)) return true;
        // Where clients make two requests each, all begin at the same node.
        if ((more += 1) % 2) await fetch(`${front.url}/healthz`);
        await Client.connect(t, front, "one more", { ...options, extraHeaders });
        return false;
      }, "both nodes have some");
    }
  });
}

test("a node behind nginx dies: its clients go on at the other, with their rooms", async (t) => {
  const flags = [...FLAGS, "--redis-lease-seconds", "10"];
  const { nodes } = await Nodes.start(t, { count: 2, flags });
  const front = await nginx(t, "cookie.conf", nodes);
  const options = { transports: ["polling", "websocket"], withCredentials: true };
  const clients = await talk(t, front, 8, { ...options, reconnection: true });
  const [first, second] = await Promise.all(nodes.map(opened));
  const [dies, lives] = first > second ? nodes : [...nodes].reverse();
  const its = Math.max(first, second);
  await dies.stop("SIGKILL");
  assert.equal((await fetch(`${lives.url}/readyz`)).status, 200);
  const lost = await until(() => {
    const lost = clients.filter((client) => client.all("disconnect").length > 0);
    return lost.length === its && lost;
  }, "its clients have lost their node");
  for (const client of lost) {
    await client.next("session:created");
    const ack = await client.ask("session:restore", client.session);
    assert.deepEqual(ack.rooms, ["room"], ack.message);
  }
  const id = await lost[0].says("room", "back");
  for (const client of clients)
    await client.next("chat:message", (message) => message.id === id);
});

const attempts = "an address's sign-in attempts are its own, and the cookie stays";
const withCookies = async (t, balancer, file) => {
  const flags = [...FLAGS, "--sign-ins-per-minute", "3"];
  const { nodes } = await Nodes.start(t, { count: 2, flags });
  const front = await balancer(t, file, nodes);
  // From another address of this machine: the proxy's own is trusted.
  const post = async (path, body, headers = {}) => {
    const request = http.request(front.url + path, {
      method: "POST",
      localAddress: "127.0.0.2",
      headers: { "content-type": "application/json", ...headers },
    });
    request.end(JSON.stringify(body));
    const [response] = await once(request, "response");
    response.resume();
    return { status: response.statusCode, cookies: response.headers["set-cookie"] ?? [] };
  };
  const form = { username: "ann", password: "a long password" };
  const begun = Date.now();
  const first = await post("/api/register", form, { "x-forwarded-for": "192.0.2.1" });
  assert.equal(first.status, 201);
  const cookies = first.cookies.map((line) => line.split(";")[0]);
  const node = cookies.find((cookie) => cookie.startsWith("sockeye_node="));
  const again = await post("/api/refresh", {}, { cookie: cookies.join("; ") });
  assert.equal(again.status, 200);
  assert.ok(node && !again.cookies.some((line) => line.startsWith("sockeye_node")));
  // The balancer adds the real address, whatever the client made up.
  const statuses = [first.status];
  for (let i = 0; statuses.at(-1) !== 429; i += 1) {
    const headers = { "x-forwarded-for": `192.0.2.${i}` };
    statuses.push((await post("/api/login", { ...form, username: `b${i}` }, headers)).status);
    // Three, and one more in each third of a minute.
    const most = 3 + Math.floor((Date.now() - begun) / 20_000);
    const passed = statuses.filter((status) => status !== 429).length;
    assert.ok(passed <= most, `${statuses}: at most ${most} may pass`);
  }
};
test(`behind nginx ${attempts}`, (t) => withCookies(t, nginx, "cookie.conf"));
test(`behind HAProxy ${attempts}`, (t) => withCookies(t, haproxy, "cookie.cfg"));

for (const [balancer, file] of [
  [nginx, "websocket.conf"],
  [haproxy, "websocket.cfg"],
])
  test(`${balancer.name} refuses long-polling where any node may answer`, async (t) => {
    const { nodes } = await Nodes.start(t, { count: 2, flags: FLAGS });
    const front = await balancer(t, file, nodes);
    const polling = await fetch(`${front.url}/socket.io/?EIO=4&transport=polling`);
    assert.equal(polling.status, 400);
    assert.equal((await fetch(`${front.url}/readyz`)).status, 200);
  });

test("a rolling restart behind nginx: every acknowledged message is in the history once", async (t) => {
  const flags = [...FLAGS, "--messages-per-second", "1000", "--history-messages", "1000"];
  const { nodes } = await Nodes.start(t, { count: 2, flags });
  const front = await nginx(t, "cookie.conf", nodes);
  const all = [];
  for (const name of ["ann", "ben", "carl", "dora"]) {
    all.push(await Persistent.connect(t, front, name, { ...BOTH, ...COOKIES }));
    await all.at(-1).enter("rolling");
    all.at(-1).talk(20);
  }
  const more = (count) => {
    const before = all.map(({ acknowledged }) => acknowledged.length);
    return insist(`everybody says ${count} more`, () =>
      all.every(({ acknowledged }, i) => acknowledged.length >= before[i] + count),
    );
  };
  for (const node of nodes) {
    await more(10);
    await node.restart("SIGTERM");
  }
  await more(10);
  await Promise.all(all.map((one) => one.rest()));
  const reader = await Client.join(t, nodes[0], "reader", "elsewhere");
  const { history, members } = await reader.joins("rolling");
  assert.deepEqual(members, ["ann", "ben", "carl", "dora", "reader"]);
  keepsAll(history, all, "a reader");
});
