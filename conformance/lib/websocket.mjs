// Raw Engine.IO 4 over WebSocket with the `ws` package, and rawer over TCP with hand-made frames.
// Sends no pong and no close by itself, unlike the official client.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { connect as connectTcp } from "node:net";
import WebSocket from "ws";
import { PATH } from "./http.mjs";
import { Inbox, until, within } from "./wait.mjs";

/** One WebSocket: text arrives as strings, binary as Buffers, through `receive`. */
export class Peer {
  #inbox = new Inbox();
  #kept = [];
  #lastId = 0;

  constructor(server, query = {}, options = {}) {
    const search = new URLSearchParams({ EIO: "4", transport: "websocket", ...query });
    const url = `${server.url.replace("http", "ws")}${options.path ?? PATH}?${search}`;
    this.ws = new WebSocket(url, { perMessageDeflate: false, ...options });
    this.ws.on("message", (data, isBinary) => {
      this.#inbox.push(isBinary ? data : data.toString());
    });
    this.ws.on("error", (error) => (this.error = error));
    this.closed = new Promise((resolve) => {
      this.ws.once("close", (code, reason) => {
        this.#inbox.end(new Error(`the WebSocket was closed with ${code}`));
        resolve({ code, reason: reason.toString() });
      });
    });
    this.opened = new Promise((resolve, reject) => {
      this.ws.once("open", resolve);
      this.ws.once("error", reject);
    });
    // Not every test waits for the opening.
    this.opened.catch(() => {});
  }

  /** A WebSocket that was accepted (101); nothing is read from it yet. */
  static async open(t, server, query, options) {
    const peer = new Peer(server, query, options);
    t?.after(() => peer.ws.terminate());
    await within("the WebSocket to open", peer.opened);
    return peer;
  }

  /** Engine.IO handshake directly over WebSocket. */
  static async handshake(t, server, query, options) {
    const peer = await Peer.open(t, server, query, options);
    const packet = await peer.receive();
    assert.equal(packet[0], "0");
    peer.handshake = JSON.parse(packet.slice(1));
    peer.sid = peer.handshake.sid;
    return peer;
  }

  /** Handshake and Socket.IO CONNECT to `/`; `auth.mark` makes it findable in the server's log. */
  static async connect(t, server, auth = {}, query = {}, options = {}) {
    const peer = await Peer.handshake(t, server, query, options);
    peer.id = await peer.join("/", auth);
    return peer;
  }

  /** CONNECT to a namespace; its socket id. */
  async join(namespace, auth = {}) {
    const prefix = namespace === "/" ? "" : `${namespace},`;
    this.send(`40${prefix}${JSON.stringify(auth)}`);
    let reply = await this.receive();
    // A slow machine may have been due a ping by now.
    for (; reply === "2"; reply = await this.receive()) this.send("3");
    assert(reply.startsWith(`40${prefix}{"sid":"`), `CONNECT was answered with ${reply}`);
    return JSON.parse(reply.slice(2 + prefix.length)).sid;
  }

  send(...packets) {
    for (const packet of packets) this.ws.send(packet);
  }

  receive() {
    return this.#inbox.next("a message over WebSocket");
  }

  /** How many messages are here and unread. */
  get unread() {
    return this.#inbox.size;
  }

  /** The close code, whoever closes. */
  async closeCode() {
    return (await within("the WebSocket to be closed", this.closed)).code;
  }

  /** An event to `/` and the arguments of its acknowledgement; what comes before it is kept. */
  async ask(...args) {
    const id = (this.#lastId += 1);
    this.send(`42${id}${JSON.stringify(args)}`);
    const prefix = `43${id}[`;
    for (;;) {
      const packet = await this.receive();
      if (String(packet).startsWith(prefix)) return JSON.parse(packet.slice(prefix.length - 1));
      this.#kept.push(packet);
    }
  }

  /** Proves that the peer is served and that everything sent before has been handled. */
  async roundTrip() {
    await this.ask("echo");
  }

  /** What came until now, apart from what was waited for. */
  async heard() {
    await this.roundTrip();
    return this.#kept.splice(0);
  }
}

/** A TCP connection to the server that keeps what it has read. */
export class Tcp {
  received = Buffer.alloc(0);
  ended = false;

  constructor(server) {
    this.socket = connectTcp(server.port, "127.0.0.1");
    this.socket.on("data", (chunk) => {
      this.received = Buffer.concat([this.received, chunk]);
    });
    this.socket.on("error", (error) => (this.error = error));
    this.gone = new Promise((resolve) => {
      this.socket.once("end", () => resolve());
      this.socket.once("close", () => resolve());
    }).then(() => (this.ended = true));
    this.connected = new Promise((resolve) => this.socket.once("connect", resolve));
  }

  static async open(t, server) {
    const tcp = new Tcp(server);
    t?.after(() => tcp.socket.destroy());
    await within("TCP to connect", tcp.connected);
    return tcp;
  }

  /**
   * Sends the upgrade request, with `extra` header lines, and `behind` it in the same write.
   * `search` replaces the whole query string.
   */
  upgrade({ query = {}, search, extra = [], behind = Buffer.alloc(0) } = {}) {
    search ??= new URLSearchParams({ EIO: "4", transport: "websocket", ...query });
    const head = [
      `GET ${PATH}?${search} HTTP/1.1`,
      `Host: 127.0.0.1:${this.socket.remotePort}`,
      "Connection: Upgrade",
      "Upgrade: websocket",
      "Sec-WebSocket-Version: 13",
      `Sec-WebSocket-Key: ${randomBytes(16).toString("base64")}`,
      ...extra,
      "",
      "",
    ].join("\r\n");
    this.socket.write(Buffer.concat([Buffer.from(head, "latin1"), behind]));
  }

  /** Waits for text in what the server sent (any bytes are read as Latin-1). */
  async until(text) {
    await until(`the server to send ${text}`, () => {
      assert(!this.ended || this.text.includes(text), `TCP ended after: ${this.text}`);
      return this.text.includes(text);
    });
  }

  /** Waits for the server to end or reset the connection. */
  end() {
    return within("the server to end the TCP connection", this.gone);
  }

  get text() {
    return this.received.toString("latin1");
  }

  /** Status of the HTTP answer, or undefined when none came. */
  get status() {
    const match = /^HTTP\/1\.1 (\d{3})/.exec(this.text);
    return match ? Number(match[1]) : undefined;
  }
}

export const OPCODE = { continuation: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10 };

/** A client's frame: masked, with any first byte and opcode one likes. */
export function frame(opcode, payload = "", { fin = true, rsv = 0 } = {}) {
  const data = Buffer.from(payload);
  const first = (fin ? 0x80 : 0) | (rsv << 4) | opcode;
  const header = Buffer.alloc(data.length < 126 ? 2 : data.length < 65_536 ? 4 : 10);
  header[0] = first;
  if (header.length === 2) header[1] = 0x80 | data.length;
  if (header.length === 4) {
    header[1] = 0x80 | 126;
    header.writeUInt16BE(data.length, 2);
  }
  if (header.length === 10) {
    header[1] = 0x80 | 127;
    header.writeBigUInt64BE(BigInt(data.length), 2);
  }
  const mask = randomBytes(4);
  const masked = data.map((byte, i) => byte ^ mask[i % 4]);
  return Buffer.concat([header, mask, masked]);
}
