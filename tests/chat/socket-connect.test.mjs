// Who may connect to Socket.IO, and what the others are told.

import assert from "node:assert/strict";
import { before, test } from "node:test";

import { Client, until } from "./lib/client.mjs";
import { SECRET, Server, token, wholeFile } from "./lib/server.mjs";

const file = wholeFile();
let server;
before(async () => {
  server = await Server.start(file);
});

const past = Math.floor(Date.now() / 1000) - 1;
const good = token("ann");
const [header, claims, signature] = good.split(".");

for (const [what, auth, message, code] of [
  ["no auth", {}, "Authentication required", "auth_required"],
  ["no token", { token: null }, "Authentication required", "auth_required"],
  ["an empty token", { token: "" }, "Authentication required", "auth_required"],
  ["garbage", { token: "garbage" }, "Invalid token", "invalid_token"],
  ["dots", { token: "..." }, "Invalid token", "invalid_token"],
  ["a number", { token: 5 }, "Invalid token", "invalid_token"],
  ["an object", { token: { token: good } }, "Invalid token", "invalid_token"],
  ["an expired token", { token: token("ann", { exp: past }) }, "Invalid token", "token_expired"],
  [
    "an expired token under another secret",
    { token: token("ann", { exp: past, secret: SECRET.toUpperCase() }) },
    "Invalid token",
    "invalid_token",
  ],
  [
    "another secret",
    { token: token("ann", { secret: SECRET.toUpperCase() }) },
    "Invalid token",
    "invalid_token",
  ],
  ["no signature", { token: `${header}.${claims}.` }, "Invalid token", "invalid_token"],
  [
    "changed claims",
    { token: `${header}.${token("ben").split(".")[1]}.${signature}` },
    "Invalid token",
    "invalid_token",
  ],
  [
    "alg none",
    { token: token("ann", { header: { typ: "JWT", alg: "none" } }) },
    "Invalid token",
    "invalid_token",
  ],
  [
    "alg none without signature",
    {
      token: `${token("ann", { header: { alg: "none" } })
        .split(".")
        .slice(0, 2)
        .join(".")}.`,
    },
    "Invalid token",
    "invalid_token",
  ],
  [
    "another algorithm",
    { token: token("ann", { header: { typ: "JWT", alg: "HS512" } }) },
    "Invalid token",
    "invalid_token",
  ],
  ["no end", { token: token("ann", { exp: undefined }) }, "Invalid token", "invalid_token"],
  ["no name", { token: token(undefined) }, "Invalid token", "invalid_token"],
]) {
  test(`${what}: connect_error with "${message}" and ${code}`, async (t) => {
    for (const transport of ["websocket", "polling"]) {
      const client = new Client(t, server, "ann", { auth, transports: [transport] });
      const error = await client.next("connect_error");
      assert.equal(error.message, message);
      assert.deepEqual(error.data, { code });
      assert.equal(client.socket.connected, false);
      assert.deepEqual(client.heard, [], "nothing else is told");
    }
  });
}

test("a good token connects over polling, WebSocket and the upgrade, and gets a secret session id", async (t) => {
  const sessions = new Set();
  for (const transports of [["polling"], ["websocket"], ["polling", "websocket"]]) {
    const client = await Client.connect(t, server, "ann", { transports });
    assert.match(client.session, /^[\w-]{43}$/);
    assert.notEqual(client.session, client.socket.id);
    sessions.add(client.session);
  }
  assert.equal(sessions.size, 3);
});

test("a token that the server itself gave connects as that user", async (t) => {
  const { body } = await server.register("Karl");
  const karl = await Client.connect(t, server, "Karl", { auth: { token: body.accessToken } });
  assert.deepEqual((await karl.joins("room of karl")).members, ["Karl"]);
});

test("a token that ends while its connection lives ends nothing", async (t) => {
  let [soon, auth] = [];
  // On a machine that stands still for a while it may end before that: then one lives for longer.
  let seconds = 1;
  const client = await until(async () => {
    soon = Math.floor(Date.now() / 1000) + (seconds *= 2);
    auth = { token: token("ann", { exp: soon }) };
    const client = new Client(t, server, "ann", { auth });
    const { event, args } = await client.until(() => client.heard[0]);
    if (event === "session:created") return client;
    assert.equal(args[0].data.code, "token_expired");
    assert.ok(Date.now() >= soon * 1000, "in time it is let in");
    return false;
  }, "it connects in time");
  await client.joins("long");
  await until(() => Date.now() > (soon + 1) * 1000, "the end of the token");
  const late = new Client(t, server, "ann", { auth });
  assert.equal((await late.next("connect_error")).data.code, "token_expired");
  assert.ok(await client.says("long", "still here"));
});

test("another namespace is refused", async (t) => {
  const client = new Client(t, { url: `${server.url}/admin` }, "ann");
  assert.equal((await client.next("connect_error")).message, "Invalid namespace");
});
