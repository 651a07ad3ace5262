// A raw Engine.IO 4 session over long-polling: one GET or POST at a time, exactly as a test says.
// Sends no pong and no close by itself, unlike the official client.

import assert from "node:assert/strict";
import { request, start } from "./http.mjs";
import { PATIENCE } from "./wait.mjs";

const SEPARATOR = "\x1e";

export class Polling {
  #received = [];

  constructor(server, open, query) {
    this.server = server;
    this.open = open;
    this.sid = open.sid;
    this.query = { ...query, sid: open.sid };
  }

  /** Engine.IO handshake only. The session is closed with the test. */
  static async handshake(t, server, query = {}) {
    const full = { EIO: "4", transport: "polling", ...query };
    const { status, body } = await request(server, { query: full });
    assert.equal(status, 200, body);
    assert.equal(body[0], "0");
    const session = new Polling(server, JSON.parse(body.slice(1)), full);
    t?.after(() => session.close());
    return session;
  }

  /** Handshake and Socket.IO CONNECT to `/`; `auth.mark` makes it findable in the server's log. */
  static async connect(t, server, auth = {}, query = {}) {
    const session = await Polling.handshake(t, server, query);
    await session.post(`40${JSON.stringify(auth)}`);
    const reply = await session.receive();
    assert.match(reply, /^40\{"sid":"/);
    session.id = JSON.parse(reply.slice(2)).sid;
    return session;
  }

  startGet(options = {}) {
    return start(this.server, { ...options, query: this.query });
  }

  startPost(body, options = {}) {
    const headers = { "Content-Type": "text/plain;charset=UTF-8", ...options.headers };
    return start(this.server, { ...options, method: "POST", query: this.query, headers, body });
  }

  /** One GET: its status and packets. */
  async get() {
    const answer = await this.startGet().answer;
    const packets = answer.status === 200 ? answer.body.split(SEPARATOR) : [];
    return { ...answer, packets };
  }

  /** One POST of whole packets, or of a body as it stands. */
  async post(...packets) {
    const { status, headers, body } = await this.startPost(packets.join(SEPARATOR)).answer;
    return { status, headers, body };
  }

  /** The next packet that is not a noop, by as many GETs as it takes. */
  async receive() {
    const deadline = Date.now() + PATIENCE;
    while (this.#received.length === 0) {
      assert(Date.now() < deadline, "the next packet by polling");
      const { status, packets, body } = await this.get();
      assert.equal(status, 200, `while waiting for a packet: ${body}`);
      this.#received.push(...packets.filter((packet) => packet !== "6"));
    }
    return this.#received.shift();
  }

  /** Whether the server has forgotten this session. */
  async isGone() {
    const { status, body } = await request(this.server, {
      method: "POST",
      query: { ...this.query, transport: "polling" },
      // A pong that nobody waits for does nothing to a session that lives.
      body: "3",
    });
    return status === 400 && JSON.parse(body || "{}").code === 1;
  }

  /** Ends the session as a client would; it may have ended already. */
  async close() {
    await this.post("1").catch(() => {});
  }
}

/** The text of an event packet for `/`, behind the Engine.IO `4`. */
export function event(...args) {
  return `42${JSON.stringify(args)}`;
}
