// Attempts to sign in are limited per name and per address.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Server } from "./lib/server.mjs";

const from = (address) => ({ "x-forwarded-for": address });
// Whoever speaks for a trusted proxy can be many addresses.
const flags = ["--sign-ins-per-minute", "3", "--trusted-proxies", "127.0.0.1"];

// What comes now is refused. A slow machine may have been given another attempt meanwhile, one in
// each third of a minute since `begun`: that is used up first.
async function isLimited(begun, attempt) {
  let answer = await attempt();
  for (let more = 1; answer.status !== 429; more += 1) {
    assert.ok(Date.now() - begun >= more * 20_000, `${more} too many: ${answer.status}`);
    answer = await attempt();
  }
  assert.equal(answer.body.error.code, "too_many");
  // A third of a minute until the next one, in whole seconds.
  const seconds = Number(answer.headers.get("retry-after"));
  assert.ok(Number.isInteger(seconds) && seconds >= 1 && seconds <= 21, `Retry-After: ${seconds}`);
}

test("an address that tries too often waits, whatever the names; others do not", async (t) => {
  const server = await Server.start(t, { flags });
  const begun = Date.now();
  for (let i = 0; i < 3; i += 1)
    assert.equal(
      (await server.login(`guess${i}`, "wrong password", from("192.0.2.1"))).status,
      401,
    );
  await isLimited(begun, () => server.login("guess4", "wrong password", from("192.0.2.1")));
  await isLimited(begun, () => server.register("guess5", "a password", from("192.0.2.1")));
  assert.equal((await server.register("guess6", "a long password", from("192.0.2.2"))).status, 201);
});

test("a name that is tried too often waits, from whatever address and in whatever case; others do not", async (t) => {
  const server = await Server.start(t, { flags });
  const begun = Date.now();
  assert.equal((await server.register("ann", "a long password", from("192.0.2.1"))).status, 201);
  for (let i = 2; i < 4; i += 1)
    assert.equal((await server.login("ann", "wrong password", from(`192.0.2.${i}`))).status, 401);
  await isLimited(begun, () => server.login("Ann", "a long password", from("192.0.2.4")));
  assert.equal((await server.login("bea", "wrong password", from("192.0.2.4"))).status, 401);
});

test("an address that is over its limit takes nothing from the names that it tries", async (t) => {
  const server = await Server.start(t, { flags });
  const begun = Date.now();
  for (let i = 0; i < 3; i += 1)
    await server.login(`guess${i}`, "wrong password", from("192.0.2.1"));
  for (let i = 0; i < 5; i += 1)
    await isLimited(begun, () => server.login("ann", "wrong password", from("192.0.2.1")));
  assert.equal((await server.register("ann", "a long password", from("192.0.2.2"))).status, 201);
});

test("the addresses of one IPv6 network are one address", async (t) => {
  const server = await Server.start(t, { flags });
  const begun = Date.now();
  for (let i = 1; i < 4; i += 1)
    await server.login(`guess${i}`, "wrong password", from(`2001:db8::${i}`));
  await isLimited(begun, () => server.login("guess4", "wrong password", from("2001:db8::4")));
  assert.equal(
    (await server.login("guess4", "wrong password", from("2001:db8:0:1::4"))).status,
    401,
  );
});

test("without a trusted proxy nobody is somebody else", async (t) => {
  const server = await Server.start(t, { flags: flags.slice(0, 2) });
  const begun = Date.now();
  for (let i = 1; i < 4; i += 1)
    await server.login(`guess${i}`, "wrong password", from(`192.0.2.${i}`));
  await isLimited(begun, () => server.login("guess4", "wrong password", from("192.0.2.4")));
});

test("a form that cannot be right costs no attempt, and refreshing is none", async (t) => {
  const server = await Server.start(t, { flags });
  for (let i = 0; i < 5; i += 1) assert.equal((await server.register("x", "x")).status, 422);
  let { cookie, status } = await server.register("ann");
  assert.equal(status, 201);
  for (let i = 0; i < 5; i += 1) ({ cookie, status } = await server.refresh(cookie));
  assert.equal(status, 200);
});
