// Raw Engine.IO 4: what the application decides on the way of a request, cookies and compression.
// FEATURES A1-A4, A9, H 2, 27-29.

import assert from "node:assert/strict";
import { test } from "node:test";
import { gunzipSync, inflateSync } from "node:zlib";
import { Fetch } from "engine.io-client";
import { io } from "socket.io-client";
import { ask, connected } from "../lib/client.mjs";
import { request } from "../lib/http.mjs";
import { event, Polling } from "../lib/polling.mjs";
import { serverFor, sockeyeOnly, useServer } from "../lib/server.mjs";
import { until } from "../lib/wait.mjs";
import { Peer, Tcp } from "../lib/websocket.mjs";

const POLLING = { EIO: "4", transport: "polling" };
const WEBSOCKET = { EIO: "4", transport: "websocket" };
const server = await useServer({ hooks: true });

test("H02 A1 allowRequest refuses with 403 and code 4, with its own message", async () => {
  for (const [refuse, message] of [["", "Forbidden"], ['no "robots"', 'no "robots"']]) {
    const { status, headers, body } = await request(server, { query: { ...POLLING, refuse } });
    assert.equal(status, 403);
    assert.match(headers["content-type"], /^application\/json/);
    assert.deepEqual(JSON.parse(body), { code: 4, message });
  }
});

test("H02 A1 over an upgrade it is 400 with the message alone, never 403", async (t) => {
  for (const [refuse, message] of [["", "Forbidden"], ["no robots", "no robots"]]) {
    const tcp = await upgrade(t, { ...WEBSOCKET, refuse });
    await tcp.end();
    assert.equal(tcp.status, 400);
    assert.match(tcp.text, /connection: close/i);
    assert.equal(tcp.text.split("\r\n\r\n")[1], message);
  }
});

test("A1 allowRequest is asked about handshakes only, behind the checks before it", async (t) => {
  const session = await Polling.connect(t, server);
  session.query.refuse = "not asked";
  assert.equal((await session.post(event("echo"))).status, 200);
  assert.equal((await session.get()).status, 200);
  const peer = await Peer.open(t, server, { sid: session.sid, refuse: "not asked" });
  peer.send("2probe");
  assert.equal(await peer.receive(), "3probe");
  for (const [query, code] of [
    [{ ...POLLING, transport: "pigeon", refuse: "" }, 0],
    [{ ...POLLING, sid: "unknown", refuse: "" }, 1],
    [{ ...WEBSOCKET, refuse: "" }, 3],
    // And before the revision.
    [{ ...POLLING, EIO: "3", refuse: "" }, 4],
    [{ ...POLLING, EIO: "3" }, 5],
  ]) {
    const { body } = await request(server, { query });
    assert.equal(JSON.parse(body).code, code, JSON.stringify(query));
  }
});

test("A3 connection_error tells code, message and context of each refusal", async (t) => {
  const { sid } = await Polling.handshake(t, server);
  const cases = [
    [{ EIO: "4" }, 0, {}],
    [{ EIO: "4", transport: "__proto__" }, 0, { transport: "__proto__" }],
    [{ ...POLLING, sid: "unknown" }, 1, { sid: "unknown" }],
    [{ ...WEBSOCKET, sid }, 3, {
      name: "TRANSPORT_MISMATCH", transport: "websocket", previousTransport: "polling",
    }],
    [{ ...POLLING, EIO: "3", sid }, 3, {
      name: "PROTOCOL_MISMATCH", protocol: 3, previousProtocol: 4,
    }],
    [WEBSOCKET, 3, { name: "TRANSPORT_HANDSHAKE_ERROR" }],
    [{ ...POLLING, refuse: "no" }, 4, { message: "no" }],
    [{ ...POLLING, EIO: "5" }, 5, { protocol: 3 }],
    [{ ...POLLING, id: "fail" }, 3, { name: "ID_GENERATION_ERROR", error: "no id" }],
  ];
  for (const [i, [query, code, context]] of cases.entries()) {
    const mark = `connection_error ${i}`;
    const answer = await request(server, { query: { ...query, mark } });
    const [refusal, ...more] = await server.refusals(mark);
    assert.deepEqual(more, []);
    assert.equal(refusal.code, code);
    assert.deepEqual(prune(refusal.context), context);
    if (code !== 4) assert.deepEqual(JSON.parse(answer.body), { code, message: refusal.message });
  }
  const put = { method: "PUT", query: { ...POLLING, mark: "PUT" }, body: "" };
  await request(server, put);
  assert.deepEqual((await server.refusals("PUT"))[0].context, { method: "PUT" });
});

