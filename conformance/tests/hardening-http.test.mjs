// HARDENING.md: hostile HTTP and upgrade requests. In each test a second, well-behaved client
// is served throughout.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Witness } from "../lib/client.mjs";
import { request } from "../lib/http.mjs";
import { event, Polling } from "../lib/polling.mjs";
import { KIND, serverFor, useServer } from "../lib/server.mjs";
import { inParallel, until, within } from "../lib/wait.mjs";
import { frame, OPCODE, Peer, Tcp } from "../lib/websocket.mjs";

const LIMIT = 1_000_000;
const server = await useServer();

test("CVE-2026-59725: octet-stream POSTs get 400 and close their sessions", async (t) => {
  const own = await serverFor(t);
  const witness = await Witness.of(t, own);
  await inParallel(50, 10, async () => {
    const session = await Polling.connect(null, own);
    const headers = { "Content-Type": "application/octet-stream" };
    const { status } = await within("400", session.startPost("binary", { headers }).answer);
    assert.equal(status, 400);
  });
  await until("only the witness to be left", async () => (await own.stats()).sessions === 1);
  await witness.check();
});

test("CVE-2020-36048: a POST far above the limit is cut off, its memory not kept", async (t) => {
  const own = await serverFor(t);
  const witness = await Witness.of(t, own);
  const before = await own.residentBytes();
  for (let i = 0; i < 5; i += 1) {
    const session = await Polling.connect(null, own);
    const post = session.startPost(null, { headers: { "Content-Type": "text/plain" } });
    const chunk = Buffer.alloc(1_000_000, "4");
    post.sent.on("error", () => {});
    for (let sent = 0; sent < 30 && !post.sent.destroyed; sent += 1) {
      await Promise.race([
        new Promise((resolve) => post.sent.write(chunk, resolve)),
        post.answer.catch(() => {}),
      ]);
    }
    post.sent.end();
    const outcome = await within("an end", post.answer.catch((error) => error));
    assert(outcome instanceof Error || outcome.status === 413, `answered with ${outcome.status}`);
    await session.close();
  }
  const grown = (await own.residentBytes()) - before;
  assert(grown < 100_000_000, `150 MB sent, ${grown} bytes kept`);
  await witness.check();
});

test("CVE-2023-31125: upgrade requests with an invalid transport", async (t) => {
  const witness = await Witness.of(t, server);
  const session = await Polling.connect(t, server);
  const transports = ["", "invalid", "polling", "webtransport", "__proto__", "constructor"];
  const searches = transports.map((transport) => `EIO=4&transport=${transport}`);
  const doubled = ["EIO=4&transport=websocket&transport=polling", "EIO=4", "", "&&&==&%00%ff%"];
  for (const search of [...searches, ...doubled]) {
    for (const suffix of ["", `&sid=${session.sid}`]) {
      const tcp = await Tcp.open(t, server);
      tcp.upgrade({ search: search + suffix });
      // Accepted and closed, or refused: TCP ends when this side has answered a close frame.
      tcp.socket.write(frame(OPCODE.close));
      await tcp.end();
    }
  }
  await session.post(event("echo", "unharmed"));
  assert.equal(await session.receive(), event("echo", "unharmed"));
  await witness.check();
});

test("CVE-2022-41940: TCP reset in the middle of a rejected upgrade", async (t) => {
  const witness = await Witness.of(t, server);
  for (let i = 0; i < 100; i += 1) {
    const tcp = await Tcp.open(t, server);
    tcp.upgrade({ search: "EIO=4&transport=invalid" });
    if (i % 3 === 0) await tcp.until("HTTP/1.1").catch(() => {});
    if (i % 3 === 1) await new Promise((resolve) => tcp.socket.write("", resolve));
    tcp.socket.resetAndDestroy();
  }
  await witness.check();
});

test("CVE-2022-41940: TCP reset in the middle of an accepted one", async (t) => {
  const own = await serverFor(t, { pingInterval: 300, pingTimeout: 300 });
  for (let i = 0; i < 60; i += 1) {
    const tcp = await Tcp.open(t, own);
    tcp.upgrade();
    if (i % 2 === 0) await new Promise((resolve) => tcp.socket.write("", resolve));
    tcp.socket.resetAndDestroy();
  }
  await own.empty();
});

