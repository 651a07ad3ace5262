// The official client as somebody in a story: what it does, and all that it sees.
// Does not know which server it speaks with.

import { io } from "socket.io-client";
import { MODES, upgraded } from "../../lib/client.mjs";
import { until, within } from "../../lib/wait.mjs";

const RECONNECTING = { reconnection: true, reconnectionDelay: 30, reconnectionDelayMax: 60 };

export class Actor {
  /** What it has seen, in order, in words. */
  seen = [];
  #answers = new Map();

  constructor({ name, mode, tap, mark, socket }) {
    Object.assign(this, { name, mode, tap, mark, socket });
    socket.on("connect", () => this.see("connect"));
    socket.on("connect_error", ({ message, data, type }) => {
      // How often it tries in vain to come back is a matter of time.
      if (type === "TransportError" && socket.io._reconnecting) return;
      this.see(`connect_error ${message}${data === undefined ? "" : ` ${readable(data)}`}`);
    });
    socket.on("disconnect", (reason) => this.see(`disconnect ${reason}`));
    socket.onAny((event, ...args) => this.#hear(event, args));
  }

  /** Somebody who connects through a tap of their own. Not connected yet. */
  static outside({ name, mode, tap, mark, namespace = "/", auth = {}, ...options }) {
    const socket = io(tap.url + namespace, {
      forceNew: true,
      autoConnect: false,
      transports: MODES[mode].transports,
      auth: { mark, ...auth },
      ...RECONNECTING,
      ...options,
    });
    const actor = new Actor({ name, mode, tap, mark, socket });
    socket.io.on("reconnect", () => actor.see("reconnected"));
    socket.io.on("reconnect_failed", () => actor.see("gave up reconnecting"));
    return actor;
  }

  /** The same client in another namespace, over the same connection. */
  beside(namespace, auth = {}) {
    const { tap, mode, mark } = this;
    const socket = this.socket.io.socket(namespace, { auth: { mark, ...auth } });
    const actor = new Actor({ name: `${this.name} in ${namespace}`, mode, tap, mark, socket });
    socket.connect();
    return actor;
  }

  see(what) {
    this.seen.push(what);
  }

  /** Connects, and waits until the transport is the one of the mode. */
  async connect() {
    this.socket.connect();
    await this.connected();
    return this;
  }

  async connected() {
    await until(`${this.name} to connect`, () => this.socket.connected);
    if (MODES[this.mode].waitForUpgrade) await upgraded(this.socket);
  }

  /** Waits until it has seen this so many times: a line, or its beginning up to a word's end. */
  async sees(line, times = 1) {
    const begins = (seen) => [":", " "].some((end) => seen.startsWith(line + end));
    const count = () => this.seen.filter((seen) => seen === line || begins(seen)).length;
    await until(`${this.name} to see ${line}`, () => count() >= times).catch((error) => {
      throw new Error(`${error.message}; it saw:\n${this.seen.join("\n")}`);
    });
  }

  /** Emits, and sees the acknowledgement, all of it. */
  async ask(event, ...args) {
    const answers = await within(`${this.name} to get an answer to ${event}`, new Promise((resolve) => {
      this.socket.emit(event, ...args, (...answers) => resolve(answers));
    }));
    this.see(`answer to ${event}: ${readable(answers)}`);
    return answers;
  }

  /** Emits, and sees the acknowledgement or that it did not come in time. */
  async askWithin(ms, event, ...args) {
    const outcome = this.socket.timeout(ms).emitWithAck(event, ...args);
    await outcome.then(
      (answer) => this.see(`answer to ${event}: ${readable([answer])}`),
      (error) => this.see(`no answer to ${event}: ${error.message}`),
    );
  }

  emit(event, ...args) {
    this.socket.emit(event, ...args);
  }

  /** The network is cut, and stays so until `restore`. */
  async cut() {
    this.tap.cut();
    await this.sees("disconnect");
  }

  /** The network is back, and so is the client: for the `times`th time. */
  async restore(times) {
    this.tap.restore();
    await this.sees("connect", times);
    await this.connected();
  }

  /** From now on answers this event. */
  answers(event, ...answer) {
    this.#answers.set(event, answer);
  }

  #hear(event, args) {
    const ack = typeof args.at(-1) === "function" ? args.pop() : undefined;
    this.see(`${event}${ack ? " (asked)" : ""}: ${readable(args)}`);
    const answer = this.#answers.get(event);
    if (ack && answer) ack(...answer);
  }
}

/** JSON, with binary as its first bytes and its length. */
export function readable(value) {
  return JSON.stringify(value, function replace(key, encoded) {
    // `toJSON` of a Buffer has run already.
    const original = this[key];
    if (!Buffer.isBuffer(original) && !ArrayBuffer.isView(original)) return encoded;
    const hex = Buffer.from(original).subarray(0, 8).toString("hex");
    return `<${original.length} bytes ${hex}>`;
  });
}
