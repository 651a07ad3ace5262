// Refresh tokens, access tokens and their secret.

import assert from "node:assert/strict";
import { chmodSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { before, test } from "node:test";

import { Client } from "./lib/client.mjs";
import {
  PASSWORD,
  SECRET,
  Server,
  claimsOf,
  runToEnd,
  temporaryFolder,
  wholeFile,
} from "./lib/server.mjs";

const file = wholeFile();
let server;
before(async () => {
  server = await Server.start(file, { flags: ["--sign-ins-per-minute", "1000"] });
});

async function isSignedOut(answer) {
  assert.equal(answer.status, 401);
  assert.equal(answer.body.error.code, "signed_out");
}

test("refresh: a new access token and a new refresh token each time", async () => {
  const { cookie, body } = await server.register("ann");
  let last = cookie;
  for (let i = 0; i < 3; i += 1) {
    const answer = await server.refresh(last);
    assert.equal(answer.status, 200);
    assert.deepEqual(answer.body.user, body.user);
    assert.equal(claimsOf(answer.body.accessToken).username, "ann");
    assert.notEqual(answer.cookie, last);
    assert.match(
      answer.headers.getSetCookie()[0],
      /; Path=\/api; HttpOnly; SameSite=Strict; Max-Age=2592000$/,
    );
    last = answer.cookie;
  }
});

test("an old refresh token ends its sign-in for good, and no other", async () => {
  const { cookie: first } = await server.register("bea");
  const { cookie: other } = await server.login("bea");
  const { cookie: second } = await server.refresh(first);
  const { cookie: third } = await server.refresh(second);
  await isSignedOut(await server.refresh(first));
  for (const token of [third, second, first]) await isSignedOut(await server.refresh(token));
  const { cookie: next, status } = await server.refresh(other);
  assert.equal(status, 200);
  // So it stays after a crash.
  await server.restart();
  await isSignedOut(await server.refresh(third));
  assert.equal((await server.refresh(next)).status, 200);
});

test("two that refresh with one token at once: one of them at the most gets through, and the sign-in ends", async () => {
  const { cookie } = await server.register("carl");
  const answers = await Promise.all([server.refresh(cookie), server.refresh(cookie)]);
  assert.deepEqual(answers.map((answer) => answer.status).sort(), [200, 401]);
  const fresh = answers.find((answer) => answer.status === 200).cookie;
  await isSignedOut(await server.refresh(fresh));
});

test("two windows that refresh one after the other share the cookie and go on", async () => {
  let { cookie } = await server.register("dora");
  for (let i = 0; i < 6; i += 1) {
    const answer = await server.refresh(cookie);
    assert.equal(answer.status, 200);
    cookie = answer.cookie;
  }
});

test("without a refresh token, with nonsense or with a made-up one it is 401", async () => {
  const { cookie } = await server.register("emma");
  const [name, value] = cookie.split("=");
  const [id, secret] = value.split(".");
  for (const wrong of [
    undefined,
    `${name}=`,
    `${name}=x`,
    `${name}=.`,
    `other=${value}`,
    `${name}=${"x".repeat(20)}.${secret}`,
  ]) {
    await isSignedOut(await server.refresh(wrong));
  }
  // Among others, without spaces, it is found.
  const found = await server.refresh(`a=b;${cookie};c=d`);
  assert.equal(found.status, 200);
  // The right sign-in with a wrong secret: someone guesses, and it ends.
  await isSignedOut(await server.refresh(`${name}=${id}.${"x".repeat(43)}`));
  await isSignedOut(await server.refresh(found.cookie));
});

test("logout: 204, the cookie is taken away, and its sign-in is over", async () => {
  const { cookie } = await server.register("finn");
  const { cookie: other } = await server.login("finn");
  const answer = await server.post("/api/logout", undefined, { cookie });
  assert.equal(answer.status, 204);
  assert.equal(
    answer.headers.getSetCookie()[0],
    "sockeye_refresh=; Path=/api; HttpOnly; SameSite=Strict; Max-Age=0",
  );
  await isSignedOut(await server.refresh(cookie));
  assert.equal((await server.refresh(other)).status, 200);
  // Twice, or signed out already, is no mistake.
  assert.equal((await server.post("/api/logout", undefined, { cookie })).status, 204);
  assert.equal((await server.post("/api/logout")).status, 204);
});

test("a refresh token that is not used ends after --refresh-token-seconds", async (t) => {
  const short = await Server.start(t, { flags: ["--refresh-token-seconds", "1"] });
  const { cookie, headers } = await short.register("gina");
  assert.match(headers.getSetCookie()[0], /Max-Age=1$/);
  const ends = Date.now() + 1100;
  while (Date.now() < ends) await short.refresh();
  await isSignedOut(await short.refresh(cookie));
});

test("--cookie-secure keeps the cookie to HTTPS", async (t) => {
  const secure = await Server.start(t, { flags: ["--cookie-secure"] });
  assert.match((await secure.register("hugo")).headers.getSetCookie()[0], /; Secure$/);
});

test("an access token says who, from when and until when, and nothing else", async (t) => {
  const short = await Server.start(t, { flags: ["--access-token-seconds", "7"] });
  const before = Math.floor(Date.now() / 1000);
  const { body } = await short.register("Iris");
  const claims = claimsOf(body.accessToken);
  assert.deepEqual(Object.keys(claims).sort(), ["exp", "iat", "sub", "username"]);
  assert.equal(claims.sub, body.user.id);
  assert.equal(claims.username, "Iris");
  assert.ok(claims.iat >= before && claims.iat <= Date.now() / 1000, "seconds since 1970");
  assert.equal(claims.exp, claims.iat + 7);
  assert.equal(body.expiresAt, claims.exp * 1000);
});

test("without JWT_SECRET the secret is made once, kept with mode 0600, and outlives a crash", async (t) => {
  const own = await Server.start(t, { alone: true, env: {} });
  const file = join(own.data, "jwt-secret");
  const secret = readFileSync(file, "utf8");
  assert.ok(secret.length >= 43);
  assert.equal(statSync(file).mode & 0o777, 0o600);
  const { body } = await own.register("jane");
  claimsOf(body.accessToken, secret);
  chmodSync(file, 0o644);
  await own.restart();
  assert.equal(readFileSync(file, "utf8"), secret);
  assert.equal(statSync(file).mode & 0o777, 0o600, "after a careless copy too");
  const jane = await Client.connect(t, own, "jane", { auth: { token: body.accessToken } });
  assert.ok(jane.session);
  // All that is kept is its owner's alone.
  assert.equal(statSync(join(own.data, "chat.redb")).mode & 0o777, 0o600);
});

test("the data folder is made for its owner alone", async (t) => {
  const data = join(temporaryFolder(t), "made", "here");
  await Server.start(t, { alone: true, env: {}, data });
  assert.equal(statSync(data).mode & 0o777, 0o700);
});

test("with JWT_SECRET no secret is kept", async (t) => {
  const { data } = await Server.start(t, { alone: true });
  assert.throws(() => statSync(join(data, "jwt-secret")), { code: "ENOENT" });
});

test("a secret that is too short ends the start, and says where it stands", async (t) => {
  const data = temporaryFolder(t);
  const flags = ["--data-dir", data, "--listen", "127.0.0.1:0"];
  const short = SECRET.slice(0, 31);
  const named = await runToEnd(flags, { env: { JWT_SECRET: short } });
  assert.notEqual(named.code, 0);
  assert.match(named.output, /JWT_SECRET.*31 bytes.*at least 32/);
  assert.ok(!named.output.includes(short), "a secret is not printed");
  mkdirSync(data, { recursive: true });
  writeFileSync(join(data, "jwt-secret"), "short");
  const kept = await runToEnd(flags);
  assert.notEqual(kept.code, 0);
  assert.match(kept.output, /jwt-secret has 5 bytes; expected at least 32/);
});

test("what is kept of passwords and tokens is not what was given", async (t) => {
  const own = await Server.start(t, { alone: true });
  const { cookie } = await own.register("karl");
  await own.stop("SIGTERM");
  const kept = readFileSync(join(own.data, "chat.redb"), "latin1");
  assert.match(kept, /\$argon2id\$/);
  const [id, secret] = cookie.split("=")[1].split(".");
  assert.ok(kept.includes(id));
  for (const plain of [PASSWORD, secret]) assert.ok(!kept.includes(plain));
});
