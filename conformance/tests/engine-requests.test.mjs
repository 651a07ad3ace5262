// Raw Engine.IO 4: which requests open a session, which are refused and how. FEATURES A3, H 1-5.

import assert from "node:assert/strict";
import { test } from "node:test";
import { request } from "../lib/http.mjs";
import { Polling } from "../lib/polling.mjs";
import { KIND, serverFor, useServer } from "../lib/server.mjs";
import { Peer, Tcp } from "../lib/websocket.mjs";

const server = await useServer();
const POLLING = { EIO: "4", transport: "polling" };
const WEBSOCKET = { EIO: "4", transport: "websocket" };
const TRICKY = ["__proto__", "constructor", "hasOwnProperty", "toString", "prototype"];
const MESSAGES = [
  "Transport unknown",
  "Session ID unknown",
  "Bad handshake method",
  "Bad request",
  "Forbidden",
  "Unsupported protocol version",
];

test("A3 a polling handshake answers with the open packet", async (t) => {
  const options = { pingInterval: 1234, pingTimeout: 2345, maxHttpBufferSize: 34_567 };
  const own = await serverFor(t, options);
  const { status, headers, body } = await request(own, { query: POLLING });
  assert.equal(status, 200);
  assert.equal(headers["content-type"], "text/plain; charset=UTF-8");
  assert.equal(headers["cache-control"], "no-store");
  assert.equal(headers["content-length"], String(body.length));
  assert.equal(body[0], "0");
  const open = JSON.parse(body.slice(1));
  assert.match(open.sid, /^[\w-]{20}$/);
  assert.deepEqual({ ...open, sid: "" }, {
    sid: "",
    upgrades: ["websocket"],
    pingInterval: 1234,
    pingTimeout: 2345,
    maxPayload: 34_567,
  });
});

test("A3 a WebSocket handshake answers with the open packet, without upgrades", async (t) => {
  const peer = await Peer.handshake(t, server);
  assert.deepEqual({ ...peer.handshake, sid: "" }, {
    sid: "",
    upgrades: [],
    pingInterval: 25_000,
    pingTimeout: 20_000,
    maxPayload: 1_000_000,
  });
});

test("A1 transports: what is disabled is neither served nor advertised", async (t) => {
  const onlyPolling = await serverFor(t, { transports: ["polling"] });
  const { open } = await Polling.handshake(t, onlyPolling);
  assert.deepEqual(open.upgrades, []);
  assert.equal(await upgradeStatus(t, onlyPolling, WEBSOCKET), 400);

  const onlyWebSocket = await serverFor(t, { transports: ["websocket"] });
  await refused(onlyWebSocket, { query: POLLING }, 0);
  const peer = await Peer.handshake(t, onlyWebSocket);
  assert.deepEqual(peer.handshake.upgrades, []);
});

test("A1 allowUpgrades: false advertises none", async (t) => {
  const own = await serverFor(t, { allowUpgrades: false });
  assert.deepEqual((await Polling.handshake(t, own)).open.upgrades, []);
});

test("H01 transport and sid are not fooled by names every JavaScript object has", async (t) => {
  for (const name of TRICKY) {
    await refused(server, { query: { EIO: "4", transport: name } }, 0);
    await refused(server, { query: { ...POLLING, sid: name } }, 1);
    await refused(server, { method: "POST", query: { ...POLLING, sid: name }, body: "3" }, 1);
    await upgradeRefused(t, { EIO: "4", transport: name }, 0);
    await upgradeRefused(t, { ...WEBSOCKET, sid: name }, 1);
  }
});

test("H02 A3 refusals have numeric codes, JSON bodies and Node's order", async (t) => {
  const session = await Polling.handshake(t, server);
  const known = { ...POLLING, sid: session.sid };
  const cases = [
    [{ query: {} }, 0],
    [{ query: { EIO: "4", transport: "carrier-pigeon" } }, 0],
    [{ query: { EIO: "4", transport: "webtransport" } }, 0],
    [{ query: { transport: "x", sid: "y" } }, 0],
    [{ query: { ...POLLING, sid: "unknown" } }, 1],
    [{ method: "DELETE", query: { ...POLLING, sid: "unknown" } }, 1],
    [{ query: { ...POLLING, sid: "unknown", EIO: "3" } }, 1],
    [{ query: { ...known, transport: "websocket" } }, 3],
    [{ method: "POST", query: POLLING, body: "" }, 2],
    [{ method: "PUT", query: POLLING, body: "" }, 2],
    [{ method: "OPTIONS", query: POLLING }, 2],
    [{ method: "POST", query: WEBSOCKET, body: "" }, 2],
    [{ method: "POST", query: { transport: "polling" }, body: "" }, 2],
    [{ query: WEBSOCKET }, 3],
    [{ query: { transport: "polling" } }, 5],
  ];
  for (const [options, code] of cases) await refused(server, options, code);
  assert.equal((await session.post("40")).status, 200, "the session was not harmed");
});

