// Official clients of earlier majors, unchanged: 2.5, which speaks Engine.IO 3 and needs the option
// `allowEIO3`, and 3.1. FEATURES A6.

import assert from "node:assert/strict";
import { test } from "node:test";
import io2 from "socket.io-client-2";
import io3 from "socket.io-client-3";
import { MODES, connect } from "../lib/client.mjs";
import { serverFor, useServer } from "../lib/server.mjs";
import { Inbox, until, within } from "../lib/wait.mjs";

const server = await useServer({ allowEIO3: true });

const CLIENTS = [["2.5", io2], ["3.1", io3]];
const WAYS = ["polling", "websocket", "upgraded"];

for (const [version, io] of CLIENTS) {
  for (const mode of WAYS) {
    test(`A6 ${version} gets back what it sends, of any kind (${mode})`, async (t) => {
      const socket = await connected(t, io, server, mode);
      for (const value of [
        "", "text", "é€😀", "😀".repeat(5000), 0, -1.5, null, true, [], { a: [{ b: "\u2028" }] },
        Buffer.from([]), Buffer.from([0, 1, 255]), Buffer.alloc(70_000, 7),
        [Buffer.from("a"), { deep: [Buffer.from("b")] }, "c"],
      ]) {
        assert.deepEqual(await ask(socket, "echo", value, "behind"), [value, "behind"]);
      }
      const inbox = collect(socket, "echo");
      for (let number = 0; number < 50; number += 1) {
        socket.emit("echo", number, "é".repeat(number), Buffer.alloc(number, number));
      }
      for (let number = 0; number < 50; number += 1) {
        const expected = [number, "é".repeat(number), Buffer.alloc(number, number)];
        assert.deepEqual(await inbox.next(), expected);
      }
    });

    test(`A6 ${version} answers and is answered, joins and hears (${mode})`, async (t) => {
      const socket = await connected(t, io, server, mode);
      socket.on("question", (number, data, answer) => answer(number + 1, data));
      const data = Buffer.from([1, 2, 3]);
      assert.deepEqual(await ask(socket, "ask", "question", 1, data), [2, data]);
      const room = `older ${version} ${mode}`;
      await ask(socket, "join", room);
      const newer = await connect(t, server, "websocket");
      const inbox = collect(socket, "news");
      for (const value of ["text", { binary: Buffer.from("data") }]) {
        newer.emit("broadcast", { from: "server", event: "news", to: [room] }, value);
        assert.deepEqual(await inbox.next(), [value]);
      }
    });

    test(`A6 ${version} leaves, is sent away, and is refused (${mode})`, async (t) => {
      const socket = await connected(t, io, server, mode);
      const { id } = (await ask(socket, "whoami"))[0];
      assert.equal(id, socket.id);
      const gone = next(socket, "disconnect");
      socket.emit("disconnect-me", false);
      assert.deepEqual(await gone, ["io server disconnect"]);
      const other = await connected(t, io, server, mode);
      const left = next(other, "disconnect");
      other.disconnect();
      assert.deepEqual(await left, ["io client disconnect"]);
    });
  }
}

test("A6 clients stay for as long as they answer or ask", async (t) => {
  // More heartbeats than a client that says nothing may stay for. The time to answer is what a busy
  // machine needs; all clients wait at once.
  const own = await serverFor(t, { allowEIO3: true, pingInterval: 250, pingTimeout: 10_000 });
  const stay = async ([version, io], mode) => {
    const socket = await connected(t, io, own, mode);
    let lost;
    socket.on("disconnect", (reason) => (lost = reason));
    const heartbeats = new Inbox();
    socket.io.engine.on("packet", ({ type }) => {
      if (type === "ping" || type === "pong") heartbeats.push(type);
    });
    for (let count = 0; count < 45; count += 1) {
      assert.equal(await heartbeats.next(), version === "2.5" ? "pong" : "ping");
    }
    assert.equal(lost, undefined, `${version} ${mode}`);
    assert.deepEqual(await ask(socket, "echo", 1), [1]);
  };
  await Promise.all(CLIENTS.flatMap((one) => WAYS.map((mode) => stay(one, mode))));
});

