// The admin listener: metrics and health, on an address of their own; and the drain that they show.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Client, until } from "./lib/client.mjs";
import { Server } from "./lib/server.mjs";

async function start(t, flags = []) {
  const server = await Server.start(t, { flags: ["--admin-listen", "127.0.0.1:0", ...flags] });
  await until(() => server.admin, "the admin listener");
  return server;
}

// Every sample by its name and labels.
async function scrape(server) {
  const response = await fetch(`${server.admin}/metrics`);
  assert.equal(response.status, 200);
  assert.match(response.headers.get("content-type"), /^text\/plain; version=0\.0\.4/);
  const lines = (await response.text()).split("\n").filter((line) => line && line[0] !== "#");
  return Object.fromEntries(
    lines.map((line) => [line.slice(0, line.lastIndexOf(" ")), Number(line.split(" ").at(-1))]),
  );
}

test("what happens is counted", async (t) => {
  const server = await start(t);
  const ann = await Client.join(t, server, "ann", "room", { transports: ["websocket"] });
  const ben = await Client.join(t, server, "ben", "room", { transports: ["polling"] });
  const ack = await ann.socket.emitWithAck("chat:message", { room: "room", text: "hello" });
  assert.equal(ack.status, "ok");
  await ben.next("chat:message");
  let seen = await scrape(server);
  assert.equal(seen['sockeye_connections{transport="websocket"}'], 1);
  assert.equal(seen['sockeye_connections{transport="polling"}'], 1);
  assert.equal(seen.sockeye_sockets, 2);
  assert.equal(seen.sockeye_rooms, 1);
  // Two joins and a message.
  assert.equal(seen.sockeye_event_seconds_count, 3);
  assert.ok(seen.sockeye_received_bytes_total > 0 && seen.sockeye_sent_bytes_total > 0);
  assert.ok(seen.sockeye_packets_received_total >= 5 && seen.sockeye_packets_sent_total >= 8);
  assert.ok(seen.chat_store_writes_total >= 3);
  assert.ok(seen.chat_store_transaction_seconds_count >= 1);

  const refused = await fetch(`${server.url}/socket.io/?EIO=4&transport=polling&sid=unknown`);
  assert.equal(refused.status, 400);
  for (const { socket } of [ann, ben]) socket.disconnect();
  await until(async () => {
    seen = await scrape(server);
    return seen.sockeye_sockets === 0 && seen.sockeye_rooms === 0;
  }, "all have gone");
  assert.equal(seen['sockeye_requests_refused_total{reason="UNKNOWN_SID"}'], 1);
  await until(async () => {
    seen = await scrape(server);
    const closed = seen['sockeye_connections_closed_total{reason="transport close"}'];
    return closed === 2;
  }, "both connections are counted as closed");
  assert.equal(seen['sockeye_connections{transport="websocket"}'], 0);
  assert.equal(seen['sockeye_connections{transport="polling"}'], 0);
  assert.equal(seen.sockeye_outbox_bytes, 0);
});

test("what is too fast is counted by its limit", async (t) => {
  const server = await start(t, ["--messages-per-second", "1"]);
  const ann = await Client.join(t, server, "ann", "room");
  const answers = [];
  // However long eight take: the limit is reached once they come faster than it allows.
  await until(async () => {
    const eight = Array.from({ length: 8 }, () =>
      ann.ask("chat:message", { room: "room", text: "x" }),
    );
    answers.push(...(await Promise.all(eight)));
    return answers.some((answer) => answer.code === "too_fast");
  }, "it is too fast");
  const refused = answers.filter((answer) => answer.code === "too_fast").length;
  assert.equal((await scrape(server))['chat_limited_total{what="messages"}'], refused);
});

test("the public address does not tell the metrics", async (t) => {
  const server = await start(t);
  const response = await fetch(`${server.url}/metrics`);
  assert.ok(!(await response.text()).includes("sockeye_"));
  for (const path of ["/healthz", "/readyz"]) {
    assert.equal((await fetch(server.admin + path)).status, 200);
  }
});

test("clients are sent away little by little, and the admin listener tells how many are left", async (t) => {
  const server = await start(t, ["--drain-seconds", "20"]);
  const clients = [];
  for (let each = 0; each < 12; each += 1) {
    clients.push(await Client.join(t, server, `user${each}`, "room", { reconnection: false }));
  }
  const gone = () => clients.filter(({ socket }) => !socket.connected).length;
  server.child.kill("SIGTERM");
  await until(() => gone() > 0, "the first has gone");
  assert.ok(gone() < clients.length, "others stay for a while");
  assert.equal((await fetch(`${server.admin}/readyz`)).status, 503);
  assert.ok((await scrape(server)).sockeye_sockets > 0);
  assert.equal(await server.ended, 0);
  await until(() => gone() === clients.length, "all have gone");
});
