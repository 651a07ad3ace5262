// Raw HTTP: the cors option on polling, preflights and upgrades. FEATURES A4, HARDENING 9,
// CVE-2020-28481.

import assert from "node:assert/strict";
import { test } from "node:test";
import { request } from "../lib/http.mjs";
import { Polling } from "../lib/polling.mjs";
import { KIND, serverFor, sockeyeOnly, useServer } from "../lib/server.mjs";
import { Tcp } from "../lib/websocket.mjs";

const ALLOWED = "http://allowed.example";
const FOREIGN = "http://foreign.example";
const QUERY = { EIO: "4", transport: "polling" };
const DENIES = sockeyeOnly("Node serves every origin and leaves the refusal to the browser");

const plain = await useServer();
const cors = await useServer({ cors: { origin: ALLOWED, credentials: true } });
const list = await useServer({ cors: { origin: [ALLOWED, "https://second.example"] } });

test("A4 an allowed origin is told so, on success and on errors", async () => {
  const headers = { Origin: ALLOWED };
  for (const query of [QUERY, { EIO: "4", transport: "none" }]) {
    const answer = await request(cors, { query, headers });
    assert.equal(answer.headers["access-control-allow-origin"], ALLOWED);
    assert.equal(answer.headers["access-control-allow-credentials"], "true");
    assert.match(answer.headers.vary, /Origin/i);
  }
});

test("A4 each origin of a list is allowed by its own name", async () => {
  for (const origin of [ALLOWED, "https://second.example"]) {
    const answer = await request(list, { query: QUERY, headers: { Origin: origin } });
    assert.equal(answer.status, 200);
    assert.equal(answer.headers["access-control-allow-origin"], origin);
    assert.equal(answer.headers["access-control-allow-credentials"], undefined);
  }
});

test("A4 a preflight is answered with 204 and reflects the requested headers", async () => {
  const { status, headers, body } = await preflight(cors, ALLOWED);
  assert.equal(status, 204);
  assert.equal(body, "");
  assert.equal(headers["access-control-allow-origin"], ALLOWED);
  assert.equal(headers["access-control-allow-credentials"], "true");
  assert.match(headers["access-control-allow-methods"], /GET.*POST/);
  assert.match(headers["access-control-allow-headers"], /x-custom/i);
  assert.match(headers.vary, /Origin/i);
});

test("A4 allowed and exposed headers and the age of a preflight can be set", async (t) => {
  const rules = { allowedHeaders: ["x-token"], exposedHeaders: ["x-each"], maxAge: 600 };
  const own = await serverFor(t, { cors: { origin: ALLOWED, ...rules } });
  const { headers } = await preflight(own, ALLOWED);
  assert.equal(headers["access-control-allow-headers"], "x-token");
  assert.equal(headers["access-control-max-age"], "600");
  const answer = await request(own, { query: QUERY, headers: { Origin: ALLOWED } });
  assert.equal(answer.headers["access-control-expose-headers"], "x-each");
});

test("A4 the answers of a session carry the CORS headers, too", async (t) => {
  const session = await Polling.handshake(t, cors);
  const posted = await session.startPost("40", { headers: { Origin: ALLOWED } }).answer;
  assert.equal(posted.headers["access-control-allow-origin"], ALLOWED);
  const polled = await session.startGet({ headers: { Origin: ALLOWED } }).answer;
  assert.equal(polled.headers["access-control-allow-origin"], ALLOWED);
});

test("A4 an allowed origin may upgrade", async (t) => {
  const tcp = await upgrade(t, cors, ALLOWED);
  await tcp.until("\r\n\r\n");
  assert.equal(tcp.status, 101);
});

test("A4 a foreign origin gets no permission that names it", async () => {
  for (const server of [plain, cors, list]) {
    const { headers } = await request(server, { query: QUERY, headers: { Origin: FOREIGN } });
    const allowed = headers["access-control-allow-origin"];
    assert.notEqual(allowed, FOREIGN);
    assert.notEqual(allowed, "*");
  }
});

test("A4 requests without an Origin, and of the same origin, are served", async () => {
  for (const server of [plain, cors]) {
    assert.equal((await request(server, { query: QUERY })).status, 200);
    const same = { Origin: server.url, Host: `127.0.0.1:${server.port}` };
    assert.equal((await request(server, { query: QUERY, headers: same })).status, 200);
  }
});

test("CVE-2020-28481: cross-origin handshakes are denied by default", DENIES, async () => {
  for (const server of [plain, cors, list]) {
    await denied(server, { query: QUERY, headers: { Origin: FOREIGN } });
    await denied(server, { query: QUERY, headers: { Origin: "null" } });
    await denied(server, { query: QUERY, headers: { Origin: `${ALLOWED}.evil.example` } });
  }
  assert.equal((await plain.stats()).sockets, 0);
});

test("HARDENING 9: the origin is checked behind a sid as well", DENIES, async (t) => {
  const session = await Polling.connect(t, plain);
  const headers = { Origin: FOREIGN };
  await denied(plain, { query: session.query, headers });
  await denied(plain, { method: "POST", query: session.query, headers, body: '42["echo"]' });
  await session.post('42["echo","mine"]');
  assert.equal(await session.receive(), '42["echo","mine"]');
});

test("CVE-2020-28481: cross-origin upgrades are denied by default", DENIES, async (t) => {
  const session = await Polling.handshake(t, plain);
  for (const query of [{}, { sid: session.sid }]) {
    const tcp = await upgrade(t, plain, FOREIGN, query);
    await tcp.end();
    assert(tcp.status >= 400 && tcp.status < 500, tcp.text);
  }
});

test("CVE-2020-28481: a preflight of a foreign origin permits nothing", async () => {
  const { status, headers } = await preflight(cors, FOREIGN);
  assert.notEqual(headers["access-control-allow-origin"], FOREIGN);
  if (KIND === "node") assert.equal(status, 204);
});

test("A3 an Origin with control characters is refused", async (t) => {
  const tcp = await Tcp.open(t, plain);
  tcp.socket.write(
    "GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: x\r\nOrigin: a\u0001b\r\n" +
      "Connection: close\r\n\r\n",
  );
  await tcp.end();
  assert.equal(tcp.status, 400);
});

async function denied(server, options) {
  const { status, headers } = await request(server, options);
  assert(status >= 400 && status < 500, `${JSON.stringify(options)} was answered with ${status}`);
  assert.notEqual(headers["access-control-allow-origin"], FOREIGN);
}

function preflight(server, origin) {
  const headers = {
    Origin: origin,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "content-type,x-custom",
  };
  return request(server, { method: "OPTIONS", query: QUERY, headers });
}

async function upgrade(t, server, origin, query = {}) {
  const tcp = await Tcp.open(t, server);
  tcp.upgrade({ query, extra: [`Origin: ${origin}`] });
  return tcp;
}