test("A3 connection_error tells of refused upgrades, too", async (t) => {
  const tcp = await upgrade(t, { EIO: "4", transport: "pigeon", mark: "upgrade" });
  await tcp.end();
  const refusals = await server.refusals("upgrade");
  assert.deepEqual(refusals.map(({ code }) => code), [0]);
});

test("A1 generateId makes the session's id", async (t) => {
  for (const [id, open] of [["0123456789abcdefgh-_", Polling], ["-_zyxwvutsrqponmlkji", Peer]]) {
    const session = await open.handshake(t, server, { id });
    assert.equal(session.sid, id);
  }
  const { body } = await request(server, { query: { ...POLLING, id: "fail" } });
  assert.deepEqual(JSON.parse(body), { code: 3, message: "Bad request" });
});

const ANY_ID = "Node takes any id, and for one in use it forgets the other session";
test("A1 ids that are none, or in use, refuse the client", sockeyeOnly(ANY_ID), async (t) => {
  const id = "abcdefghijklmnopqrst";
  const session = await Polling.connect(t, server, {}, { id });
  for (const bad of ["short", `${id}u`, "abcdefghijklmnopqrs!", id]) {
    const { status, body } = await request(server, { query: { ...POLLING, id: bad } });
    assert.deepEqual([status, JSON.parse(body).code], [400, 3]);
    const tcp = await upgrade(t, { ...WEBSOCKET, id: bad });
    await tcp.end();
    assert.equal(tcp.status, 400);
  }
  await session.post(event("echo", "unharmed"));
  assert.equal(await session.receive(), event("echo", "unharmed"));
});

test("H28 initial_headers once per session, headers on each answer and the 101", async (t) => {
  const query = { ...POLLING, tag: "first" };
  const first = await request(server, { query });
  assert.equal(first.headers["x-initial"], "first");
  assert.equal(first.headers["x-each"], "GET");
  const session = new Polling(server, JSON.parse(first.body.slice(1)), query);
  t.after(() => session.close());
  const post = await session.post("40");
  assert.deepEqual([post.headers["x-initial"], post.headers["x-each"]], [undefined, "POST"]);
  const get = await session.get();
  assert.deepEqual([get.headers["x-initial"], get.headers["x-each"]], [undefined, "GET"]);

  const probe = await upgrade(t, { ...WEBSOCKET, sid: session.sid });
  await probe.until("\r\n\r\n");
  assert.match(probe.text, /^x-each: GET\r$/im);
  assert.doesNotMatch(probe.text, /^x-initial:/im);
  const direct = await upgrade(t, { ...WEBSOCKET, tag: "direct" });
  await direct.until("\r\n\r\n");
  assert.match(direct.text, /^x-each: GET\r$/im);
  assert.match(direct.text, /^x-initial: direct\r$/im);

  const refused = await request(server, { query: { EIO: "4" } });
  assert.equal(refused.headers["x-each"], undefined);
});

test("H27 the cookie comes with a polling handshake, and with nothing else", async (t) => {
  const own = await serverFor(t, { cookie: true });
  const { headers, body } = await request(own, { query: POLLING });
  const open = JSON.parse(body.slice(1));
  const expected = [`io=${open.sid}`, "HttpOnly", "Path=/", "SameSite=Lax"];
  assert.deepEqual(parts(headers), expected);
  const session = new Polling(own, open, POLLING);
  t.after(() => session.close());
  assert.equal((await session.post("40")).headers["set-cookie"], undefined);
  assert.equal((await session.get()).headers["set-cookie"], undefined);
  for (const query of [WEBSOCKET, { ...WEBSOCKET, sid: open.sid }]) {
    const tcp = await Tcp.open(t, own);
    tcp.upgrade({ search: new URLSearchParams(query) });
    await tcp.until("\r\n\r\n");
    assert.equal(tcp.status, 101);
    assert.doesNotMatch(tcp.text, /set-cookie/i);
  }
});