for (const mode of WAYS) {
  test(`A6 H70 2.5 joins a namespace with its query, and learns why it may not (${mode})`, async (t) => {
    const query = { token: "letmein", plain: "" };
    const admin = client(t, io2, server, mode, "/admin", { query });
    await next(admin, "connect");
    const who = (await ask(admin, "whoami"))[0];
    assert.equal(who.namespace, "/admin");
    assert.deepEqual(who.auth, query);
    const refused = client(t, io2, server, mode, "/admin", { query: { token: "none" } });
    assert.deepEqual(await next(refused, "error"), [{ code: "E_TOKEN", given: "none" }]);
    const unknown = client(t, io2, server, mode, "/nowhere");
    // Not in text alone, as servers of that time said every refusal.
    assert.deepEqual(await next(unknown, "error"), [{ message: "Invalid namespace" }]);
    const slow = client(t, io2, server, mode, "/slow", { query: { refuse: "not you" } });
    assert.deepEqual(await next(slow, "error"), ["not you"]);
  });

  test(`A6 2.5 shares one connection among namespaces (${mode})`, async (t) => {
    const root = await connected(t, io2, server, mode);
    const chat = root.io.socket("/chat");
    t.after(() => chat.disconnect());
    await next(chat, "connect");
    assert.deepEqual(await ask(chat, "echo", Buffer.from("x")), [Buffer.from("x")]);
    const gone = next(chat, "disconnect");
    chat.emit("disconnect-me", false);
    await gone;
    assert.deepEqual(await ask(root, "echo", 1), [1]);
  });
}

for (const mode of ["websocket", "upgraded"]) {
  test(`A6 2.5 compresses WebSocket messages, both ways (${mode})`, async (t) => {
    for (const serverNoContextTakeover of [true, false]) {
      const perMessageDeflate = { serverNoContextTakeover };
      const own = await serverFor(t, { allowEIO3: true, perMessageDeflate });
      // The client offers it unless it is told otherwise.
      const socket = await connected(t, io2, own, mode);
      const plain = await connected(t, io2, own, mode, { perMessageDeflate: false });
      const { ws } = socket.io.engine.transport;
      assert.equal(ws.extensions, "permessage-deflate");
      assert.equal(plain.io.engine.transport.ws.extensions, "");
      const before = [ws._socket.bytesRead, ws._socket.bytesWritten];
      for (let number = 1; number <= 10; number += 1) {
        const args = ["é".repeat(500 * number), Buffer.alloc(700 * number, number), number];
        assert.deepEqual(await ask(socket, "echo", ...args), args);
      }
      const news = [collect(socket, "news"), collect(plain, "news")];
      const args = ["x".repeat(5_000), Buffer.alloc(5_000, 7)];
      await ask(plain, "broadcast", { from: "server", event: "news" }, ...args);
      for (const inbox of news) assert.deepEqual(await inbox.next(), args);
      const after = [ws._socket.bytesRead, ws._socket.bytesWritten];
      // 103 and 93 KB, were they as they are.
      after.forEach((bytes, way) => assert(bytes - before[way] < 10_000, `${bytes}`));
    }
  });
}

test("A6 2.5 is refused with code 5 where it is not allowed", async (t) => {
  const own = await serverFor(t);
  const socket = client(t, io2, own, "polling", "/");
  const [error] = await next(socket, "connect_error");
  assert.match(String(error), /xhr poll error/);
});

test("A6 nothing is left of clients that have gone", async (t) => {
  const own = await serverFor(t, { allowEIO3: true });
  for (const mode of WAYS) {
    for (const [, io] of CLIENTS) {
      const socket = await connected(t, io, own, mode);
      await ask(socket, "join", "room");
      socket.disconnect();
    }
  }
  await own.empty();
});

function client(t, io, to, mode, namespace, options = {}) {
  const { transports } = MODES[mode];
  const settings = { forceNew: true, reconnection: false, transports, ...options };
  const socket = io(to.url + namespace, settings);
  t.after(() => socket.disconnect());
  return socket;
}

async function connected(t, io, to, mode, options) {
  const socket = client(t, io, to, mode, "/", options);
  await next(socket, "connect");
  if (MODES[mode].waitForUpgrade) {
    await until("the upgrade", () => socket.io.engine.transport.name === "websocket");
  }
  return socket;
}

function next(socket, event) {
  const promise = new Promise((resolve) => socket.once(event, (...args) => resolve(args)));
  return within(`the client to receive ${event}`, promise);
}

function collect(socket, event) {
  const inbox = new Inbox();
  socket.on(event, (...args) => inbox.push(args));
  return inbox;
}

function ask(socket, event, ...args) {
  const promise = new Promise((resolve) => {
    socket.emit(event, ...args, (...answers) => resolve(answers));
  });
  return within(`an acknowledgement of ${event}`, promise);
}
