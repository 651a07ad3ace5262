// What is acknowledged survives `kill -9`, and what was told to anybody does too.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Client, until } from "./lib/client.mjs";
import { Server } from "./lib/server.mjs";

const ROOMS = ["one", "two", "three"];
const NAMES = ["ann", "ben", "carl", "dora", "emma", "finn"];

// Talks in every room at once until the server is gone, and returns what was acknowledged.
async function talk(client, round) {
  const acknowledged = [];
  const inRoom = async (room) => {
    for (let i = 0; client.socket.connected; i += 1) {
      const text = `${client.username} ${round}.${i}`;
      // It fails when the connection ends.
      const ack = await client.socket
        .emitWithAck("chat:message", { room, text })
        .catch(() => null);
      if (ack) {
        assert.equal(ack.status, "ok", ack.message);
        acknowledged.push({ id: ack.id, username: client.username, text, room });
      }
    }
  };
  await Promise.all(ROOMS.map(inRoom));
  return acknowledged;
}

test("kill -9 in the middle of hundreds of messages, again and again", async (t) => {
  const flags = ["--messages-per-second", "100000", "--history-messages", "1000"];
  const server = await Server.start(t, { flags });
  const acknowledged = [];
  const told = new Map();
  for (let round = 0; round < 3; round += 1) {
    const clients = await Promise.all(NAMES.map((name) => Client.join(t, server, name, ROOMS)));
    const talking = clients.map((client) => talk(client, round));
    await until(() => clients[0].all("chat:message").length >= 120, "120 messages");
    await server.stop("SIGKILL");
    const added = (await Promise.all(talking)).flat();
    acknowledged.push(...added);
    for (const client of clients)
      for (const message of client.all("chat:message")) told.set(message.id, message);
    await server.start();
  }
  assert.ok(acknowledged.length >= 300, `${acknowledged.length} were acknowledged`);
  const reader = await Client.connect(t, server, "reader");
  const kept = [];
  for (const room of ROOMS) {
    const { history } = await reader.joins(room);
    const ids = history.map((message) => Number(message.id));
    assert.deepEqual(
      ids,
      [...ids].sort((a, b) => a - b),
      "oldest first",
    );
    assert.ok(history.length < 1000, "the history is whole");
    kept.push(...history);
    // What one client said in a room is in the order in which it said it.
    for (const name of NAMES) {
      const said = history
        .filter((message) => message.username === name)
        .map((message) => message.text.split(" ")[1].split(".").map(Number));
      assert.deepEqual(
        said,
        [...said].sort(([a, b], [c, d]) => a - c || b - d),
      );
    }
  }
  const byId = new Map(kept.map((message) => [message.id, message]));
  assert.equal(byId.size, kept.length, "no id is there twice");
  for (const { id, ...said } of acknowledged) {
    const { username, text, room } = byId.get(id) ?? {};
    assert.deepEqual({ username, text, room }, said);
    assert.equal(
      kept.filter((message) => message.text === text && message.room === room).length,
      1,
    );
  }
  for (const message of told.values())
    assert.deepEqual(byId.get(message.id), message, "what was told is kept");
});

test("accounts and sign-ins survive it too", async (t) => {
  const server = await Server.start(t, { flags: ["--sign-ins-per-minute", "1000"] });
  const registered = await Promise.all(NAMES.map((name) => server.register(name)));
  await server.restart("SIGKILL");
  for (const [i, name] of NAMES.entries()) {
    assert.equal((await server.register(name)).status, 409);
    const refreshed = await server.refresh(registered[i].cookie);
    assert.deepEqual(refreshed.body.user, registered[i].body.user);
    assert.deepEqual((await server.login(name)).body.user, registered[i].body.user);
  }
});
