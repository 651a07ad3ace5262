// The official client, unchanged, in the ways it can reach a server.
// Knows nothing of the wire.

import assert from "node:assert/strict";
import { io } from "socket.io-client";
import { Inbox, within } from "./wait.mjs";

const BOTH = ["polling", "websocket"];

/**
 * Every scenario runs in each mode. `upgrade` goes on while the upgrade is under way, `upgraded`
 * waits for its end first.
 */
export const MODES = {
  polling: { transports: ["polling"] },
  websocket: { transports: ["websocket"] },
  upgrade: { transports: BOTH },
  upgraded: { transports: BOTH, waitForUpgrade: true },
};

/** A client that is not connected yet; disconnected with the test. */
export function client(t, server, mode, { namespace = "/", ...options } = {}) {
  const { transports } = MODES[mode];
  const socket = io(server.url + namespace, {
    forceNew: true,
    reconnection: false,
    transports,
    ...options,
  });
  t.after(() => socket.disconnect());
  return socket;
}

/** A connected client in the given mode. */
export async function connect(t, server, mode, options) {
  const socket = client(t, server, mode, options);
  await connected(socket);
  if (MODES[mode].waitForUpgrade) await upgraded(socket);
  return socket;
}

/** Another namespace over the same connection. */
export async function connectBeside(t, socket, namespace, auth = {}) {
  const beside = socket.io.socket(namespace, { auth });
  t.after(() => beside.disconnect());
  await connected(beside);
  return beside;
}

export function connected(socket) {
  const promise = new Promise((resolve, reject) => {
    socket.once("connect", resolve);
    socket.once("connect_error", reject);
  });
  return within("the client to connect", promise);
}

/** Waits until the engine has left polling. */
export async function upgraded(socket) {
  const { engine } = socket.io;
  if (engine.transport.name === "websocket") return;
  const promise = new Promise((resolve) => engine.once("upgrade", resolve));
  await within("the client to upgrade", promise);
}

/** The arguments of the next `event`. Call it before the cause. */
export function next(socket, event) {
  const promise = new Promise((resolve) => socket.once(event, (...args) => resolve(args)));
  return within(`the client to receive ${event}`, promise);
}

/** All that comes under `event` from now on. */
export function collect(socket, event) {
  const inbox = new Inbox();
  socket.on(event, (...args) => inbox.push(args));
  return inbox;
}

/** The error that refuses a connection. */
export async function refusal(socket) {
  const promise = new Promise((resolve, reject) => {
    socket.once("connect_error", resolve);
    socket.once("connect", () => reject(new Error("was connected, not refused")));
  });
  return within("the client to be refused", promise);
}

/** The reason of the client's next disconnection. */
export async function disconnection(socket) {
  return (await next(socket, "disconnect"))[0];
}

/** An acknowledged emit that fails in bounded time. */
export function ask(socket, event, ...args) {
  return within(`an acknowledgement of ${event}`, socket.emitWithAck(event, ...args));
}

/** An acknowledged emit whose acknowledgement has any number of arguments. */
export function askAll(socket, event, ...args) {
  const promise = new Promise((resolve) => {
    socket.emit(event, ...args, (...answers) => resolve(answers));
  });
  return within(`an acknowledgement of ${event}`, promise);
}

/** A well-behaved client that must not notice what a test does to the server. */
export class Witness {
  static async of(t, server) {
    const witness = new Witness();
    witness.socket = await connect(t, server, "websocket");
    witness.socket.once("disconnect", (reason) => (witness.lost = reason));
    return witness;
  }

  /** It is still served, on the connection that it has had all along. */
  async check() {
    assert.equal(this.lost, undefined, "the witness lost its connection");
    assert.equal(await ask(this.socket, "echo", "still here"), "still here");
  }
}
