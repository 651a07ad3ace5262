// The official client: nothing is lost, doubled or reordered while polling gives way to WebSocket.

import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { ask, client, collect, connect, connected, upgraded } from "../lib/client.mjs";
import { useServer } from "../lib/server.mjs";
import { inParallel } from "../lib/wait.mjs";

const MESSAGES = 1_000;
const server = await useServer();

test("the upgrade happens, and the session stays the same", async (t) => {
  const socket = await connect(t, server, "upgrade");
  const { id } = socket;
  const session = socket.io.engine.id;
  await upgraded(socket);
  assert.equal(socket.io.engine.transport.name, "websocket");
  const me = await ask(socket, "whoami");
  assert.equal(me.transport, "websocket");
  assert.equal(me.id, id);
  assert.equal(socket.io.engine.id, session);
  assert.notEqual(id, session, "the session's id is a secret, and no socket's");
});

test("1,000 messages keep their order from client to server during the upgrade", async (t) => {
  const socket = client(t, server, "upgrade");
  const echoed = collect(socket, "echo");
  await connected(socket);
  const sent = await sendAcrossUpgrade(socket, (i) => socket.emit("echo", i));
  for (let i = 0; i < sent; i += 1) assert.deepEqual(await echoed.next(), [i]);
});

test("1,000 messages keep their order from server to client during the upgrade", async (t) => {
  const socket = client(t, server, "upgrade");
  const streamed = collect(socket, "part");
  await connected(socket);
  const done = ask(socket, "stream", "part", MESSAGES, 20);
  for (let i = 0; i < MESSAGES; i += 1) assert.equal((await streamed.next())[0], i);
  await done;
  await upgraded(socket);
  assert.equal(streamed.size, 0);
});

test("1,000 messages each way at once, text and binary, during the upgrade", async (t) => {
  const socket = client(t, server, "upgrade");
  const echoed = collect(socket, "echo");
  const streamed = collect(socket, "part");
  await connected(socket);
  const done = ask(socket, "stream", "part", MESSAGES, 20);
  const value = (i) => (i % 10 === 0 ? Buffer.from(String(i)) : i);
  const sent = await sendAcrossUpgrade(socket, (i) => socket.emit("echo", value(i)));
  for (let i = 0; i < sent; i += 1) assert.deepEqual(await echoed.next(), [value(i)]);
  for (let i = 0; i < MESSAGES; i += 1) assert.equal((await streamed.next())[0], i);
  await done;
});

test("many clients upgrade at once while they talk", async (t) => {
  await inParallel(40, 8, async (number) => {
    const socket = await connect(t, server, "upgrade");
    const echoed = collect(socket, "echo");
    const sent = await sendAcrossUpgrade(socket, (i) => socket.emit("echo", number, i), 50);
    for (let i = 0; i < sent; i += 1) assert.deepEqual(await echoed.next(), [number, i]);
    socket.disconnect();
  });
});

/** Sends at least `count` numbered messages, a few per turn, until the upgrade is over. */
async function sendAcrossUpgrade(socket, send, count = MESSAGES) {
  const { engine } = socket.io;
  let sent = 0;
  while (sent < count || engine.transport.name !== "websocket") {
    send(sent);
    sent += 1;
    if (sent % 5 === 0) await turn();
    // Once the count is reached, one message per turn: the upgrade needs its share of the machine.
    else if (sent > count) await turn();
  }
  for (let i = 0; i < 20; i += 1) send(sent++);
  return sent;
}
