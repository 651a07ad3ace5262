// Raw Engine.IO 4 over long-polling: overlaps, bodies, limits and endings. FEATURES A5,
// H 6-15, 25, 30, 31.

import assert from "node:assert/strict";
import { test } from "node:test";
import { event, Polling } from "../lib/polling.mjs";
import { KIND, serverFor, useServer } from "../lib/server.mjs";
import { elapsed, until, within } from "../lib/wait.mjs";

const LIMIT = 20_000;
const server = await useServer({ maxHttpBufferSize: LIMIT });
const LAST_PACKETS = [event("bye", "last words"), "41", "1"];
const closed = (mark) => server.logged(mark, "disconnect");

test("A5 a GET waits until there is something to say, and takes everything at once", async (t) => {
  const session = await Polling.connect(t, server);
  const parked = session.startGet();
  let answered = false;
  parked.answer.finally(() => (answered = true));
  const { status, headers, body } = await session.post(event("record", 1));
  assert.deepEqual([status, body], [200, "ok"]);
  assert.match(headers["content-type"], /^text\/html/);
  assert.equal(headers["cache-control"], "no-store");
  assert.equal(answered, false);

  await session.post(event("echo", 1));
  const { status: ok, body: first } = await within("the GET", parked.answer);
  assert.deepEqual([ok, first], [200, event("echo", 1)]);

  await session.post(event("echo", 2), event("echo", 3));
  await until("both answers in one GET", async () => {
    const { packets } = await session.get();
    if (packets.length === 2) return true;
    // They were not both there when the GET came; once more, in one go.
    await session.post(event("echo", 2), event("echo", 3));
    return false;
  });
});

test("A5 packets are joined by 0x1E, binary is base64 with a b", async (t) => {
  const session = await Polling.connect(t, server);
  const packets = ['451-["echo",{"a":{"_placeholder":true,"num":0}}]', "bAQL/"];
  await session.post(event("echo", "a"), ...packets);
  const received = [await session.receive(), await session.receive(), await session.receive()];
  assert.deepEqual(received, [event("echo", "a"), ...packets]);
});

test("H06 overlapping GET: 400, a close packet for the other, the session dies", async (t) => {
  const session = await Polling.connect(t, server, { mark: "H06" });
  const first = session.startGet();
  await requestSent(first);
  // Which of two requests on two connections comes first is up to the server.
  const second = session.startGet();
  const answers = await within("both GETs", Promise.all([first.answer, second.answer]));
  const byStatus = answers.sort((a, b) => a.status - b.status);
  assert.deepEqual(byStatus.map(({ status }) => status), [200, 400]);
  assert.equal(byStatus[0].body, "1");
  assert.equal(byStatus[1].body, "");
  assert.equal((await closed("H06")).reason, "transport error");
  assert(await session.isGone());
});

test("H07 overlapping POST kills the session too", async (t) => {
  const session = await Polling.connect(t, server, { mark: "H07" });
  const first = session.startPost(null, { headers: { "Content-Length": 100 } });
  first.sent.write("42");
  await requestSent(first);
  await until("the second POST to overlap", async () => {
    return (await session.startPost(event("record", "x")).answer).status === 400;
  });
  assert.equal((await closed("H07")).reason, "transport error");
  const outcome = await within("the first POST", first.answer.catch((error) => error));
  assert(outcome instanceof Error || outcome.status >= 400, "it is answered or cut, never hung");
  assert(await session.isGone());
});

test("H08 413 does not close the session; bytes count, declared or chunked", async (t) => {
  const session = await Polling.connect(t, server);
  const tooLong = event("record", "x".repeat(LIMIT));
  assert.equal((await session.post(tooLong)).status, 413);
  const chunked = session.startPost(null);
  for (let i = 0; i < tooLong.length; i += 5_000) chunked.sent.write(tooLong.slice(i, i + 5_000));
  chunked.sent.end();
  assert.equal((await within("413 for chunks", chunked.answer)).status, 413);
  // Two bytes a character: fewer characters than the limit, but more bytes.
  assert.equal((await session.post(event("record", "é".repeat(LIMIT / 2 + 10)))).status, 413);

  assert.equal((await session.post(event("echo", "alive"))).status, 200);
  assert.equal(await session.receive(), event("echo", "alive"));
});

