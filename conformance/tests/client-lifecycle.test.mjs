// The official client: how connections end, what each side is told, and coming back afterwards.

import assert from "node:assert/strict";
import { test } from "node:test";
import {
  ask,
  client,
  collect,
  connect,
  connectBeside,
  connected,
  disconnection,
  MODES,
} from "../lib/client.mjs";
import { serverFor, useServer } from "../lib/server.mjs";
import { until } from "../lib/wait.mjs";

const RECONNECTING = { reconnection: true, reconnectionDelay: 50, reconnectionDelayMax: 200 };
const server = await useServer();

for (const mode of Object.keys(MODES)) {
  test(`${mode}: H60 disconnecting still has its rooms, disconnect has none`, async (t) => {
    const mark = `rooms ${mode}`;
    const socket = await connect(t, server, mode, { auth: { mark } });
    const { id } = socket;
    await ask(socket, "join", ["x", "y"]);
    socket.disconnect();
    await server.logged(mark, "disconnect");
    const common = { mark, namespace: "/", id };
    const reason = "client namespace disconnect";
    assert.deepEqual(await server.log(mark), [
      { ...common, event: "connection", rooms: [id] },
      { ...common, event: "disconnecting", reason, rooms: [id, "x", "y"].sort() },
      { ...common, event: "disconnect", reason, rooms: [], description: null },
    ]);
  });

  test(`${mode}: closing the engine is a transport close for every namespace`, async (t) => {
    const root = await connect(t, server, mode, { auth: { mark: `engine ${mode} /` } });
    await connectBeside(t, root, "/chat", { mark: `engine ${mode} /chat` });
    root.io.engine.close();
    for (const namespace of ["/", "/chat"]) {
      const { reason } = await server.logged(`engine ${mode} ${namespace}`, "disconnect");
      assert.equal(reason, "transport close");
    }
  });

  test(`${mode}: a server killed under the client comes back`, async (t) => {
    const own = await serverFor(t);
    const socket = await connect(t, own, mode, RECONNECTING);
    const first = socket.id;
    const reason = disconnection(socket);
    await own.kill();
    assert.match(await reason, /^transport (close|error)$/);
    const buffered = ask(socket, "echo", "while away");
    await own.start();
    // Some attempts may still fail, so this does not wait for the next outcome.
    await until("the client to be back", () => socket.connected);
    assert.notEqual(socket.id, first);
    assert.equal(await buffered, "while away");
    assert.equal(await ask(socket, "echo", "again"), "again");
  });

  test(`${mode}: SIGTERM closes every client, and they come back to the next server`, async (t) => {
    const own = await serverFor(t);
    const socket = await connect(t, own, mode, RECONNECTING);
    const chat = await connectBeside(t, socket, "/chat");
    const reasons = [disconnection(socket), disconnection(chat)];
    await own.stop();
    // Over polling the answer to the last GET may be lost to the end of the process.
    const allowed = mode === "websocket" ? /^transport close$/ : /^transport (close|error)$/;
    for (const reason of await Promise.all(reasons)) assert.match(reason, allowed);
    await own.start();
    await until("both namespaces to be back", () => socket.connected && chat.connected);
    assert.equal(await ask(chat, "echo", "again"), "again");
  });

  test(`${mode}: disconnect(true) is final until the client connects again`, async (t) => {
    const socket = await connect(t, server, mode, RECONNECTING);
    const attempts = collect(socket.io, "reconnect_attempt");
    const reason = disconnection(socket);
    socket.emit("disconnect-me", true);
    assert.equal(await reason, "io server disconnect");
    assert.equal(socket.active, false);
    socket.connect();
    await connected(socket);
    assert.equal(await ask(socket, "echo", "again"), "again");
    assert.equal(attempts.size, 0);
  });

  test(`${mode}: heartbeats keep an idle client, in both directions`, async (t) => {
    const own = await serverFor(t, { pingInterval: 100, pingTimeout: 10_000 });
    const socket = await connect(t, own, mode);
    const pings = collect(socket.io, "ping");
    for (let i = 0; i < 5; i += 1) await pings.next("a ping");
    assert.equal(socket.connected, true);
    assert.equal(await ask(socket, "echo", "idle no more"), "idle no more");
  });
}

test("a client without a server keeps trying and arrives at last", async (t) => {
  const own = await serverFor(t);
  await own.kill();
  const socket = client(t, own, "upgrade", RECONNECTING);
  const errors = collect(socket, "connect_error");
  const answer = ask(socket, "echo", "patience");
  await errors.next("a first failure");
  await errors.next("a second failure");
  await own.start();
  assert.equal(await answer, "patience");
});

test("a disconnected client leaves nothing on the server", async (t) => {
  const own = await serverFor(t);
  for (const mode of Object.keys(MODES)) {
    const socket = await connect(t, own, mode);
    await connectBeside(t, socket, "/chat");
    await ask(socket, "join", ["a", "b"]);
    const { sessions, sockets, rooms } = await own.stats();
    assert.deepEqual({ sessions, sockets, rooms }, { sessions: 1, sockets: 2, rooms: 4 });
    socket.io.engine.close();
    await own.empty();
  }
});
