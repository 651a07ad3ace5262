// npm's ws and the crate with compression: all four parameters of both sides, in both roles, with
// messages that refer to those before them, fragments, and a look at the wire.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { test } from "node:test";
import WebSocket, { WebSocketServer } from "ws";
import { messages, serve, start } from "./example.mjs";

/** What one side can be told: each flag, and each window whole or small. */
const SIDES = [false, true].flatMap((serverAlone) =>
  [false, true].flatMap((clientAlone) =>
    [15, 10].flatMap((serverBits) =>
      [15, 10].map((clientBits) => ({ serverAlone, clientAlone, serverBits, clientBits })),
    ),
  ),
);

/** The extension with these parameters, as its header has them. */
function extension({ serverAlone, clientAlone, serverBits, clientBits }) {
  return [
    "permessage-deflate",
    ...(serverAlone ? ["server_no_context_takeover"] : []),
    ...(clientAlone ? ["client_no_context_takeover"] : []),
    ...(serverBits < 15 ? [`server_max_window_bits=${serverBits}`] : []),
    ...(clientBits < 15 ? [`client_max_window_bits=${clientBits}`] : []),
  ].join("; ");
}

/** The same for ws, which takes `false` and 15 for a wish, too. */
function options({ serverAlone, clientAlone, serverBits, clientBits }) {
  return {
    serverNoContextTakeover: serverAlone || undefined,
    clientNoContextTakeover: clientAlone || undefined,
    serverMaxWindowBits: serverBits < 15 ? serverBits : undefined,
    clientMaxWindowBits: clientBits < 15 ? clientBits : undefined,
  };
}

/** What two sides have to agree on: what either of them wants. */
function agreed(one, other) {
  return {
    serverAlone: one.serverAlone || other.serverAlone,
    clientAlone: one.clientAlone || other.clientAlone,
    serverBits: Math.min(one.serverBits, other.serverBits),
    clientBits: Math.min(one.clientBits, other.clientBits),
  };
}

/** What the header says that the server has chosen. */
function chosen(socket) {
  const { params } = socket._extensions["permessage-deflate"];
  return {
    serverAlone: params.server_no_context_takeover === true,
    clientAlone: params.client_no_context_takeover === true,
    serverBits: params.server_max_window_bits ?? 15,
    clientBits: params.client_max_window_bits ?? 15,
  };
}

/** Of about that length, and unlike what another number gives. */
function document(number, length) {
  const fishes = [];
  for (let fish = 0; fish * 24 < length; fish++) fishes.push({ fish: fish * number, name: "🐟" });
  return Buffer.from(JSON.stringify(fishes));
}

const NOISE = randomBytes(3000);
/** Text where it is true, and what is like what came before. */
const MESSAGES = [
  [document(1, 5000), true],
  [document(1, 5000), true],
  [Buffer.from("a"), true],
  [NOISE, false],
  [document(2, 100), true],
  [NOISE, false],
  [document(3, 1024), false],
  // Longer than a small window, and it begins with what has left that by then.
  [Buffer.concat([document(1, 5000), NOISE, document(1, 5000)]), false],
  [document(1, 5000), true],
];

/** Sends messages whole and in fragments; each must come back. */
async function exchange(socket, received) {
  for (const [data, isText] of MESSAGES) {
    socket.send(data, { binary: !isText });
    const [back, isBinary] = (await received.next()).value;
    assert.equal(isBinary, !isText);
    assert.ok(back.equals(data), `${back.length} bytes for ${data.length}`);
  }
  for (const [data, isText] of [MESSAGES[7], MESSAGES[8]]) {
    const binary = !isText;
    socket.send(data.subarray(0, 0), { binary, fin: false });
    socket.send(data.subarray(0, 1500), { binary, fin: false });
    const pong = once(socket, "pong");
    socket.ping("between");
    socket.send(data.subarray(1500, 1501), { binary, fin: false });
    socket.send(data.subarray(1501), { binary, fin: true });
    const [back, isBinary] = (await received.next()).value;
    assert.equal(isBinary, binary);
    assert.ok(back.equals(data), `${back.length} bytes for ${data.length}, in fragments`);
    assert.equal((await pong)[0].toString(), "between");
  }
}

/** A long message, there and back, is short on the wire. */
async function look(socket, received) {
  const data = document(7, 2 << 20);
  const { bytesRead, bytesWritten } = socket._socket;
  socket.send(data, { binary: false });
  assert.ok((await received.next()).value[0].equals(data));
  for (const count of [
    socket._socket.bytesRead - bytesRead,
    socket._socket.bytesWritten - bytesWritten,
  ]) {
    assert.ok(count > 1000 && count < data.length / 2, `${count} for ${data.length}`);
  }
}

for (const ours of SIDES) {
  test(`our server wants ${extension(ours)}`, async (t) => {
    const server = await serve("interop_server", extension(ours));
    t.after(() => server.stop());
    for (const theirs of SIDES) {
      for (const path of ["/", "/parts"]) {
        const perMessageDeflate = options(theirs);
        const socket = new WebSocket(`${server.url}${path}`, { perMessageDeflate });
        t.after(() => socket.terminate());
        const received = messages(socket);
        await once(socket, "open");
        assert.deepEqual(chosen(socket), agreed(ours, theirs));
        await exchange(socket, received);
        if (theirs === SIDES[0]) await look(socket, received);
        socket.close(1000);
        assert.equal((await once(socket, "close"))[0], 1000);
      }
    }
  });

  test(`our client wants ${extension(ours)}`, async (t) => {
    for (const theirs of SIDES) {
      const perMessageDeflate = options(theirs);
      const server = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate });
      t.after(() => server.close());
      await once(server, "listening");
      for (const path of ["/", "/parts"]) {
        const url = `ws://127.0.0.1:${server.address().port}${path}`;
        const client = start("interop_client", url, extension(ours));
        const [socket] = await once(server, "connection");
        t.after(() => socket.terminate());
        const received = messages(socket);
        assert.deepEqual(chosen(socket), agreed(ours, theirs));
        await exchange(socket, received);
        if (theirs === SIDES[0]) await look(socket, received);
        socket.close(4000, "enough");
        assert.equal((await once(socket, "close"))[0], 4000);
        assert.equal(await client.exited, 0);
        assert.deepEqual(client.lines, ["closed with 4000 enough"]);
      }
    }
  });
}