test("H08 a body of exactly maxHttpBufferSize passes, one byte more does not", async (t) => {
  const session = await Polling.connect(t, server);
  const fill = LIMIT - event("silence", "").length;
  assert.equal((await session.post(event("silence", "x".repeat(fill)))).status, 200);
  assert.equal((await session.post(event("silence", "x".repeat(fill + 1)))).status, 413);
});

test("H09 a bad content type closes the request, the upload and the session", async (t) => {
  const session = await Polling.connect(t, server, { mark: "H09" });
  const headers = { "Content-Type": "application/octet-stream", "Content-Length": 1_000 };
  const post = session.startPost(null, { headers });
  post.sent.write("42");
  // 400 comes while most of the body is still owed.
  assert.equal((await within("400", post.answer)).status, 400);
  assert.equal((await closed("H09")).reason, "transport error");
  assert(await session.isGone());
});

test("H10 good packets before garbage: ok, delivered, then parse error", async (t) => {
  const session = await Polling.connect(t, server, { mark: "H10" });
  const answer = await session.post(event("record", "good"), "x garbage", event("record", "never"));
  assert.deepEqual([answer.status, answer.body], [200, "ok"]);
  const { reason } = await closed("H10");
  assert.equal(reason, "parse error");
  const records = (await server.log("H10")).filter((record) => record.event === "record");
  // Node's engine delivers it as well, but its Socket.IO layer dispatches a tick later, when the
  // socket is gone already.
  assert.deepEqual(records.map(({ value }) => value), KIND === "node" ? [] : ["good"]);
  assert(await session.isGone());
});

test("H11 an empty POST body is a parse error", async (t) => {
  const session = await Polling.connect(t, server, { mark: "H11" });
  const answer = await session.post("");
  assert.deepEqual([answer.status, answer.body], [200, "ok"]);
  assert.equal((await closed("H11")).reason, "parse error");
  assert(await session.isGone());
});

test("H12 a close packet while a GET is parked: the GET is answered with a noop", async (t) => {
  const session = await Polling.connect(t, server, { mark: "H12" });
  const parked = session.startGet();
  await requestSent(parked);
  // A GET that is overtaken by the close finds no session any more.
  await session.post("1");
  const { status, body } = await within("the parked GET", parked.answer);
  assert((status === 200 && body === "6") || status === 400, `${status} ${body}`);
  assert.equal((await closed("H12")).reason, "transport close");
  assert(await session.isGone());
});

test("H13 a tab closed in the middle of a poll is a transport error at once", async (t) => {
  const session = await Polling.connect(t, server, { mark: "H13" });
  const parked = session.startGet();
  await requestSent(parked);
  // The server has the GET when it keeps the connection open behind another exchange.
  await session.post(event("record", "seen"));
  parked.abort();
  const { reason } = await closed("H13");
  assert.equal(reason, "transport error");
});

test("H13 a POST that is cut off in the middle is a transport error", async (t) => {
  const session = await Polling.connect(t, server, { mark: "H13 POST" });
  const post = session.startPost(null, { headers: { "Content-Length": 100 } });
  post.sent.write(event("record", "half"));
  await requestSent(post);
  await server.logged("H13 POST", "connection");
  post.abort();
  assert.equal((await closed("H13 POST")).reason, "transport error");
  const records = (await server.log("H13 POST")).filter((record) => record.event === "record");
  assert.deepEqual(records, []);
});

test("H13 Connection: close alone, and an answered GET, end nothing", async (t) => {
  const session = await Polling.connect(t, server, { mark: "H13 close" });
  for (let i = 0; i < 3; i += 1) {
    const headers = { Connection: "close" };
    const get = session.startGet({ headers });
    await session.startPost(event("echo", i), { headers }).answer;
    assert.equal((await within("the echo", get.answer)).body, event("echo", i));
  }
  const events = (await server.log("H13 close")).map((record) => record.event);
  assert.deepEqual(events, ["connection"]);
});

