// Thousands of connections of every kind and ending; then nothing is left and memory is back.

import assert from "node:assert/strict";
import { test } from "node:test";
import { io } from "socket.io-client";
import { request, start } from "../lib/http.mjs";
import { event, Polling } from "../lib/polling.mjs";
import { KIND, useServer } from "../lib/server.mjs";
import { inParallel, until, within } from "../lib/wait.mjs";
import { frame, OPCODE, Peer, Tcp } from "../lib/websocket.mjs";

const WARM_UP = 1_000;
const CONNECTIONS = 2_000;
const AT_ONCE = 40;
/**
 * Abandoned sessions end by these deadlines, so the wait for zero is bounded by them. Those who keep the rules must
 * keep them on a slow machine too.
 */
const SERVER_OPTIONS = {
  pingInterval: 8_000,
  pingTimeout: 8_000,
  upgradeTimeout: 8_000,
  connectTimeout: 8_000,
};
const EMPTY_MS = 60_000;
const server = await useServer(SERVER_OPTIONS);

/** Each lives one connection from beginning to end. */
const LIVES = {
  "polling, closed by the client": async () => {
    const session = await Polling.connect(null, server);
    await session.post(event("join", ["a", "b"]), event("echo", 1));
    await session.receive();
    await session.close();
  },
  "polling, closed by the server": async () => {
    const session = await Polling.connect(null, server);
    await session.post(event("disconnect-me", true));
    await until("a close packet", async () => {
      const { status, packets } = await session.get();
      return status === 400 || packets.includes("1");
    });
  },
  "polling, abandoned": async () => {
    const session = await Polling.connect(null, server);
    await session.post(event("join", "a"), event("echo", 1));
  },
  "polling, never joined": () => Polling.handshake(null, server),
  "polling, dropped in a GET": async () => {
    const session = await Polling.connect(null, server);
    const parked = session.startGet();
    await session.post(event("record", 1));
    parked.abort();
  },
  "polling, handshake dropped": async () => {
    const { sent, abort } = start(server, { query: { EIO: "4", transport: "polling" } });
    sent.on("error", () => {});
    await new Promise((resolve) => sent.once("finish", resolve));
    abort();
  },
  "polling, refused": () => request(server, { query: { EIO: "3", transport: "polling" } }),
  "polling, protocol broken": async () => {
    const session = await Polling.connect(null, server);
    await session.post(event("join", "a"), "garbage");
  },
  "WebSocket, closed": async () => {
    const peer = await Peer.connect(null, server);
    await peer.join("/chat");
    await peer.ask("join", ["a", "b"]);
    peer.ws.close();
    await peer.closeCode();
  },
  "WebSocket, closed by the server": async () => {
    const peer = await Peer.connect(null, server);
    peer.send(event("disconnect-me", true));
    await peer.closeCode();
  },
  "WebSocket, dropped": async () => {
    const peer = await Peer.connect(null, server);
    await peer.join("/chat");
    await peer.ask("join", "a");
    peer.ws.terminate();
  },
  "WebSocket, dropped in a middleware": async () => {
    const peer = await Peer.handshake(null, server);
    peer.send('40/slow,{"room":"waiting","delay":50}', '40/admin,{"token":"letmein"}');
    peer.ws.terminate();
  },
  "WebSocket, refused by middlewares": async () => {
    const peer = await Peer.handshake(null, server);
    peer.send('40/slow,{"room":"refused","delay":1,"refuse":"no"}', '40/admin,{"token":"none"}');
    const refusals = [await peer.receive(), await peer.receive()];
    assert(refusals.every((packet) => packet.startsWith("44/")), String(refusals));
    peer.ws.terminate();
  },
  "WebSocket, never joined, silent": () => Peer.handshake(null, server),
  "WebSocket, handshake dropped": async () => {
    const tcp = await Tcp.open(null, server);
    tcp.upgrade();
    tcp.socket.destroySoon();
  },
  "WebSocket, handshake half sent": async () => {
    const tcp = await Tcp.open(null, server);
    tcp.socket.write("GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nUpgrade: web");
    tcp.socket.destroySoon();
  },
  "WebSocket, protocol broken": async () => {
    const peer = await Peer.connect(null, server);
    await peer.ask("join", "a");
    peer.send("45999-[]");
    await peer.closeCode();
  },
  "WebSocket, slow reader": async () => {
    const tcp = await Tcp.open(null, server);
    tcp.upgrade();
    await tcp.until('0{"sid"');
    tcp.socket.write(frame(OPCODE.text, "40"));
    await tcp.until('40{"sid"');
    tcp.socket.pause();
    tcp.socket.write(frame(OPCODE.text, event("stream", "part", 50, 2_000)));
    await new Promise((resolve) => tcp.socket.write(frame(OPCODE.ping), resolve));
    tcp.socket.destroy();
  },
  "upgrade, finished": async () => {
    const { session, peer } = await probe();
    peer.send("5");
    await peer.ask("join", "a");
    peer.ws.close();
    await peer.closeCode();
    assert((await session.get()).status === 400);
  },
  "upgrade, probe dropped": async () => {
    const { session, peer } = await probe();
    peer.ws.terminate();
    await session.close();
  },
  "upgrade, unfinished and abandoned": async () => {
    const { peer } = await probe();
    // The WebSocket stays as it is; the server has to give up both sides.
    peer.ws.on("close", () => {});
  },
  "upgrade, never probed": async () => {
    const session = await Polling.connect(null, server);
    await Peer.open(null, server, { sid: session.sid });
  },
  "the official client": async (number) => {
    const transports = number % 2 === 0 ? ["polling", "websocket"] : ["websocket"];
    const socket = io(server.url, { forceNew: true, reconnection: false, transports });
    await within("an acknowledgement", socket.emitWithAck("join", ["a", `own ${number}`]));
    socket.disconnect();
  },
};

const KINDS = Object.keys(LIVES).length;

test(`after ${CONNECTIONS} connections of ${KINDS} kinds nothing is left`, async (t) => {
  await churn(WARM_UP);
  await server.empty(EMPTY_MS);
  const before = await server.residentBytes();

  await churn(CONNECTIONS);
  await server.empty(EMPTY_MS);
  // Generous: allocators keep pages, and V8 collects when it likes.
  const allowed = before * 1.3 + (KIND === "node" ? 24_000_000 : 8_000_000);
  t.diagnostic(`resident bytes: ${before} before, ${await server.residentBytes()} after`);
  await until(
    `memory to be back below ${allowed} bytes (${before} before)`,
    async () => (await server.residentBytes()) < allowed,
  );
  assert.equal((await request(server, { query: { EIO: "4", transport: "polling" } })).status, 200);
});

async function churn(count) {
  const lives = Object.entries(LIVES);
  await inParallel(count, AT_ONCE, async (number) => {
    const [name, live] = lives[number % lives.length];
    await live(number).catch((error) => {
      throw new Error(`${name}: ${error.message}`, { cause: error });
    });
  });
}

async function probe() {
  const session = await Polling.connect(null, server);
  const peer = await Peer.open(null, server, { sid: session.sid });
  peer.send("2probe");
  assert.equal(await peer.receive(), "3probe");
  return { session, peer };
}