test("H27 the cookie's attributes", async (t) => {
  const cases = [
    [{ name: "sid", path: "/app", httpOnly: false }, ["Path=/app", "SameSite=Lax"]],
    [{ path: false, sameSite: false }, ["HttpOnly"]],
    [{ domain: "example.com", secure: true, maxAge: 90, sameSite: "strict" },
      ["Domain=example.com", "HttpOnly", "Max-Age=90", "Path=/", "SameSite=Strict", "Secure"]],
    [{ expires: 784_111_777_000, sameSite: "none", secure: true, partitioned: true },
      ["Expires=Sun, 06 Nov 1994 08:49:37 GMT", "HttpOnly", "Partitioned", "Path=/",
        "SameSite=None", "Secure"]],
    [{ priority: "high" }, ["HttpOnly", "Path=/", "Priority=High", "SameSite=Lax"]],
  ];
  for (const [cookie, expected] of cases) {
    const own = await serverFor(t, { cookie });
    const { headers, body } = await request(own, { query: POLLING });
    const { sid } = JSON.parse(body.slice(1));
    assert.deepEqual(parts(headers), [`${cookie.name ?? "io"}=${sid}`, ...expected]);
  }
});

const TEXT = "x".repeat(3_000);
const ACCEPTED = [
  ["gzip, deflate, br", "gzip"],
  ["deflate", "deflate"],
  ["gzip;q=0, deflate", "deflate"],
  ["deflate;q=0.8, gzip;q=0.5", "deflate"],
  ["*", "gzip"],
  ["br", undefined],
  ["gzip;q=0", undefined],
  [undefined, undefined],
];

test("H29 A9 large poll answers are compressed as the client likes best", async (t) => {
  const own = await serverFor(t);
  const session = await Polling.connect(t, own);
  for (const [accepted, encoding] of ACCEPTED) {
    const answer = await poll(session, event("echo", TEXT), accepted);
    assert.equal(answer.headers["content-encoding"], encoding, accepted);
    assert.equal(inflated(answer), event("echo", TEXT));
    assert.equal(answer.headers["content-type"], "text/plain; charset=UTF-8");
    if (encoding) assert(answer.bytes.length < 500);
  }
});

test("H29 below the threshold, and where it is off, nothing is compressed", async (t) => {
  const fill = (length) => event("echo", "x".repeat(length - event("echo", "").length));
  for (const [options, length, encoding] of [
    [{}, 1_023, undefined],
    [{}, 1_024, "gzip"],
    [{ httpCompression: { threshold: 100 } }, 100, "gzip"],
    [{ httpCompression: { threshold: 5_000 } }, 4_999, undefined],
    [{ httpCompression: false }, 5_000, undefined],
  ]) {
    const own = await serverFor(t, options);
    const session = await Polling.connect(t, own);
    const answer = await poll(session, fill(length), "gzip");
    assert.equal(answer.headers["content-encoding"], encoding, `${length}`);
    assert.equal(inflated(answer), fill(length));
  }
});

test("H29 several packets, binary and megabytes come back whole", async (t) => {
  const own = await serverFor(t);
  const session = await Polling.connect(t, own);
  const binary = ['451-["echo",{"_placeholder":true,"num":0}]', `b${"AQID".repeat(1_000)}`];
  await session.post(...binary, event("echo", "é€😀"));
  await until("all three", async () => {
    const { body, ...answer } = await session.startGet({ headers: GZIP }).answer;
    const all = inflated({ body, ...answer });
    assert.equal(all, [...binary, event("echo", "é€😀")].join("\x1e"));
    return true;
  });
  const long = Array.from({ length: 100_000 }, (_, i) => i).join(" ");
  assert.equal(inflated(await poll(session, event("echo", long), "gzip")), event("echo", long));
});