test("H14 what was emitted right before a close arrives before it", async (t) => {
  const session = await Polling.connect(t, server);
  const parked = session.startGet();
  await session.post(event("disconnect-me", true, "last words"));
  const packets = (await within("the parked GET", parked.answer)).body.split("\x1e");
  await readUntilClose(session, packets);
  assert.deepEqual(packets.filter((packet) => packet !== "6"), LAST_PACKETS);
  await until("the session to be gone", () => session.isGone());
});

test("H14 a server that shuts down waits for nobody's GET", async (t) => {
  const own = await serverFor(t);
  const session = await Polling.connect(null, own);
  await session.post(event("echo", "never fetched"));
  // TestServer.stop, behind the test, expects the end within far less than the 30 s of H15.
  assert.equal((await own.stats()).sessions, 1);
});

test("H15 a close without a parked GET is delivered on the next", async (t) => {
  const session = await Polling.connect(t, server, { mark: "H15" });
  await session.post(event("disconnect-me", true, "last words"));
  assert.equal((await closed("H15")).reason, "server namespace disconnect");
  const packets = [];
  await readUntilClose(session, packets);
  assert.deepEqual(packets.filter((packet) => packet !== "6"), LAST_PACKETS);
  await until("the session to be gone", () => session.isGone());
});

test("H25 a ping timeout needs no GET", async (t) => {
  const own = await serverFor(t, { pingInterval: 1_000, pingTimeout: 5_000 });
  const began = Date.now();
  await Polling.connect(null, own, { mark: "H25" });
  const { reason } = await own.logged("H25", "disconnect");
  assert.equal(reason, "ping timeout");
  assert(Date.now() - began >= 6_000, "not before interval and timeout have passed");
  await own.empty();
});

test("H30 UTF-8 split at any byte, and the separator beside multi-byte characters", async (t) => {
  const session = await Polling.connect(t, server);
  const texts = ["é", "€", "😀", "x"];
  const body = Buffer.from(texts.map((text) => event("echo", text)).join("\x1e"));
  const post = session.startPost(null);
  // One byte a chunk, each in a write of its own.
  for (const byte of body) {
    await new Promise((resolve) => post.sent.write(Buffer.from([byte]), resolve));
  }
  post.sent.end();
  assert.equal((await within("ok", post.answer)).body, "ok");
  for (const text of texts) assert.equal(await session.receive(), event("echo", text));
});

test("H31 base64 of an empty buffer is b and nothing, both ways", async (t) => {
  const session = await Polling.connect(t, server);
  const header = '452-["echo",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]';
  const packets = [header, "b", "b"];
  await session.post(...packets);
  for (const packet of packets) assert.equal(await session.receive(), packet);
});

test("A5 packets that mean nothing to an open session are ignored", async (t) => {
  const session = await Polling.connect(t, server);
  const answer = await session.post("3", "5", "6", '0{"sid":"mine"}', event("echo", "alive"));
  assert.equal(answer.status, 200);
  assert.equal(await session.receive(), event("echo", "alive"));
});

test("B1 a session that joins no namespace is closed after connectTimeout", async (t) => {
  const own = await serverFor(t, { connectTimeout: 300, pingInterval: 60_000 });
  const began = Date.now();
  const session = await Polling.handshake(t, own);
  await elapsed(300, began);
  await until("a close packet", async () => {
    const { status, packets } = await session.get();
    return status === 400 || packets.includes("1");
  });
  await own.empty();
});

/** Waits until the request's bytes have left, as far as this side can know. */
function requestSent({ sent }) {
  const flushed = new Promise((resolve) => {
    if (sent.writableFinished) resolve();
    else sent.once(sent.writableEnded ? "finish" : "socket", resolve);
  });
  return within("the request to be sent", flushed);
}

async function readUntilClose(session, packets) {
  while (!packets.includes("1")) {
    const answer = await session.get();
    assert.equal(answer.status, 200, `no close packet after ${packets}`);
    packets.push(...answer.packets);
  }
}
