// The connection, the rooms, and what comes and goes over it. Knows the page only as a listener,
// which is told what has changed: `connection(state)`, `rooms()`, of a room its `members`,
// `typing`, `unread`, `pending`, and of its timeline `added(room, index)`, `removed(room, index)`,
// `trimmed(room, count)`. It answers `isSeen(room)`, and `ended(why)` is the last that it hears.

import { io } from "./vendor/socket.io.esm.min.js";
import * as api from "./api.js";
import { Outgoing, againMs, isTooLong } from "./outgoing.js";
import { Timeline } from "./timeline.js";

const ANSWER_MS = 10_000;
const CONNECT_MS = 6000;
const TYPING_MS = 3000;
const ENTRIES_MAX = 2000;
const COME_BACK_MS = 30_000;
// No server can be told to take more.
const ROOM_CHARACTERS_MAX = 1000;

class Room {
  timeline = new Timeline();
  members = new Set();
  // Who was here when the connection was lost, and is no newcomer for a while after it.
  known = new Set();
  typing = new Map();
  unread = 0;
  // The first message that was not read when the room was opened.
  firstUnread = null;
  // The newest message when the connection was lost.
  seenUntil = null;
  isJoined = false;

  constructor(name) {
    this.name = name;
  }
}

export class Chat {
  rooms = new Map();
  #on;
  #socket;
  #sessionId = null;
  #refusals = 0;

  constructor(listener) {
    this.#on = listener;
    this.outgoing = new Outgoing({
      ask: (message) => this.#ask("chat:message", message),
      isReady: (name) => this.#socket.connected && this.rooms.get(name)?.isJoined,
      changed: (name) => this.rooms.has(name) && this.#on.pending(this.rooms.get(name)),
    });
  }

  get isOnline() {
    return this.#socket?.connected ?? false;
  }

