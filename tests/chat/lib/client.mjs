// The official client, with everything that it heard.

import assert from "node:assert/strict";
import { io } from "socket.io-client";

import { token } from "./server.mjs";

// Less than the time after which a client that answers no pings is given up: what should come
// before that is not to come by it.
const WAIT_MS = 30_000;
let fences = 0;

// Waits until `look` gives something other than undefined or false.
export async function until(look, what = String(look)) {
  const deadline = Date.now() + WAIT_MS;
  for (;;) {
    const found = await look();
    if (found !== undefined && found !== false) return found;
    if (Date.now() > deadline) throw new Error(`it did not come to: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

export class Client {
  // A connection that is not made yet.
  constructor(t, server, username, options = {}) {
    this.username = username;
    this.isOfMany = server.redis !== undefined;
    this.heard = [];
    this.waiting = new Set();
    const auth = options.auth ?? { token: token(username) };
    this.socket = io(server.url, {
      forceNew: true,
      reconnection: false,
      transports: ["websocket"],
      ...options,
      // The client writes its cookies there: each has its own.
      extraHeaders: { ...options.extraHeaders },
      auth,
    });
    this.socket.onAny((event, ...args) => this.note({ event, args }));
    this.socket.on("disconnect", (reason) => this.note({ event: "disconnect", args: [reason] }));
    this.socket.on("connect_error", (error) =>
      this.note({ event: "connect_error", args: [error] }),
    );
    t.after(() => this.socket.disconnect());
  }

  // A connection with its session.
  static async connect(t, server, username, options) {
    const client = new Client(t, server, username, options);
    client.session = (await client.next("session:created")).sessionId;
    return client;
  }

  // One that has joined these rooms.
  static async join(t, server, username, rooms, options) {
    const client = await Client.connect(t, server, username, options);
    for (const room of [rooms].flat()) await client.joins(room);
    return client;
  }

  note(event) {
    this.heard.push(event);
    for (const look of this.waiting) look();
  }

  // What was heard of an event, each by its first argument.
  all(event, matches = () => true) {
    return this.heard
      .filter((one) => one.event === event && matches(...one.args))
      .map((one) => one.args[0]);
  }

  // Waits until `look` finds something in what was heard.
  until(look, what = String(look)) {
    return new Promise((resolve, reject) => {
      const again = () => {
        const found = look();
        if (found === undefined || found === false) return;
        clearTimeout(timer);
        this.waiting.delete(again);
        resolve(found);
      };
      const timer = setTimeout(() => {
        this.waiting.delete(again);
        reject(
          new Error(`${this.username} did not hear: ${what}; only ${JSON.stringify(this.heard)}`),
        );
      }, WAIT_MS);
      this.waiting.add(again);
      again();
    });
  }

  // The next event of this name that was not taken before.
  async next(event, matches = () => true) {
    const one = await this.until(
      () => this.heard.find((one) => one.event === event && matches(...one.args)),
      event,
    );
    this.heard.splice(this.heard.indexOf(one), 1);
    return one.args[0];
  }

  ask(event, ...args) {
    return this.socket.timeout(WAIT_MS).emitWithAck(event, ...args);
  }

  async joins(room) {
    const ack = await this.ask("chat:join", room);
    assert.equal(ack.status, "ok", ack.message);
    return {
      ...ack,
      history: (await this.next("chat:history", (history) => history.room === room)).messages,
    };
  }

  async says(room, text, more = {}) {
    const ack = await this.ask("chat:message", { room, text, ...more });
    assert.equal(ack.status, "ok", ack.message);
    return ack.id;
  }

  async refused(code, event, ...args) {
    const ack = await this.ask(event, ...args);
    assert.equal(ack.status, "error", `${event} ${JSON.stringify(args)}`);
    assert.equal(ack.code, code, ack.message);
    assert.ok(ack.message.length > 0);
    return ack;
  }

  // Everything that the server had told before is here: an answer has come behind it. Where there
  // are several, what the others had told is here once a new room is heard.
  async caughtUp() {
    await this.refused("bad_arguments", "chat:typing", 0);
    if (!this.isOfMany) return;
    fences += 1;
    const room = `fence ${fences}`;
    await this.joins(room);
    assert.equal((await this.ask("chat:leave", room)).status, "ok");
  }

  // Breaks the connection without a word to the server.
  cut() {
    this.socket.io.engine.close();
  }
}
