// npm's ws as the client, the crate as the server.
import assert from "node:assert/strict";
import { once } from "node:events";
import { after, before, test } from "node:test";
import WebSocket from "ws";
import { bytes, messages, serve } from "./example.mjs";

const LENGTHS = [0, 1, 125, 126, 127, 65535, 65536, 5 << 20, 3];

let server;
before(async () => {
  server = await serve("echo_server");
});
after(() => server.stop());

/** An open connection whose greeting has come. */
async function connect(options) {
  const socket = new WebSocket(server.url, options);
  const received = messages(socket);
  await once(socket, "open");
  const { port } = socket._socket.address();
  const [greeting] = (await received.next()).value;
  assert.equal(greeting.toString(), `hello, 127.0.0.1:${port}`);
  return { socket, received, port };
}

test("messages of all lengths come back as they were", async () => {
  const { socket, received } = await connect();
  for (const length of LENGTHS) {
    const data = bytes(length);
    socket.send(data);
    assert.deepEqual((await received.next()).value, [data, true]);
    const text = "añ🐟z".repeat(length / 4);
    socket.send(text);
    const [back, isBinary] = (await received.next()).value;
    assert.equal(isBinary, false);
    assert.equal(back.toString(), text);
  }
  socket.close();
  await once(socket, "close");
});

test("many small messages at once come back in order", async () => {
  const { socket, received } = await connect();
  for (let number = 0; number < 5000; number++) socket.send(`message ${number}`);
  for (let number = 0; number < 5000; number++) {
    assert.equal((await received.next()).value[0].toString(), `message ${number}`);
  }
  socket.terminate();
});

test("fragments are put together, pings between them are answered at once", async () => {
  const { socket, received } = await connect();
  const text = Buffer.from("Grüße an den Fisch 🐟 ".repeat(1000));
  const pong = once(socket, "pong");
  for (let from = 0; from < text.length; from += 777) {
    socket.send(text.subarray(from, from + 777), { binary: false, fin: false });
    if (from === 777) socket.ping("between");
  }
  const [payload] = await pong;
  assert.equal(payload.toString(), "between");
  socket.send("", { binary: false, fin: true });
  const [back, isBinary] = (await received.next()).value;
  assert.equal(isBinary, false);
  assert.deepEqual(back, text);
  socket.close();
  await once(socket, "close");
});

test("close codes and reasons arrive, and are echoed", async () => {
  for (const [args, code, line] of [
    [[], 1005, /closed, without a code/],
    [[1000], 1000, /closed with 1000 ""/],
    [[4999, "tschüß"], 4999, /closed with 4999 "tschüß"/],
  ]) {
    const { socket, port } = await connect();
    socket.close(...args);
    const [echoed] = await once(socket, "close");
    assert.equal(echoed, code);
    await server.line(new RegExp(`:${port}: ${line.source}`));
  }
});

test("a client that vanishes is noticed", async () => {
  const { socket, port } = await connect();
  socket.terminate();
  await server.line(new RegExp(`:${port}: (the peer ended|the stream failed)`));
});

test("what breaks the protocol gets the code of RFC 6455", async () => {
  for (const [frame, code] of [
    [[0xc1, 0x80, 0, 0, 0, 0], 1002], // RSV1 without an extension
    [[0x83, 0x80, 0, 0, 0, 0], 1002], // a reserved opcode
    [[0x81, 0x00], 1002], // not masked
    [[0x80, 0x80, 0, 0, 0, 0], 1002], // a continuation of nothing
    [[0x09, 0x80, 0, 0, 0, 0], 1002], // a fragmented ping
    [[0x81, 0x81, 0, 0, 0, 0, 0xff], 1007], // no UTF-8
    [[0x82, 0xff, 0, 0, 0, 0, 0x10, 0, 0, 0], 1009], // 256 MiB
    [[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xed], 1002], // 1005 may not be sent
  ]) {
    const { socket } = await connect();
    socket._socket.write(Buffer.from(frame));
    const [echoed] = await once(socket, "close");
    assert.equal(echoed, code, `${frame}`);
  }
});

test("a subprotocol that the server does not speak", async () => {
  const socket = new WebSocket(server.url, ["unknown"]);
  const [error] = await once(socket, "error");
  assert.match(error.message, /sent no subprotocol/);
});

test("what is no handshake is refused with a reason", async () => {
  const url = server.url.replace("ws:", "http:");
  const response = await fetch(url);
  assert.equal(response.status, 426);
  assert.match(await response.text(), /only WebSocket/);
  const post = await fetch(url, { method: "POST" });
  assert.equal(post.status, 405);
  assert.equal(post.headers.get("allow"), "GET");
});

test("axum: a subprotocol, and messages", async () => {
  const axum = await serve("axum_echo");
  try {
    const socket = new WebSocket(axum.url, ["other", "echo"]);
    const received = messages(socket);
    await once(socket, "open");
    assert.equal(socket.protocol, "echo");
    socket.send(bytes(100_000));
    assert.deepEqual((await received.next()).value, [bytes(100_000), true]);
    socket.close(1000);
    assert.equal((await once(socket, "close"))[0], 1000);
  } finally {
    await axum.stop();
  }
});

test("compression: what one feed sends is understood with and without", async () => {
  const feed = await serve("compressed_feed");
  try {
    const offers = [
      true,
      false,
      { serverMaxWindowBits: 9 },
      { clientNoContextTakeover: true, serverNoContextTakeover: true },
      { clientMaxWindowBits: 10 },
    ];
    await Promise.all(
      offers.map(async (perMessageDeflate) => {
        const socket = new WebSocket(feed.url, { perMessageDeflate });
        const received = messages(socket);
        let length = 0;
        socket.on("message", (data) => (length += data.length));
        await once(socket, "open");
        assert.equal(socket.extensions.includes("permessage-deflate"), perMessageDeflate !== false);
        let last = -1;
        for (let count = 0; count < 5; count++) {
          const { number, prices } = JSON.parse((await received.next()).value[0]);
          assert.equal(prices.length, 100);
          assert.ok(number > last);
          last = number;
        }
        const { _socket: stream } = socket;
        socket.close();
        await once(socket, "close");
        // All that was read has been told now, also what came behind the others at once.
        const bytes = stream.bytesRead;
        if (perMessageDeflate === false) assert.ok(bytes > length, `${bytes} of ${length} bytes`);
        else assert.ok(bytes < length / 2, `${bytes} of ${length} bytes`);
      }),
    );
  } finally {
    await feed.stop();
  }
});

test("broadcast: all members get all messages in the same order", async () => {
  const hub = await serve("broadcast_hub");
  try {
    const members = [];
    for (let number = 0; number < 10; number++) {
      const socket = new WebSocket(hub.url);
      const received = messages(socket);
      await once(socket, "open");
      // Its own message back says that it has joined.
      socket.send(`join ${number}`);
      while ((await received.next()).value[0].toString() !== `join ${number}`);
      members.push({ socket, received });
    }
    for (const [number, { socket }] of members.entries()) socket.send(`hello from ${number}`);
    const orders = await Promise.all(
      members.map(async ({ received }) => {
        const order = [];
        while (order.length < members.length) {
          const text = (await received.next()).value[0].toString();
          if (text.startsWith("hello")) order.push(text);
        }
        return order;
      }),
    );
    assert.equal(new Set(orders[0]).size, members.length);
    for (const order of orders) assert.deepEqual(order, orders[0]);
    for (const { socket } of members) socket.terminate();
  } finally {
    await hub.stop();
  }
});
