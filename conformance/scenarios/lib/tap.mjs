// Stands between one client and the server, keeps the packets that pass, and can break the network.
// Knows HTTP and WebSocket as far as official clients and servers use them.

import { connect, createServer } from "node:net";
import { until } from "../../lib/wait.mjs";

const HEAD_END = "\r\n\r\n";
/**
 * What comes as often as time allows: noops while upgrading, the heartbeat, and the answer to a GET
 * that the client had begun before it heard that its session is over.
 */
const UNCOUNTED = ["6", "2", "3", 'HTTP 400 {"code":1,"message":"Session ID unknown"}'];
const UPGRADE = ["2probe", "3probe", "5"];

export class Tap {
  /** Engine.IO packets to the server and to the client, in order, whichever transport took them. */
  up = [];
  down = [];
  /** Those that upgrade a transport: they overtake what long-polling carries meanwhile. */
  upgrade = [];
  #pairs = new Set();
  #isDown = false;
  #isDead = false;

  static async start(t, port) {
    const tap = new Tap();
    const listener = createServer((client) => tap.#accept(client, port));
    await new Promise((resolve) => listener.listen(0, "127.0.0.1", resolve));
    tap.url = `http://127.0.0.1:${listener.address().port}`;
    t.after(() => {
      tap.cut();
      listener.close();
    });
    return tap;
  }

  /** Waits until the server could notice a cut: a WebSocket is there, or a GET waits. */
  settled() {
    return until("a connection that waits", () => {
      return [...this.#pairs].some(({ exchange }) => exchange.isWaiting);
    });
  }

  /** Cuts every connection, and those that come until `restore`. */
  cut() {
    this.#isDown = true;
    for (const pair of this.#pairs) pair.end();
  }

  restore() {
    if (this.#isDead) for (const pair of this.#pairs) pair.end();
    this.#isDown = false;
    this.#isDead = false;
  }

  /** Connections stay open, and nothing passes until `restore`: a network that has died silently. */
  swallow() {
    this.#isDead = true;
  }

  /** The client reads nothing until `resume`. */
  pause() {
    for (const { server } of this.#pairs) server.pause();
  }

  resume() {
    for (const { server } of this.#pairs) server.resume();
  }

  #accept(client, port) {
    if (this.#isDown) return client.destroy();
    const server = connect(port, "127.0.0.1");
    const exchange = new Exchange(this);
    const pair = { client, server, exchange, end: () => [client, server].forEach(destroy) };
    this.#pairs.add(pair);
    const pass = (from, to, note) => {
      from.on("data", (bytes) => {
        if (this.#isDead) return;
        note(bytes);
        if (!to.destroyed) to.write(bytes);
      });
      from.on("end", () => this.#isDead || to.end());
      from.on("error", () => {});
      from.on("close", () => {
        if (this.#isDead) return;
        this.#pairs.delete(pair);
        pair.end();
      });
    };
    pass(client, server, (bytes) => exchange.request(bytes));
    pass(server, client, (bytes) => exchange.response(bytes));
    return undefined;
  }

  note(direction, packet) {
    if (UNCOUNTED.includes(packet)) return;
    if (UPGRADE.includes(packet)) this.upgrade.push(`${direction} ${packet}`);
    else this[direction].push(packet);
  }
}

function destroy(socket) {
  socket.destroy();
}

/** Both directions of one TCP connection. */
class Exchange {
  #tap;
  #up = Buffer.alloc(0);
  #down = Buffer.alloc(0);
  #isWebSocket = false;
  #isGetOpen = false;

  constructor(tap) {
    this.#tap = tap;
  }

  get isWaiting() {
    return this.#isWebSocket || this.#isGetOpen;
  }

  request(bytes) {
    this.#up = Buffer.concat([this.#up, bytes]);
    if (this.#isWebSocket) return this.#frames("up");
    for (let message; (message = takeMessage(this.#up)); this.#up = message.rest) {
      const { start, body } = message;
      this.#isGetOpen = start.startsWith("GET");
      if (start.startsWith("POST")) this.#packets("up", body);
    }
  }

  response(bytes) {
    this.#down = Buffer.concat([this.#down, bytes]);
    for (let message; !this.#isWebSocket && (message = takeMessage(this.#down)); ) {
      const { start, body, rest } = message;
      this.#down = rest;
      this.#isGetOpen = false;
      const status = Number(start.split(" ")[1]);
      if (status === 101) this.#isWebSocket = true;
      else if (status !== 200) this.#tap.note("down", `HTTP ${status} ${body}`.trim());
      else if (body !== "ok") this.#packets("down", body);
    }
    if (this.#isWebSocket) {
      this.#frames("down");
      this.#frames("up");
    }
  }

  #packets(direction, body) {
    for (const packet of body.split("\x1e")) this.#tap.note(direction, packet);
  }

  #frames(direction) {
    let bytes = direction === "up" ? this.#up : this.#down;
    for (let frame; (frame = takeFrame(bytes)); bytes = frame.rest) {
      this.#tap.note(direction, readable(frame));
    }
    if (direction === "up") this.#up = bytes;
    else this.#down = bytes;
  }
}

/** An HTTP message whose end is known; `undefined` while a part is missing. */
function takeMessage(bytes) {
  const end = bytes.indexOf(HEAD_END);
  if (end < 0) return undefined;
  const [start, ...lines] = bytes.subarray(0, end).toString("latin1").split("\r\n");
  const headers = new Map(lines.map((line) => {
    const colon = line.indexOf(":");
    return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
  }));
  const from = end + HEAD_END.length;
  if (headers.get("transfer-encoding") === "chunked") {
    const chunks = takeChunks(bytes.subarray(from));
    return chunks && { start, ...chunks };
  }
  const to = from + Number(headers.get("content-length") ?? 0);
  if (bytes.length < to) return undefined;
  return { start, body: bytes.subarray(from, to).toString(), rest: bytes.subarray(to) };
}

function takeChunks(bytes) {
  let body = Buffer.alloc(0);
  for (;;) {
    const line = bytes.indexOf("\r\n");
    if (line < 0) return undefined;
    const length = Number.parseInt(bytes.subarray(0, line).toString(), 16);
    const end = line + 2 + length;
    if (bytes.length < end + 2) return undefined;
    if (length === 0) return { body: body.toString(), rest: bytes.subarray(end + 2) };
    body = Buffer.concat([body, bytes.subarray(line + 2, end)]);
    bytes = bytes.subarray(end + 2);
  }
}

/** A frame; none of the two sides sends fragments. */
function takeFrame(bytes) {
  if (bytes.length < 2) return undefined;
  const isMasked = (bytes[1] & 0x80) !== 0;
  let length = bytes[1] & 0x7f;
  let at = 2;
  if (length === 126) {
    if (bytes.length < 4) return undefined;
    length = bytes.readUInt16BE(2);
    at = 4;
  } else if (length === 127) {
    if (bytes.length < 10) return undefined;
    length = Number(bytes.readBigUInt64BE(2));
    at = 10;
  }
  const mask = bytes.subarray(at, at + 4);
  if (isMasked) at += 4;
  if (bytes.length < at + length) return undefined;
  const payload = Buffer.from(bytes.subarray(at, at + length));
  if (isMasked) payload.forEach((byte, i) => (payload[i] = byte ^ mask[i % 4]));
  return { opcode: bytes[0] & 0x0f, payload, rest: bytes.subarray(at + length) };
}

/** Binary as long-polling has it, so that both transports read alike. */
function readable({ opcode, payload }) {
  switch (opcode) {
    case 1:
      return payload.toString();
    case 2:
      return `b${payload.toString("base64")}`;
    case 8:
      return `close ${payload.length >= 2 ? payload.readUInt16BE(0) : "without a code"}`;
    default:
      return `frame with opcode ${opcode}`;
  }
}