test("CVE-2022-21676: frames with RSV bits right behind the handshake", async (t) => {
  const own = await serverFor(t);
  const witness = await Witness.of(t, own);
  for (const rsv of [1, 2, 3, 4, 7]) {
    for (const search of ["EIO=4&transport=websocket", "EIO=4&transport=invalid"]) {
      const tcp = await Tcp.open(t, own);
      tcp.upgrade({ search, behind: frame(OPCODE.text, "40", { rsv }) });
      await tcp.end();
    }
  }
  await until("only the witness to be left", async () => (await own.stats()).sessions === 1);
  await witness.check();
});

test("overlapping GETs and POSTs are always answered, never hung", async (t) => {
  const witness = await Witness.of(t, server);
  for (let round = 0; round < 10; round += 1) {
    const session = await Polling.connect(t, server);
    const requests = Array.from({ length: 20 }, (_, i) => {
      return i % 2 === 0 ? session.startGet() : session.startPost(event("echo", i));
    });
    const answers = requests.map(({ answer }) => answer.catch((error) => error));
    // Where GETs overlapped the session has ended. Where none did (a quick server answers each with an echo before the
    // next comes) the last one waits for the session's end, as it should.
    await within("every POST's answer", Promise.all(answers.filter((_, i) => i % 2 === 1)));
    await session.close();
    for (const outcome of await within("every answer", Promise.all(answers))) {
      assert(outcome instanceof Error || [200, 400].includes(outcome.status), `${outcome.status}`);
    }
  }
  await witness.check();
});

test("abandoned and doubled upgrades leave nothing", async (t) => {
  const own = await serverFor(t, { pingInterval: 2_000, pingTimeout: 6_000, upgradeTimeout: 400 });
  await inParallel(40, 10, async (i) => {
    const session = await Polling.connect(null, own);
    const peer = await Peer.open(null, own, { sid: session.sid });
    if (i % 2 === 0) peer.send("2probe");
    if (i % 4 === 0) new Peer(own, { sid: session.sid });
    if (i % 5 === 0) peer.ws.terminate();
    // The polling side is abandoned as well: heartbeats go on in an unfinished upgrade.
  });
  await own.empty();
});

test("ws CVE-2024-37890: very many request headers", async (t) => {
  const witness = await Witness.of(t, server);
  for (const count of [1_000, 20_000]) {
    const tcp = await Tcp.open(t, server);
    tcp.upgrade({ extra: Array.from({ length: count }, (_, i) => `x-${i}: y`) });
    await until("an answer or the end", () => tcp.status !== undefined || tcp.ended);
    tcp.socket.destroy();
  }
  await witness.check();
});

test("tungstenite CVE-2023-43669: 20 MB of header", async (t) => {
  const witness = await Witness.of(t, server);
  const heads = [
    "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nx: ",
    "GET /socket.io/?EIO=4&transport=polling&pad=",
  ];
  for (const head of heads) {
    const tcp = await Tcp.open(t, server);
    tcp.socket.write(head);
    const chunk = "x".repeat(1_000_000);
    for (let i = 0; i < 20 && !tcp.ended; i += 1) {
      await Promise.race([tcp.gone, new Promise((resolve) => tcp.socket.write(chunk, resolve))]);
    }
    await tcp.end();
  }
  await witness.check();
});

test("ws CVE-2021-32640: slow parsing of WebSocket headers", async (t) => {
  const witness = await Witness.of(t, server);
  const long = 10_000;
  const values = [
    ["Sec-WebSocket-Protocol", `a${" ".repeat(long)}b`],
    ["Sec-WebSocket-Protocol", "a,".repeat(long / 2)],
    ["Sec-WebSocket-Extensions", `permessage-deflate${" ".repeat(long)};`],
    ["Sec-WebSocket-Extensions", `x; y="${"\\".repeat(long)}"`],
    ["Sec-WebSocket-Extensions", "x; ".repeat(long / 3)],
    ["Sec-WebSocket-Version", "1".repeat(long)],
  ];
  for (const [name, value] of values) {
    const tcp = await Tcp.open(t, server);
    tcp.upgrade({ extra: [`${name}: ${value}`] });
    await until("an answer or the end", () => tcp.status !== undefined || tcp.ended);
    tcp.socket.destroy();
  }
  await witness.check();
});

