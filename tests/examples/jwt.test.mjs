// Page `jwt`: a middleware that wants a token.

import assert from "node:assert/strict";
import { test } from "node:test";
import { client, connect, next, serve, until } from "./lib/page.mjs";

async function token(page, name, seconds) {
  const url = `${page.url}/token?name=${name}&seconds=${seconds}`;
  return (await fetch(url, { method: "POST" })).text();
}

/** What a client is refused with; `null` if it is let in. */
async function refusal(t, page, auth) {
  const socket = client(t, page, { auth });
  const refused = next(socket, "connect_error");
  const [error] = await Promise.race([refused, next(socket, "connect").then(() => [null])]);
  return error && { message: error.message, data: error.data };
}

test("who has a token is let in, and known", async (t) => {
  const page = await serve(t, "jwt");
  const socket = await connect(t, page, { auth: { token: await token(page, "anna", 60) } });
  assert.equal(await socket.emitWithAck("whoami"), "anna");
});

test("who has none, a forged or an old one is refused, and told why", async (t) => {
  const page = await serve(t, "jwt");
  const good = await token(page, "anna", 60);
  const [head, , signature] = good.split(".");
  const claims = Buffer.from(JSON.stringify({ sub: "eve", exp: 4_000_000_000 }));
  const forged = [head, claims.toString("base64url"), signature].join(".");
  const invalid = { message: "unauthorized", data: { code: "invalid_token" } };
  for (const auth of [undefined, {}, { token: "nonsense" }, { token: forged }]) {
    assert.deepEqual(await refusal(t, page, auth), invalid);
  }
  const expired = { message: "unauthorized", data: { code: "expired_token" } };
  const old = await token(page, "anna", 0);
  const refused = await until("the token to end", () => refusal(t, page, { token: old }));
  assert.deepEqual(refused, expired);
});

test("a token that ends while its socket is connected ends what it may do", async (t) => {
  const page = await serve(t, "jwt");
  // A fresh token, each time the client connects. A slow machine may need one that lives for longer.
  let seconds = 1;
  const socket = client(t, page, {
    autoConnect: false,
    auth: async (give) => give({ token: await token(page, "anna", seconds) }),
  });
  await until("it connects in time", async () => {
    seconds *= 2;
    const begun = Date.now();
    socket.connect();
    const late = next(socket, "connect_error");
    const [error] = await Promise.race([late, next(socket, "connect")]);
    if (error) assert(Date.now() - begun >= (seconds - 1) * 1_000, "in time it is let in");
    return socket.connected;
  });
  const refused = await until("the token to end", async () => {
    const answer = await socket.emitWithAck("whoami");
    return answer !== "anna" && answer;
  });
  assert.deepEqual([refused.status, refused.code], ["error", "expired_token"]);
  seconds = 60;
  socket.disconnect().connect();
  await next(socket, "connect");
  assert.equal(await socket.emitWithAck("whoami"), "anna");
});
