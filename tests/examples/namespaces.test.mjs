// Page `namespaces`: /chat and /notifications over one connection.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Manager } from "socket.io-client";
import { client, next, serve } from "./lib/page.mjs";

async function window(t, page, name) {
  const manager = new Manager(page.url, { reconnection: false });
  const notifications = manager.socket("/notifications", { auth: { name } });
  const unread = next(notifications, "unread");
  const chat = manager.socket("/chat", { auth: { name } });
  t.after(() => [chat, notifications].forEach((socket) => socket.disconnect()));
  await Promise.all([next(chat, "connect"), unread]);
  return { chat, notifications, manager };
}

test("each namespace has its own events, over one connection", async (t) => {
  const page = await serve(t, "namespaces");
  const anna = await window(t, page, "anna");
  const bert = await window(t, page, "bert");
  assert.notEqual(anna.chat.id, anna.notifications.id);
  assert.equal(anna.chat.io.engine, anna.notifications.io.engine);
  const astray = [];
  for (const { notifications } of [anna, bert]) {
    notifications.on("message", (message) => astray.push(message));
  }

  const heard = [next(anna.chat, "message"), next(bert.chat, "message")];
  const mention = next(bert.notifications, "mention");
  assert.equal(await anna.chat.emitWithAck("message", "hello @bert"), 1);
  for (const message of heard) {
    assert.deepEqual(await message, [{ from: "anna", text: "hello @bert" }]);
  }
  assert.deepEqual(await mention, [{ by: "anna" }]);
  assert.deepEqual(astray, []);
});

test("one namespace is left while the other stays", async (t) => {
  const page = await serve(t, "namespaces");
  const { chat, notifications } = await window(t, page, "anna");
  notifications.disconnect();
  assert.equal(await chat.emitWithAck("message", "still here"), 0);
});

test("a middleware refuses who has no name, and what is no namespace is none", async (t) => {
  const page = await serve(t, "namespaces");
  const [nobody] = await next(client(t, page, { namespace: "/chat" }), "connect_error");
  assert.match(nobody.message, /^auth is not what was expected/);
  const [nowhere] = await next(client(t, page, { namespace: "/nowhere" }), "connect_error");
  assert.equal(nowhere.message, "Invalid namespace");
});
