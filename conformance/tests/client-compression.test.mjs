// permessage-deflate with the official client: agreed to, used both ways, and kept within limits.
// FEATURES A1, A9 and E4.

import assert from "node:assert/strict";
import { test } from "node:test";
import { ask, askAll, collect, connect } from "../lib/client.mjs";
import { Polling, event } from "../lib/polling.mjs";
import { serverFor, sockeyeOnly } from "../lib/server.mjs";
import { Peer } from "../lib/websocket.mjs";

const OFFER = { perMessageDeflate: { threshold: 1024 } };

/** What a server may be told, and what the client then reads in the answer. */
const SETTINGS = [
  [{ serverNoContextTakeover: true, clientNoContextTakeover: true }, /server_no.*client_no/],
  [{ serverNoContextTakeover: true }, /server_no_context_takeover/],
  [{ serverMaxWindowBits: 10 }, /server_max_window_bits=10/],
  [{ serverMaxWindowBits: 9, clientMaxWindowBits: 9, serverNoContextTakeover: true }, /bits=9/],
  [{}, /^permessage-deflate$/],
];

/** Text that compresses well, different from one number to the next. */
function text(number, length) {
  return Array.from({ length }, (_, at) => ((at * (number + 3)) % 19).toString(19)).join("");
}

function webSocket(socket) {
  return socket.io.engine.transport.ws;
}

test("A1 perMessageDeflate is off unless the server is told otherwise", async (t) => {
  const plain = await connect(t, await serverFor(t), "websocket", OFFER);
  assert.equal(webSocket(plain).extensions, "");
  const told = await serverFor(t, { perMessageDeflate: { serverNoContextTakeover: true } });
  const unasked = await connect(t, told, "websocket", { perMessageDeflate: false });
  assert.equal(webSocket(unasked).extensions, "");
});

for (const mode of ["websocket", "upgraded"]) {
  test(`E4 messages arrive as they were, whatever is agreed (${mode})`, async (t) => {
    for (const [perMessageDeflate, answer] of SETTINGS) {
      const own = await serverFor(t, { perMessageDeflate });
      const socket = await connect(t, own, mode, OFFER);
      assert.equal(webSocket(socket).extensions, "permessage-deflate");
      const { params } = webSocket(socket)._extensions["permessage-deflate"];
      assert.match(header(params), answer);
      for (let number = 0; number < 20; number += 1) {
        const long = text(number, 20 + 400 * number);
        const binary = Buffer.alloc(100 * number, number);
        assert.deepEqual(await askAll(socket, "echo", long, binary, number), [long, binary, number]);
      }
    }
  });
}

/** The answer, as far as it was kept. */
function header(parameters) {
  const named = Object.entries(parameters).map(([name, value]) => {
    return value === true ? name : `${name}=${value}`;
  });
  return ["permessage-deflate", ...named.sort().reverse()].join("; ");
}

test("A9 a broadcast reaches clients with and without compression alike", async (t) => {
  for (const serverNoContextTakeover of [true, false]) {
    const own = await serverFor(t, { perMessageDeflate: { serverNoContextTakeover } });
    const clients = await Promise.all([
      connect(t, own, "polling"),
      connect(t, own, "websocket", { perMessageDeflate: false }),
      connect(t, own, "websocket", OFFER),
      connect(t, own, "upgraded", OFFER),
    ]);
    const inboxes = clients.map((client) => collect(client, "news"));
    const before = bytesRead(clients[2]);
    for (let number = 0; number < 10; number += 1) {
      const spec = { from: "server", event: "news" };
      await ask(clients[0], "broadcast", spec, text(number, 5000), number);
      // Something of its own in between.
      await ask(clients[2], "echo", text(number, 300));
    }
    for (const inbox of inboxes) {
      for (let number = 0; number < 10; number += 1) {
        assert.deepEqual(await inbox.next(), [text(number, 5000), number]);
      }
    }
    assert(bytesRead(clients[2]) - before < 25_000);
  }
});

function bytesRead(socket) {
  return webSocket(socket)._socket.bytesRead;
}

// Node's engine hands the flag to `ws` no more since it shares the frames of broadcasts.
const sharing = sockeyeOnly("Node compresses it all the same");

test("A9 what is emitted with compress(false) leaves a WebSocket as it is", sharing, async (t) => {
  const own = await serverFor(t, { perMessageDeflate: { serverNoContextTakeover: true } });
  const socket = await connect(t, own, "websocket", OFFER);
  const inbox = collect(socket, "news");
  const long = text(1, 20_000);
  for (const compress of [true, false]) {
    const before = bytesRead(socket);
    const spec = { from: "server", event: "news", compress };
    await ask(socket, "broadcast", spec, long);
    assert.deepEqual(await inbox.next(), [long]);
    assert.equal(bytesRead(socket) - before > 20_000, !compress);
  }
});

test("H29 what is emitted with compress(false) is left as it is in a poll's answer", async (t) => {
  const session = await Polling.connect(t, await serverFor(t));
  for (const [compress, encoding] of [[true, "gzip"], [false, undefined]]) {
    const spec = { from: "server", event: "news", compress };
    await session.post(event("broadcast", spec, text(1, 5000)));
    const { headers } = await session.startGet({ headers: { "Accept-Encoding": "gzip" } }).answer;
    assert.equal(headers["content-encoding"], encoding);
  }
});

test("H103 what inflates beyond maxHttpBufferSize is closed with 1009", async (t) => {
  const options = { perMessageDeflate: {}, maxHttpBufferSize: 100_000 };
  const own = await serverFor(t, options);
  const witness = await connect(t, own, "websocket", OFFER);
  const peer = await Peer.connect(t, own, {}, {}, { perMessageDeflate: true });
  peer.send(`42["echo","${"0".repeat(5_000_000)}"]`);
  assert.equal(await peer.closeCode(), 1009);
  assert.equal(await ask(witness, "echo", "still here"), "still here");
});
