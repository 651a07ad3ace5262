// Registering and signing in over HTTP.

import assert from "node:assert/strict";
import { before, test } from "node:test";

import { PASSWORD, Server, wholeFile } from "./lib/server.mjs";

const file = wholeFile();
let server;
before(async () => {
  server = await Server.start(file, { flags: ["--sign-ins-per-minute", "1000"] });
});

test("register: 201 with a token, its end, the user, and a cookie that scripts cannot read", async () => {
  const now = Date.now();
  const answer = await server.register("ann");
  assert.equal(answer.status, 201);
  assert.deepEqual(Object.keys(answer.body).sort(), ["accessToken", "expiresAt", "user"]);
  assert.deepEqual(Object.keys(answer.body.user).sort(), ["id", "username"]);
  assert.equal(answer.body.user.username, "ann");
  // Milliseconds, in 15 minutes.
  assert.ok(
    answer.body.expiresAt >= now + 899_000 && answer.body.expiresAt <= Date.now() + 901_000,
  );
  assert.match(answer.headers.get("content-type"), /^application\/json/);
  assert.equal(answer.headers.get("cache-control"), "no-store");
  const [cookie, ...more] = answer.headers.getSetCookie();
  assert.equal(more.length, 0);
  const [pair, ...attributes] = cookie.split("; ");
  assert.match(pair, /^sockeye_refresh=[\w-]{20}\.[\w-]{43}$/);
  assert.deepEqual(attributes.sort(), [
    "HttpOnly",
    "Max-Age=2592000",
    "Path=/api",
    "SameSite=Strict",
  ]);
});

test("login: 200 with the same shape, the same user, another sign-in", async () => {
  const registered = await server.register("bea");
  const answer = await server.login("bea");
  assert.equal(answer.status, 200);
  assert.deepEqual(answer.body.user, registered.body.user);
  assert.deepEqual(Object.keys(answer.body).sort(), ["accessToken", "expiresAt", "user"]);
  assert.notEqual(answer.cookie, registered.cookie);
});

test("a taken name is 409, in whatever case; signing in finds it in whatever case", async () => {
  await server.register("Carl");
  for (const name of ["Carl", "carl", "CARL"]) {
    const taken = await server.register(name, "another password");
    assert.equal(taken.status, 409, name);
    assert.equal(taken.body.error.code, "name_taken");
    assert.equal(taken.cookie, undefined);
    // As it was typed at first.
    assert.equal((await server.login(name)).body.user.username, "Carl");
  }
});

test("of many who register one name at once one gets it", async () => {
  const answers = await Promise.all(Array.from({ length: 8 }, () => server.register("contested")));
  const statuses = answers.map((answer) => answer.status).sort();
  assert.deepEqual(statuses, [201, ...Array(7).fill(409)]);
});

test("an unknown name and a wrong password get the same answer", async () => {
  await server.register("dora");
  const wrong = await server.login("dora", "not her password");
  const unknown = await server.login("nobody", "not her password");
  assert.equal(wrong.status, 401);
  assert.equal(unknown.status, 401);
  assert.deepEqual(unknown.body, wrong.body);
  const headers = (answer) => [...answer.headers].filter(([name]) => name !== "date");
  assert.deepEqual(headers(unknown), headers(wrong));
  assert.equal(wrong.cookie, undefined);
});

for (const [what, form, fields] of [
  ["nothing", {}, ["password", "username"]],
  ["a short name", { username: "ab", password: PASSWORD }, ["username"]],
  ["a long name", { username: "a".repeat(33), password: PASSWORD }, ["username"]],
  ["a name with other characters", { username: "änn a", password: PASSWORD }, ["username"]],
  ["a name of marks alone", { username: "...", password: PASSWORD }, ["username"]],
  ["a longer name of marks alone", { username: "_.-".repeat(5), password: PASSWORD }, ["username"]],
  ["a short password", { username: "free", password: "1234567" }, ["password"]],
  ["a long password", { username: "free", password: "x".repeat(129) }, ["password"]],
  ["numbers", { username: 12345, password: 12345678 }, ["password", "username"]],
  ["a list", ["free", PASSWORD], ["password", "username"]],
  ["null", null, ["password", "username"]],
]) {
  test(`register with ${what} is 422 with a message per field`, async () => {
    const answer = await server.post("/api/register", form);
    assert.equal(answer.status, 422);
    assert.deepEqual(Object.keys(answer.body.error.fields).sort(), fields);
    for (const message of Object.values(answer.body.error.fields))
      assert.match(message, /^A (name|password) has \d+ to \d+ /);
    assert.equal(answer.cookie, undefined);
  });
}