  // Connects, and joins these rooms.
  start(names) {
    for (const name of names) this.rooms.set(name, new Room(name));
    this.#on.connection("connecting");
    this.#on.rooms();
    this.#socket = io({
      auth: (give) => this.#authenticate(give),
      // Where WebSocket has worked it is tried first: a connection of its own, not one of the
      // browser's old ones.
      rememberUpgrade: true,
      // Where a balancer refuses long-polling, WebSocket is tried.
      transports: ["polling", "websocket"],
      tryAllTransports: true,
      timeout: CONNECT_MS,
      reconnectionDelay: 300,
      reconnectionDelayMax: 3000,
    });
    const on = (event, handle) => this.#socket.on(event, handle);
    on("connect", () => this.#connected());
    on("disconnect", (reason) => this.#disconnected(reason));
    on("connect_error", (error) => this.#refused(error));
    on("session:created", (session) => (this.#sessionId = session.sessionId));
    on("session:restored", (session) => this.#restored(session.rooms));
    on("chat:history", ({ room, messages }) => this.#history(room, messages));
    on("chat:message", (message) => this.#message(message));
    on("chat:userJoined", ({ username, room }) => this.#presence(room, username, true));
    on("chat:userLeft", ({ username, room }) => this.#presence(room, username, false));
    on("chat:typing", ({ username, room }) => this.#typing(room, username));
  }

  stop() {
    this.#socket?.disconnect();
    this.#on = new Proxy({}, { get: () => () => {} });
  }

  // Joins a room. A new one that the server refuses is not kept, and why is thrown.
  async join(name) {
    const known = this.rooms.get(name);
    if (known?.isJoined) return known;
    // Far beyond that it would end each connection that it is joined over.
    if (isTooLong(name, ROOM_CHARACTERS_MAX)) throw new Refused("This name is too long.");
    const room = known ?? new Room(name);
    this.rooms.set(name, room);
    this.#on.rooms();
    // Without a connection it is joined with the next one.
    if (!this.isOnline) return room;
    try {
      await this.#enter(room);
    } catch (error) {
      if (!(error instanceof Refused)) return room;
      if (known) throw error;
      this.rooms.delete(name);
      this.#on.rooms();
      throw error;
    }
    return room;
  }

  leave(name) {
    this.outgoing.forget(name);
    this.rooms.delete(name);
    this.#on.rooms();
    if (this.isOnline) this.#socket.emit("chat:leave", name);
  }

  send(name, text) {
    this.outgoing.send(name, text);
  }

  type(name) {
    if (this.rooms.get(name)?.isJoined) this.#socket.volatile.emit("chat:typing", name);
  }

  // ---- the connection

  async #authenticate(give) {
    let token;
    try {
      token = await api.token();
    } catch (error) {
      if (error.status === 401) return this.#on.ended("Please sign in again.");
      // The network went between; there will be another connection.
      return this.#socket.io.engine?.close();
    }
    return give({ token });
  }

  #connected() {
    this.#refusals = 0;
    this.#on.connection("online");
    if (this.#sessionId && this.rooms.size) this.#socket.emit("session:restore", this.#sessionId);
    this.#enterAll();
  }

  // Joining again brings the history, which has what was missed. One room after the other, that
  // which is looked at first: all together long histories would keep answers from coming in time.
  async #enterAll() {
    const { id } = this.#socket;
    const seen = (room) => Number(this.#on.isSeen(room));
    for (const room of [...this.rooms.values()].sort((a, b) => seen(b) - seen(a))) {
      if (this.#socket.id !== id) return;
      if (room.isJoined || this.rooms.get(room.name) !== room) continue;
      await this.#enter(room).catch((error) => {
        if (error instanceof Refused)
          this.#line(room, { text: `This room was not joined: ${error.message}` });
      });
    }
  }

  #disconnected(reason) {
    for (const room of this.rooms.values()) {
      if (room.isJoined) room.seenUntil = room.timeline.newest;
      room.isJoined = false;
      for (const username of room.members) room.known.add(username);
      for (const username of room.typing.keys()) this.#stopTyping(room, username);
    }
    if (reason === "io client disconnect") return;
    this.#on.connection(navigator.onLine ? "reconnecting" : "offline");
    // The server said goodbye; the client would not come back by itself.
    if (reason === "io server disconnect") this.#socket.connect();
  }

  // Refused with a code it is for the token; without one nothing was reached.
  #refused(error) {
    const code = error.data?.code;
    this.#on.connection(navigator.onLine ? "reconnecting" : "offline");
    if (!code) return;
    if (code !== "too_fast") api.expire();
    this.#refusals += 1;
    const wait = error.data.retryAfterMs ?? Math.min(100 * 2 ** this.#refusals, 5000);
    setTimeout(() => this.#socket.connect(), wait);
  }

  // What was left without a connection the server does not know of.
  #restored(names) {
    for (const name of names) if (!this.rooms.has(name)) this.#socket.emit("chat:leave", name);
  }

  // A connection that does not answer is given up: another one may.
  async #ask(event, ...args) {
    const { id } = this.#socket;
    try {
      return await this.#socket.timeout(ANSWER_MS).emitWithAck(event, ...args);
    } catch (error) {
      if (this.#socket.id === id) this.#socket.io.engine.close();
      throw error;
    }
  }

  // ---- rooms

  async #enter(room, failures = 0) {
    const { id } = this.#socket;
    const answer = await this.#ask("chat:join", room.name);
    const again = againMs(answer, failures);
    if (again !== null) {
      await new Promise((resolve) => setTimeout(resolve, again));
      // The next connection joins by itself.
      if (this.#socket.id === id && this.rooms.has(room.name)) await this.#enter(room, failures + 1);
      return;
    }
    if (answer.status !== "ok") throw new Refused(answer.message);
    room.isJoined = true;
    room.members = new Set(answer.members);
    setTimeout(() => room.known.clear(), COME_BACK_MS);
    this.#on.members(room);
    this.outgoing.resume();
  }

  #history(name, messages) {
    const room = this.rooms.get(name);
    if (!room) return;
    const { seenUntil } = room;
    const missed = messages.filter((message) => !room.timeline.has(message.id));
    // It does not reach back to what was seen: there may be more between.
    if (seenUntil && !messages.some((message) => message.id === seenUntil)) {
      this.#line(room, { text: "Some messages in between are not shown" }, seenUntil);
    }
    room.seenUntil = null;
    const mine = api.user()?.username;
    for (const message of missed) {
      if (message.username === mine) this.outgoing.arrived(name, message.text);
      this.#add(room, message);
    }
    if (seenUntil) this.#countUnread(room, missed);
  }

  #message(message) {
    const room = this.rooms.get(message.room);
    if (!room || room.timeline.has(message.id)) return;
    this.#stopTyping(room, message.username);
    if (message.username === api.user()?.username) this.outgoing.arrived(room.name, message.text);
    this.#add(room, message);
    this.#countUnread(room, [message]);
  }

  #add(room, message) {
    const index = room.timeline.add(message);
    if (index >= 0) this.#on.added(room, index);
    this.#trim(room);
  }

  #countUnread(room, messages) {
    const others = messages.filter((message) => message.username !== api.user()?.username);
    if (!others.length || this.#on.isSeen(room)) return;
    room.firstUnread ??= others[0].id;
    room.unread += others.length;
    this.#on.unread(room);
  }

  #presence(name, username, isHere) {
    const room = this.rooms.get(name);
    if (!room) return;
    if (isHere) room.members.add(username);
    else room.members.delete(username);
    this.#stopTyping(room, username);
    this.#on.members(room);
    if (room.known.delete(username) && isHere) return;
    // Who comes right back was never away.
    const wasAway = (line) => line.username === username && line.text.endsWith(" left");
    const undone = isHere ? room.timeline.undoLine(wasAway) : -1;
    if (undone >= 0) this.#on.removed(room, undone);
    else this.#line(room, { username, text: `${username} ${isHere ? "joined" : "left"}` });
  }

  #line(room, line, after) {
    this.#on.added(room, room.timeline.addLine(line, after));
    this.#trim(room);
  }

  #trim(room) {
    const count = room.timeline.trim(ENTRIES_MAX);
    if (count) this.#on.trimmed(room, count);
  }

  #typing(name, username) {
    const room = this.rooms.get(name);
    if (!room) return;
    clearTimeout(room.typing.get(username));
    room.typing.set(
      username,
      setTimeout(() => this.#stopTyping(room, username), TYPING_MS),
    );
    this.#on.typing(room);
  }

  #stopTyping(room, username) {
    clearTimeout(room.typing.get(username));
    if (room.typing.delete(username)) this.#on.typing(room);
  }
}

// The server has answered, and the answer is no.
export class Refused extends Error {}
