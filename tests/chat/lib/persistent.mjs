// Somebody who goes on, as the page does: comes back, restores the rooms, and sends again what was
// not acknowledged, with the same key. What went wrong between is counted.

import assert from "node:assert/strict";

import { Client } from "./client.mjs";

const PATIENCE_MS = 120_000;
const AGAIN_MS = 50;
const ANSWER_MS = 10_000;

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// Tries again and again until it comes to something.
export async function insist(what, attempt) {
  const deadline = Date.now() + PATIENCE_MS;
  for (;;) {
    const found = await attempt();
    if (found !== undefined && found !== false) return found;
    if (Date.now() > deadline) throw new Error(`in vain: ${what}`);
    await pause(AGAIN_MS);
  }
}

export class Persistent {
  // What was acknowledged in the room that it talks in, and what went wrong there.
  acknowledged = [];
  lost = 0;
  repeated = 0;
  silenceMs = 0;
  #room = null;
  #isIn = false;
  #session = null;
  #isOver = true;
  #talking = Promise.resolve();
  #said = 0;

  // Connected when it returns, and nowhere yet.
  static async connect(t, front, username, options = {}) {
    const somebody = new Persistent();
    const client = (somebody.client = new Client(t, front, username, {
      reconnection: true,
      reconnectionDelay: 50,
      reconnectionDelayMax: 500,
      ...options,
    }));
    const { socket } = client;
    somebody.username = username;
    socket.on("session:created", ({ sessionId }) => (somebody.#session = sessionId));
    socket.on("connect", () => somebody.#comeBack());
    socket.on("disconnect", (reason) => {
      somebody.lost += 1;
      somebody.#isIn = false;
      // The server's own word ends the reconnecting.
      if (reason === "io server disconnect") socket.connect();
    });
    // So does a refusal, as while Redis is away.
    socket.on("connect_error", () => {
      if (!socket.active && !somebody.hasGone) setTimeout(() => socket.connect(), AGAIN_MS * 4);
    });
    await insist(`${username} connects`, () => somebody.#session !== null);
    return somebody;
  }

  get transport() {
    return this.client.socket.io.engine?.transport.name;
  }

  async #comeBack() {
    const { id } = this.client.socket;
    const isHere = () => this.client.socket.connected && this.client.socket.id === id;
    const earlier = this.#session;
    const rooms = earlier === null ? [] : ((await this.#ask("session:restore", earlier))?.rooms ?? []);
    while (isHere() && this.#room !== null) {
      const room = this.#room;
      if (rooms.includes(room) || (await this.#ask("chat:join", room))?.status === "ok") {
        this.#isIn = isHere();
        return;
      }
      await pause(AGAIN_MS);
    }
  }

  // The answer; null if none came.
  #ask(event, ...args) {
    return this.client.socket
      .timeout(ANSWER_MS)
      .emitWithAck(event, ...args)
      .catch(() => null);
  }

  // Comes into a room, in place of the one before; what counts begins anew.
  async enter(room) {
    Object.assign(this, { acknowledged: [], lost: 0, repeated: 0, silenceMs: 0 });
    if (this.#room !== null) await this.#ask("chat:leave", this.#room);
    this.#room = room;
    await insist(`${this.username} joins ${room}`, async () => {
      const ack = await this.#ask("chat:join", room);
      return (this.#isIn = ack?.status === "ok");
    });
  }

  // Talks, with a pause between two messages, until `rest`; less after a while, so that a history
  // stays whole.
  talk(pauseMs) {
    this.#isOver = false;
    this.#talking = (async () => {
      while (!this.#isOver) {
        await this.say(`${this.username} ${(this.#said += 1)}`);
        await pause(this.acknowledged.length < 100 ? pauseMs : pauseMs * 10);
      }
    })();
    // Whoever rests is told.
    this.#talking.catch(() => {});
  }

  rest() {
    this.#isOver = true;
    return this.#talking;
  }

  async say(text) {
    const begun = Date.now();
    const message = { room: this.#room, text, key: text };
    let attempts = 0;
    const id = await insist(`"${text}" is acknowledged`, async () => {
      if (!this.#isIn) return undefined;
      attempts += 1;
      const ack = await this.#ask("chat:message", message);
      return ack?.status === "ok" ? ack.id : undefined;
    });
    if (attempts > 1) this.repeated += 1;
    this.silenceMs = Math.max(this.silenceMs, Date.now() - begun);
    this.acknowledged.push({ id, text });
  }

  // The room as it is for a joiner now: its history, and who is there.
  look() {
    const room = this.#room;
    return insist(`${this.username} looks at ${room}`, async () => {
      const { client } = this;
      const earlier = client.all("chat:history", (history) => history.room === room).length;
      const ack = await this.#ask("chat:join", room);
      if (ack?.status !== "ok") return undefined;
      // It comes right behind the answer, or the connection was lost.
      const histories = () => client.all("chat:history", (history) => history.room === room);
      await insist("a history", () => histories().length > earlier || !client.socket.connected);
      if (histories().length <= earlier) return undefined;
      return { members: ack.members, history: histories().at(-1).messages };
    });
  }

  // The ids of what it was told in the room as it happened, in that order.
  heard() {
    const messages = this.client.all("chat:message", ({ room }) => room === this.#room);
    return messages.map(({ id }) => id);
  }

  leave() {
    this.hasGone = true;
    this.client.socket.disconnect();
  }
}

// Each acknowledged message is in the history once, under the id that its author was told.
export function keepsAll(history, talkers, who) {
  assert.ok(history.length < 1000, "the history is whole");
  const byText = new Map();
  for (const { id, text } of history) byText.set(text, [...(byText.get(text) ?? []), id]);
  for (const { id, text } of talkers.flatMap(({ acknowledged }) => acknowledged)) {
    assert.deepEqual(byText.get(text), [id], `"${text}" in the history of ${who}`);
  }
}