test("upgrade requests without the headers of RFC 6455 are refused", async (t) => {
  const witness = await Witness.of(t, server);
  const good = {
    Host: "127.0.0.1",
    Connection: "Upgrade",
    Upgrade: "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
  };
  const bad = [
    { "Sec-WebSocket-Key": undefined },
    { "Sec-WebSocket-Key": "short" },
    { "Sec-WebSocket-Key": "!".repeat(24) },
    { "Sec-WebSocket-Version": "12" },
    { "Sec-WebSocket-Version": undefined },
    { "Sec-WebSocket-Protocol": "a,a" },
    { Upgrade: "h2c" },
    // Node asks for it only where HTTP goes on.
    ...(KIND === "node" ? [] : [{ Host: undefined }]),
  ];
  for (const change of bad) {
    const lines = Object.entries({ ...good, ...change })
      .filter(([, value]) => value !== undefined)
      .map(([name, value]) => `${name}: ${value}\r\n`);
    const tcp = await Tcp.open(t, server);
    const target = "/socket.io/?EIO=4&transport=websocket";
    tcp.socket.write(`GET ${target} HTTP/1.1\r\n${lines.join("")}\r\n`);
    await until("a refusal", () => tcp.status !== undefined || tcp.ended);
    assert.equal(tcp.status, 400, JSON.stringify(change));
    // RFC 6455 §4.4: who speaks none of the client's versions says which it does speak.
    if ("Sec-WebSocket-Version" in change) {
      assert.match(tcp.text, /\r\nSec-WebSocket-Version: 13, 8\r\n/i);
    }
    tcp.socket.destroy();
  }
  await witness.check();
});

test("slow-loris: half requests, half bodies, half handshakes", async (t) => {
  const own = await serverFor(t);
  const witness = await Witness.of(t, own);
  const body = await Polling.connect(null, own);
  const starts = [
    "G",
    "GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: x\r\nx-slow: ",
    "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nUpgrade: websocket\r\n",
    `POST /socket.io/?EIO=4&transport=polling&sid=${body.sid} HTTP/1.1\r\nHost: x\r\n` +
      "Content-Length: 100\r\n\r\n42",
  ];
  const slow = [];
  for (let i = 0; i < 200; i += 1) {
    const tcp = await Tcp.open(t, own);
    tcp.socket.write(starts[i % starts.length]);
    slow.push(tcp);
  }
  for (let drip = 0; drip < 5; drip += 1) {
    for (const tcp of slow) if (!tcp.ended) tcp.socket.write("x");
    await witness.check();
    const { status } = await request(own, { query: { EIO: "4", transport: "none" } });
    assert.equal(status, 400, "new requests are served");
  }
  for (const tcp of slow) tcp.socket.destroy();
  await until("only the witness to be left", async () => (await own.stats()).sessions === 1);
});

test("requests that are no HTTP, and URLs that are none", async (t) => {
  const witness = await Witness.of(t, server);
  const requests = [
    "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "GET /socket.io/?EIO=4&transport=polling&sid=%ff%00%zz HTTP/1.1\r\nHost: x\r\n",
    "GET //socket.io/?EIO=4 HTTP/1.1\r\nHost: x\r\n",
    "GET http://[::1/socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: x\r\n",
    "GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: \x01\r\n",
    "POST /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n",
    "POST /socket.io/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n",
    `GET /socket.io/?${"a=b&".repeat(3_000)}EIO=4&transport=polling HTTP/1.1\r\nHost: x\r\n`,
  ];
  for (const text of requests) {
    const tcp = await Tcp.open(t, server);
    tcp.socket.end(Buffer.from(`${text}Connection: close\r\n\r\n`, "latin1"));
    await tcp.end();
  }
  await witness.check();
});

test("CVE-2020-36049: the limit holds for a polling session's whole POST", async (t) => {
  const witness = await Witness.of(t, server);
  const session = await Polling.connect(t, server);
  assert.equal((await session.post("4" + "x".repeat(LIMIT))).status, 413);
  assert.equal((await session.post("b" + "A".repeat(LIMIT))).status, 413);
  await witness.check();
});
