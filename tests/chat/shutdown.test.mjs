// SIGTERM: not ready any more, clients are told, and nothing that was taken is lost.

import assert from "node:assert/strict";
import { connect } from "node:net";
import { test } from "node:test";

import { Client, until } from "./lib/client.mjs";
import { Server, token } from "./lib/server.mjs";

// A client over WebSocket that takes part until it is told to close, and then does nothing.
async function stubborn(t, server) {
  const socket = connect(server.port, "127.0.0.1");
  t.after(() => socket.destroy());
  let heard = "";
  socket.setEncoding("latin1").on("data", (text) => (heard += text));
  socket.write(
    "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
      "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
  );
  await until(() => heard.includes('"sid"'), "the handshake");
  const text = Buffer.from(`40${JSON.stringify({ token: token("stubborn") })}`);
  const size = Buffer.alloc(2);
  size.writeUInt16BE(text.length);
  // RFC 6455 §5.2: masked with zeros the text is itself.
  socket.write(Buffer.concat([Buffer.from([0x81, 0x80 | 126]), size, Buffer.alloc(4), text]));
  await until(() => heard.includes("session:created"), "the session");
  return socket;
}

const status = (server, path) =>
  fetch(server.url + path).then(
    (response) => response.status,
    () => "refused",
  );

test("while it drains it is not ready but lives, lets nobody in, and then ends by itself", async (t) => {
  const server = await Server.start(t, { flags: ["--shutdown-seconds", "3600"] });
  const ann = await Client.join(t, server, "ann", "room");
  const last = await stubborn(t, server);
  assert.equal(await status(server, "/readyz"), 200);
  server.child.kill("SIGTERM");
  await until(async () => (await status(server, "/readyz")) === 503, "not ready");
  assert.equal(await status(server, "/healthz"), 200);
  assert.equal(await status(server, "/socket.io/?EIO=4&transport=polling"), 503);
  await ann.next("disconnect");
  assert.equal(server.child.exitCode, null, "one is still there");
  last.destroy();
  assert.equal(await server.ended, 0, "when the last one has gone");
});

test("after the time that it was given it ends, whoever is still there", async (t) => {
  const server = await Server.start(t, { flags: ["--shutdown-seconds", "1"] });
  await stubborn(t, server);
  assert.equal(await server.stop("SIGTERM"), 0);
});

test("without stubborn clients it ends at once", async (t) => {
  const server = await Server.start(t, { flags: ["--shutdown-seconds", "3600"] });
  const clients = [
    await Client.join(t, server, "ann", "room"),
    await Client.join(t, server, "ben", "room", { transports: ["polling"] }),
  ];
  assert.equal(await server.stop("SIGTERM"), 0);
  for (const client of clients) await client.next("disconnect");
});

test("SIGINT ends it in the same way, and a second signal at once", async (t) => {
  const server = await Server.start(t, { flags: ["--shutdown-seconds", "3600"] });
  await stubborn(t, server);
  server.child.kill("SIGINT");
  await until(async () => (await status(server, "/readyz")) === 503, "not ready");
  server.child.kill("SIGINT");
  assert.equal(await server.ended, 0);
});

test("what was acknowledged before the end is there after it", async (t) => {
  const server = await Server.start(t, {
    flags: ["--messages-per-second", "100000", "--history-messages", "1000"],
  });
  const ann = await Client.join(t, server, "ann", "room");
  const ids = [];
  const talk = (async () => {
    while (ann.socket.connected) {
      // It fails when the connection ends.
      const ack = await ann.socket
        .emitWithAck("chat:message", { room: "room", text: "x" })
        .catch(() => null);
      if (ack?.status === "ok") ids.push(ack.id);
    }
  })();
  await until(() => ids.length > 20, "20 messages");
  await server.restart("SIGTERM");
  await talk;
  const again = await Client.connect(t, server, "ann");
  const kept = (await again.joins("room")).history.map((message) => message.id);
  assert.deepEqual(kept.slice(0, ids.length), ids);
});
