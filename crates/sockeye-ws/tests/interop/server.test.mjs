// npm's ws as the server, the crate as the client.
import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import { WebSocketServer } from "ws";
import { bytes, messages, start } from "./example.mjs";

const LENGTHS = [0, 1, 125, 126, 127, 65535, 65536, 5 << 20, 3];

/** A server that one client of ours connects to. */
async function accept(example, args, options = {}) {
  const server = new WebSocketServer({ host: "127.0.0.1", port: 0, ...options });
  await once(server, "listening");
  const client = start(example, `ws://127.0.0.1:${server.address().port}/`, ...args);
  const [socket] = await once(server, "connection");
  return { client, socket, received: messages(socket), close: () => server.close() };
}

test("messages of all lengths come back as they were", async () => {
  const { client, socket, received, close } = await accept("echo_client", []);
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
  socket.close(4000, "enough");
  assert.equal((await once(socket, "close"))[0], 4000);
  assert.equal(await client.exited, 0);
  assert.deepEqual(client.lines, ["closed with 4000 enough"]);
  close();
});

test("fragments and pings", async () => {
  const { client, socket, received, close } = await accept("echo_client", []);
  const text = Buffer.from("Grüße an den Fisch 🐟 ".repeat(1000));
  const pong = once(socket, "pong");
  for (let from = 0; from < text.length; from += 777) {
    socket.send(text.subarray(from, from + 777), { binary: false, fin: false });
    if (from === 777) socket.ping("between");
  }
  assert.equal((await pong)[0].toString(), "between");
  socket.send("", { binary: false, fin: true });
  assert.deepEqual((await received.next()).value, [text, false]);
  socket.close();
  assert.equal((await once(socket, "close"))[0], 1005);
  assert.equal(await client.exited, 0);
  assert.deepEqual(client.lines, ["closed without a code"]);
  close();
});

test("many small messages at once come back in order", async () => {
  const { client, socket, received, close } = await accept("echo_client", []);
  for (let number = 0; number < 5000; number++) socket.send(`message ${number}`);
  for (let number = 0; number < 5000; number++) {
    assert.equal((await received.next()).value[0].toString(), `message ${number}`);
  }
  socket.close(1001);
  assert.equal(await client.exited, 0);
  close();
});

test("a frame that the server masks is refused with 1002", async () => {
  const { client, socket, close } = await accept("echo_client", []);
  socket._socket.write(Buffer.from([0x81, 0x80, 0, 0, 0, 0]));
  assert.equal((await once(socket, "close"))[0], 1002);
  assert.notEqual(await client.exited, 0);
  close();
});

test("JSON there and back", async () => {
  const sent = { subscribe: ["fish", 1] };
  const { client, socket, received, close } = await accept("json_client", [JSON.stringify(sent)]);
  const [text, isBinary] = (await received.next()).value;
  assert.equal(isBinary, false);
  assert.deepEqual(JSON.parse(text), sent);
  socket.send(JSON.stringify({ fish: "🐟" }));
  socket.close(1000);
  assert.equal(await client.exited, 0);
  assert.deepEqual(JSON.parse(client.lines.join("\n")), { fish: "🐟" });
  close();
});
