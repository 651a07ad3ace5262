// The official client: namespaces on one connection, middleware and its refusals, in every mode.

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
  next,
  refusal,
} from "../lib/client.mjs";
import { useServer } from "../lib/server.mjs";

const server = await useServer();

for (const mode of Object.keys(MODES)) {
  test(`${mode}: several namespaces share one connection and nothing else`, async (t) => {
    const before = await server.stats();
    const root = await connect(t, server, mode);
    const chat = await connectBeside(t, root, "/chat");
    const admin = await connectBeside(t, root, "/admin", { token: "letmein" });
    assert.equal((await server.stats()).sessions, before.sessions + 1);

    const ids = new Set([root.id, chat.id, admin.id, root.io.engine.id]);
    assert.equal(ids.size, 4, "a public id per namespace, none of them the session's");
    for (const id of ids) assert.match(id, /^[\w-]{20}$/);

    const strayed = collect(root, "echo");
    chat.emit("echo", "for /chat");
    assert.deepEqual(await next(chat, "echo"), ["for /chat"]);
    assert.equal((await ask(chat, "whoami")).namespace, "/chat");
    assert.equal((await ask(root, "whoami")).namespace, "/");
    assert.equal(strayed.size, 0);
  });

  test(`${mode}: leaving one namespace leaves the others`, async (t) => {
    const root = await connect(t, server, mode);
    const chat = await connectBeside(t, root, "/chat", { mark: `leaving ${mode}` });
    const first = chat.id;
    chat.disconnect();
    const { reason } = await server.logged(`leaving ${mode}`, "disconnect");
    assert.equal(reason, "client namespace disconnect");
    assert.equal(await ask(root, "echo", "still"), "still");

    chat.connect();
    await connected(chat);
    assert.notEqual(chat.id, first);
    assert.equal(await ask(chat, "echo", "again"), "again");
  });

  test(`${mode}: an unknown namespace is refused, the connection stays`, async (t) => {
    const root = await connect(t, server, mode);
    const unknown = root.io.socket("/unknown");
    const error = await refusal(unknown);
    assert.equal(error.message, "Invalid namespace");
    assert.equal(error.data, undefined);
    assert.equal(await ask(root, "echo", "still"), "still");
  });

  test(`${mode}: a namespace with a query is another, unknown namespace`, async (t) => {
    const root = await connect(t, server, mode);
    assert.equal((await refusal(root.io.socket("/chat?x=1"))).message, "Invalid namespace");
  });

  test(`${mode}: middleware refuses with a message and data`, async (t) => {
    for (const auth of [{}, { token: "wrong" }]) {
      const socket = client(t, server, mode, { namespace: "/admin", auth });
      const error = await refusal(socket);
      assert.equal(error.message, "not authorized");
      assert.deepEqual(error.data, { code: "E_TOKEN", given: auth.token ?? null });
      assert.equal(socket.active, false);
      assert.equal(socket.connected, false);
    }
  });

  test(`${mode}: a refusal without data has none`, async (t) => {
    const auth = { token: "letmein", plain: true };
    const error = await refusal(client(t, server, mode, { namespace: "/admin", auth }));
    assert.equal(error.message, "plain refusal");
    assert.equal(error.data, undefined);
  });

  test(`${mode}: a refused client may try again with another token`, async (t) => {
    const root = await connect(t, server, mode);
    const admin = root.io.socket("/admin", { auth: { token: "wrong" } });
    t.after(() => admin.disconnect());
    await refusal(admin);
    admin.auth = { token: "letmein" };
    admin.connect();
    await connected(admin);
    assert.deepEqual((await ask(admin, "whoami")).data, { user: "admin" });
  });

  test(`${mode}: auth may be a function and reaches the handshake`, async (t) => {
    const auth = (callback) => callback({ token: "letmein", nested: { list: [1, "é"] } });
    const socket = await connect(t, server, mode, { namespace: "/admin", auth });
    const me = await ask(socket, "whoami");
    assert.deepEqual(me.auth, { token: "letmein", nested: { list: [1, "é"] } });
  });

  test(`${mode}: H69 the handshake's query is that of the first request`, async (t) => {
    const socket = await connect(t, server, mode, { query: { room: "a b&c=ü" } });
    assert.equal((await ask(socket, "whoami")).query.room, "a b&c=ü");
  });

  test(`${mode}: a slow middleware holds up only its own namespace`, async (t) => {
    const root = await connect(t, server, mode);
    const slow = root.io.socket("/slow", { auth: { delay: 300, mark: `slow ${mode}` } });
    t.after(() => slow.disconnect());
    const entered = connected(slow);
    await server.logged(`slow ${mode}`, "middleware");
    assert.equal(await ask(root, "echo", "meanwhile"), "meanwhile");
    await entered;
    const events = (await server.log(`slow ${mode}`)).map((record) => record.event);
    assert.deepEqual(events, ["middleware", "middleware-end", "connection"]);
  });

  test(`${mode}: socket.data is kept per socket`, async (t) => {
    const root = await connect(t, server, mode);
    const chat = await connectBeside(t, root, "/chat");
    await ask(root, "data-set", "color", { name: "blue" });
    assert.deepEqual(await ask(root, "data-get", "color"), { name: "blue" });
    assert.equal(await ask(chat, "data-get", "color"), null);
  });

  test(`${mode}: the server disconnects one namespace`, async (t) => {
    const root = await connect(t, server, mode);
    const chat = await connectBeside(t, root, "/chat", { mark: `kicked ${mode}` });
    const bye = next(chat, "bye");
    const reason = disconnection(chat);
    chat.emit("disconnect-me", false, "last words");
    assert.deepEqual(await bye, ["last words"]);
    assert.equal(await reason, "io server disconnect");
    assert.equal(chat.active, false);
    const record = await server.logged(`kicked ${mode}`, "disconnect");
    assert.equal(record.reason, "server namespace disconnect");
    assert.equal(await ask(root, "echo", "still"), "still");
  });

  test(`${mode}: H61 the server disconnects the whole connection`, async (t) => {
    const root = await connect(t, server, mode, { auth: { mark: `closed ${mode}` } });
    const chat = await connectBeside(t, root, "/chat");
    const bye = next(root, "bye");
    const reasons = [disconnection(root), disconnection(chat)];
    root.emit("disconnect-me", true, "last words", Buffer.from("and bytes"));
    assert.deepEqual(await bye, ["last words", Buffer.from("and bytes")]);
    const wanted = ["io server disconnect", "io server disconnect"];
    assert.deepEqual(await Promise.all(reasons), wanted);
    const record = await server.logged(`closed ${mode}`, "disconnect");
    assert.equal(record.reason, "server namespace disconnect");
  });
}
