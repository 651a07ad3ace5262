// Page `sessions`: who comes back is who they were.

import assert from "node:assert/strict";
import { test } from "node:test";
import { client, next, serve } from "./lib/page.mjs";

/** A window of a browser, whose storage outlives it. */
async function open(t, page, storage) {
  const { sessionId, username } = storage;
  const socket = client(t, page, { auth: sessionId ? { sessionId } : { username } });
  const [session] = await next(socket, "session");
  storage.sessionId = session.sessionId;
  return { socket, session };
}

test("a reload restores the session", async (t) => {
  const page = await serve(t, "sessions");
  const storage = { username: "anna" };
  const before = await open(t, page, storage);
  before.socket.disconnect();
  const after = await open(t, page, storage);
  assert.deepEqual(after.session, before.session);
  assert.equal(after.session.username, "anna");
  assert.notEqual(after.session.userId, after.session.sessionId);
});

test("who has no session and no name is refused", async (t) => {
  const page = await serve(t, "sessions");
  for (const auth of [{}, { sessionId: "made up" }]) {
    const [error] = await next(client(t, page, { auth }), "connect_error");
    assert.equal(error.message, "a new session wants a username");
  }
});

test("a private message reaches all windows of both", async (t) => {
  const page = await serve(t, "sessions");
  const [ofAnna, ofBert] = [{ username: "anna" }, { username: "bert" }];
  const anna = await open(t, page, ofAnna);
  const secondOfAnna = await open(t, page, ofAnna);
  const bert = await open(t, page, ofBert);
  const secondOfBert = await open(t, page, ofBert);
  const heard = [bert, secondOfBert, secondOfAnna].map(({ socket }) => {
    return next(socket, "private message");
  });
  anna.socket.on("private message", () => assert.fail("the sender's own window has it already"));
  await anna.socket.emitWithAck("private message", bert.session.userId, "hello");
  const message = { from: anna.session.userId, to: bert.session.userId, text: "hello" };
  for (const one of heard) assert.deepEqual(await one, [message]);
});

test("a user is gone when the last window is", async (t) => {
  const page = await serve(t, "sessions");
  const anna = await open(t, page, { username: "anna" });
  const gone = [];
  anna.socket.on("user disconnected", (userId) => gone.push(userId));
  const storage = { username: "bert" };
  const connected = next(anna.socket, "user connected");
  const first = await open(t, page, storage);
  assert.equal((await connected)[0].username, "bert");
  const second = await open(t, page, storage);
  const { userId } = second.session;

  first.socket.disconnect();
  // A third who comes and goes shows that the first window's end has been handled.
  const other = await open(t, page, { username: "carl" });
  const last = next(anna.socket, "user disconnected");
  other.socket.disconnect();
  await last;
  assert.deepEqual(gone, [other.session.userId]);
  const bert = next(anna.socket, "user disconnected");
  second.socket.disconnect();
  assert.deepEqual(await bert, [userId]);
});