test("the longest and shortest that are allowed are allowed, passwords counted in characters", async () => {
  const longest = ["a".repeat(32), "ü".repeat(128)];
  assert.equal((await server.register(...longest)).status, 201);
  assert.equal((await server.login(...longest)).status, 200);
  assert.equal((await server.register("a.b-c_d", "é1234567")).status, 201);
  assert.equal((await server.register("abc", "12345678")).status, 201);
});

test("a password is the same however a keyboard composes it, and counted that way", async () => {
  const typed = ["é üñ Å long".normalize("NFC"), "é üñ Å long".normalize("NFD")];
  for (const [i, first] of typed.entries()) {
    assert.equal((await server.register(`composed${i}`, first)).status, 201);
    for (const password of [...typed, typed[i].replaceAll(" ", "\u00a0")])
      assert.equal((await server.login(`composed${i}`, password)).status, 200);
    for (const other of ["e un A long", typed[0].toUpperCase(), typed[0].replaceAll(" ", "")])
      assert.equal((await server.login(`composed${i}`, other)).status, 401, other);
  }
  // Seven characters, whatever their code points.
  const short = await server.register("composed", "é".repeat(7).normalize("NFD"));
  assert.deepEqual(Object.keys(short.body.error.fields), ["password"]);
  assert.equal((await server.register("composed", "é".repeat(128).normalize("NFD"))).status, 201);
});

test("login with something left out is 422 with a message per field, and no guess", async () => {
  const answer = await server.post("/api/login", { username: "", password: 7 });
  assert.equal(answer.status, 422);
  assert.deepEqual(Object.keys(answer.body.error.fields).sort(), ["password", "username"]);
});

for (const path of ["/api/register", "/api/login"]) {
  test(`${path}: what is no JSON is refused with a status and words`, async () => {
    const malformed = await server.post(path, `{"username":`);
    assert.equal(malformed.status, 400);
    const notUtf8 = await fetch(server.url + path, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: Buffer.from([0x22, 0xff, 0x22]),
    });
    assert.equal(notUtf8.status, 400);
    const type = await server.post(path, `{"username":"ann","password":"a long password"}`, {
      "content-type": "text/plain",
    });
    assert.equal(type.status, 415);
    const form = await server.post(path, "username=ann&password=x", {
      "content-type": "application/x-www-form-urlencoded",
    });
    assert.equal(form.status, 415, "another site's form cannot sign anybody in");
    const large = await server.post(path, { username: "ann", password: "x".repeat(17_000) });
    assert.equal(large.status, 413);
    for (const answer of [malformed, type, form, large]) {
      assert.equal(answer.body.error.code, "bad_request");
      assert.ok(answer.body.error.message.length > 0);
    }
  });
}

for (const path of ["register", "login", "refresh", "logout"]) {
  test(`/api/${path} with another method is 405 with words, as other errors have them`, async () => {
    for (const method of ["GET", "PUT", "DELETE", "OPTIONS", "PATCH"]) {
      const response = await fetch(`${server.url}/api/${path}`, { method });
      assert.equal(response.status, 405);
      assert.equal(response.headers.get("allow"), "POST");
      await isError(response, "method_not_allowed");
    }
  });
}

test("what the interface does not have is 404 with words, as other errors have them", async () => {
  for (const path of ["", "/", "/nothing", "/login/", "/login/x", "//login", "/%6Cogin", "/index.html"])
    for (const method of ["GET", "POST", "DELETE"]) {
      const response = await fetch(`${server.url}/api${path}`, { method });
      assert.equal(response.status, 404, `${method} /api${path}`);
      await isError(response, "not_found");
    }
});

async function isError(response, code) {
  assert.match(response.headers.get("content-type"), /^application\/json/);
  const { error, ...more } = await response.json();
  assert.deepEqual(more, {});
  assert.equal(error.code, code);
  assert.match(error.message, /^\w.*\.$/);
}

test("names and passwords are not told to others", async () => {
  await server.register("erin");
  await server.login("erin", "not her password, but secret");
  for (const secret of [PASSWORD, "not her password, but secret"])
    assert.ok(!server.log.includes(secret));
});