test("H29 the official client reads compressed polls (fetch)", async (t) => {
  const own = await serverFor(t);
  const socket = io(own.url, { forceNew: true, reconnection: false, transports: [Fetch] });
  t.after(() => socket.disconnect());
  await connected(socket);
  const long = Array.from({ length: 20_000 }, (_, i) => i).join(" ");
  assert.equal(await ask(socket, "echo", long), long);
});

test("A7 an upgrade is told of, and sessions are counted by transport", async (t) => {
  const own = await serverFor(t, { hooks: true });
  const session = await Polling.connect(t, own, { mark: "upgraded" });
  assert.deepEqual((await own.stats()).transports, { polling: 1, websocket: 0 });
  const peer = await Peer.open(t, own, { sid: session.sid });
  peer.send("2probe");
  assert.equal(await peer.receive(), "3probe");
  peer.send("5");
  await peer.roundTrip();
  const events = (await own.log("upgraded")).map((record) => record.event);
  assert.deepEqual(events, ["connection", "upgrade"]);
  assert.equal((await own.log("upgraded"))[1].transport, "websocket");
  assert.deepEqual((await own.stats()).transports, { polling: 0, websocket: 1 });
});

test("A5 A7 the end of a connection is described", async (t) => {
  const overlapping = await Polling.connect(t, server, { mark: "two GETs" });
  const first = overlapping.startGet();
  await until("an overlap", async () => (await overlapping.get()).status === 400);
  await first.answer;
  assert.equal(await description("two GETs"), "overlap from client");

  const binary = await Polling.connect(t, server, { mark: "binary" });
  const headers = { "Content-Type": "application/octet-stream" };
  await binary.startPost("4", { headers }).answer;
  assert.equal(await description("binary"), "invalid content");

  const peer = await Peer.connect(t, server, { mark: "ping" });
  peer.send("2");
  await peer.closeCode();
  assert.equal(await description("ping"), "invalid heartbeat direction");

  const left = await Peer.connect(t, server, { mark: "left" });
  left.send("41");
  assert.equal(await description("left"), null);
});

test("A1 everything below the path is served, nothing beside it", async (t) => {
  const search = new URLSearchParams(POLLING);
  for (const path of ["/socket.io/", "/socket.io/any/thing"]) {
    const { status, body } = await request(server, { path: `${path}?${search}` });
    assert.equal(status, 200, path);
    const session = new Polling(server, JSON.parse(body.slice(1)), POLLING);
    t.after(() => session.close());
  }
  for (const path of ["/socket.iofoo", "/socket.i", "/Socket.IO/"]) {
    assert.equal((await request(server, { path: `${path}?${search}` })).status, 404, path);
  }
});

const HANGS = "Node leaves it to the application's handler, and without one it hangs";
test("A1 the path's last slash may be left out", sockeyeOnly(HANGS), async (t) => {
  const search = new URLSearchParams(POLLING);
  const { status, body } = await request(server, { path: `/socket.io?${search}` });
  assert.equal(status, 200);
  const session = new Polling(server, JSON.parse(body.slice(1)), POLLING);
  t.after(() => session.close());
});

const GZIP = { "Accept-Encoding": "gzip" };

/** Sends a packet and returns the GET's answer that its echo comes with. */
async function poll(session, packet, accepted) {
  assert.equal((await session.post(packet)).status, 200);
  const headers = accepted === undefined ? {} : { "Accept-Encoding": accepted };
  return session.startGet({ headers }).answer;
}

function inflated({ headers, bytes }) {
  const encoding = headers["content-encoding"];
  if (encoding === "gzip") return gunzipSync(bytes).toString();
  if (encoding === "deflate") return inflateSync(bytes).toString();
  return bytes.toString();
}

/** A cookie's value, then its attributes by name. */
function parts(headers) {
  const [value, ...attributes] = headers["set-cookie"][0].split("; ");
  return [value, ...attributes.sort()];
}

/** Without what is undefined, null or empty. */
function prune(context) {
  return Object.fromEntries(Object.entries(context).filter(([, value]) => value != null));
}

async function description(mark) {
  return (await server.logged(mark, "disconnect")).description;
}

async function upgrade(t, query) {
  const tcp = await Tcp.open(t, server);
  tcp.upgrade({ search: new URLSearchParams(query) });
  return tcp;
}