test("H02 A3 upgrade refusals are raw 400 answers that close the connection", async (t) => {
  await upgradeRefused(t, { EIO: "4" }, 0);
  await upgradeRefused(t, { EIO: "4", transport: "carrier-pigeon" }, 0);
  await upgradeRefused(t, { ...WEBSOCKET, sid: "unknown" }, 1);
  const session = await Polling.handshake(t, server);
  await upgradeRefused(t, { ...WEBSOCKET, EIO: "3", sid: session.sid }, 3);
  assert.equal((await session.post("40")).status, 200, "the session was not harmed");
});

test("A3 an upgrade request for the polling transport ends closed", async (t) => {
  // Node answers 101 and closes the WebSocket without a code; a refusal does as well.
  await endsClosed(t, { EIO: "4", transport: "polling" });
});

test("H03 a malformed or empty sid never takes over or opens a wrong session", async (t) => {
  const own = await serverFor(t);
  const malformed = ["x", "a".repeat(20), "é", "../../etc/passwd", "a\u0000b", "x".repeat(2_000)];
  for (const sid of malformed) {
    await refused(own, { query: { ...POLLING, sid } }, 1);
    await refused(own, { method: "POST", query: { ...POLLING, sid }, body: "40" }, 1);
  }
  assert.equal((await own.stats()).sessions, 0);
  // An empty sid is no sid; the last of several counts.
  const { status } = await request(own, { query: { ...POLLING, sid: "" } });
  assert.equal(status, 200);
  await refused(own, { path: "/socket.io/?EIO=4&transport=polling&sid=&sid=nobody" }, 1);
  await refused(own, { path: "/socket.io/?EIO=4&transport=polling&transport=nobody" }, 0);
});

test("H04 a missing or other EIO is an unsupported protocol version", async () => {
  for (const EIO of ["", "3", "5", "abc", "04", "4.0", "__proto__"]) {
    await refused(server, { query: { EIO, transport: "polling" } }, 5);
  }
  await refused(server, { query: { transport: "polling" } }, 5);
});

test("H04 over WebSocket, too, and the client ends up closed", async (t) => {
  const own = await serverFor(t);
  for (const EIO of ["3", "5", ""]) {
    const tcp = await Tcp.open(t, own);
    tcp.upgrade({ query: { EIO } });
    await tcp.end();
    // Node decides behind the 101 and writes its HTTP text into the WebSocket stream.
    assert.equal(tcp.status, KIND === "node" ? 101 : 400);
    assert(tcp.text.includes(MESSAGES[5]));
  }
  assert.equal((await own.stats()).sessions, 0);
});

test("H05 a session's protocol revision is fixed by its handshake", async (t) => {
  const session = await Polling.connect(t, server);
  for (const EIO of ["3", "5", ""]) {
    await refused(server, { query: { ...POLLING, sid: session.sid, EIO } }, 3);
  }
  await session.post('42["echo","unharmed"]');
  assert.equal(await session.receive(), '42["echo","unharmed"]');
});

test("A3 other methods on a session are answered and do not harm it", async (t) => {
  const session = await Polling.connect(t, server);
  for (const method of ["PUT", "DELETE", "OPTIONS"]) {
    const { status } = await request(server, { method, query: session.query });
    // Node says 500 with an empty body; a client error says it better.
    assert(status === 500 || (status >= 400 && status < 410), `${method}: ${status}`);
  }
  await session.post('42["echo"]');
  assert.equal(await session.receive(), '42["echo"]');
});

test("A1 the path is /socket.io/, everything else is the application's", async () => {
  for (const path of ["/", "/socket.i", "/other?EIO=4&transport=polling"]) {
    assert.equal((await request(server, { path })).status, 404, path);
  }
});

test("CVE-2017-16031: session ids are 20 characters, unique and not guessable", async (t) => {
  const own = await serverFor(t, { pingInterval: 300, pingTimeout: 300 });
  const ids = [];
  for (let i = 0; i < 200; i += 1) ids.push((await Polling.handshake(null, own)).sid);
  for (const id of ids) assert.match(id, /^[\w-]{20}$/);
  assert.equal(new Set(ids).size, ids.length);
  // Node counts in the last characters; the secret part in front must never repeat.
  assert.equal(new Set(ids.map((id) => id.slice(0, 12))).size, ids.length);
});

/** A plain request is refused with this code, and its body says so. */
async function refused(where, options, code) {
  const { status, headers, body } = await request(where, options);
  const what = JSON.stringify(options);
  assert.equal(status, 400, what);
  assert.match(headers["content-type"], /^application\/json/, what);
  assert.deepEqual(JSON.parse(body), { code, message: MESSAGES[code] }, what);
}

async function upgradeRefused(t, query, code) {
  const tcp = await Tcp.open(t, server);
  tcp.upgrade({ search: new URLSearchParams(query) });
  await tcp.end();
  assert.equal(tcp.status, 400, tcp.text);
  assert.match(tcp.text, /connection: close/i);
  assert(tcp.text.includes(MESSAGES[code]), tcp.text);
}

async function upgradeStatus(t, where, query) {
  const tcp = await Tcp.open(t, where);
  tcp.upgrade({ query });
  await tcp.until("\r\n\r\n");
  return tcp.status;
}

async function endsClosed(t, query) {
  const peer = new Peer(server, query);
  t.after(() => peer.ws.terminate());
  const code = await peer.closeCode();
  assert([1005, 1006].includes(code), `closed with ${code}`);
}
