// Tells a story to one server and returns what everyone has seen, as sections of lines.
// Ids differ from run to run: each is replaced by whose it is.

import { until } from "../../lib/wait.mjs";
import { Actor } from "./actor.mjs";
import { Tap } from "./tap.mjs";

let tellings = 0;

export class Stage {
  #actors = [];
  #taps = [];
  #t;

  constructor(t, server, mode) {
    Object.assign(this, { server, mode });
    this.#t = t;
    this.telling = tellings += 1;
  }

  /** Somebody new; `mode` is the story's unless the options have one. */
  async actor(name, { mode = this.mode, ...options } = {}) {
    const tap = await Tap.start(this.#t, this.server.port);
    const mark = `${name} ${this.telling}`;
    const actor = this.add(Actor.outside({ name, mode, tap, mark, ...options }));
    this.#taps.push({ name, tap, mark });
    this.#t.after(() => actor.socket.disconnect());
    return actor;
  }

  /** Somebody new who is connected. */
  async connected(name, options) {
    return (await this.actor(name, options)).connect();
  }

  /** Lets what an actor sees in another namespace be told, too. */
  add(actor) {
    this.#actors.push(actor);
    return actor;
  }

  /** Waits until the server has recorded this of somebody so many times. */
  async recorded(actor, event, times = 1) {
    return until(`the server to record ${event} of ${actor.name}`, async () => {
      const records = await this.server.log(actor.mark);
      return records.filter((record) => record.event === event).length >= times;
    });
  }

  /** Cuts somebody's network, where the server notices it. */
  async cut(actor) {
    await this.settled(actor);
    await actor.cut();
  }

  /** Waits until the server holds a connection over which it could tell somebody that it ends. */
  async settled(actor) {
    await actor.tap.settled();
    // What was on the way to the server has come: a GET that is cut before it is read is none.
    await this.server.stats();
  }

  /** Everybody leaves; then the sections, by their titles. */
  async end() {
    for (const { socket } of this.#actors) socket.disconnect();
    for (const { tap } of this.#taps) tap.resume();
    // A session whose goodbye was lost goes by its heartbeat, 45 s later.
    await this.server.empty(60_000);
    const sections = new Map();
    for (const { name, seen } of this.#actors) sections.set(`${name} saw`, seen);
    for (const { name, tap, mark } of this.#taps) {
      for (const part of ["up", "down", "upgrade"]) sections.set(`${name}, ${part}`, tap[part]);
      const records = await this.server.log(mark);
      sections.set(`the server of ${name}`, records.map(describe));
    }
    return nameIds(sections, this.telling);
  }
}

/** A record of the server's, in words. Descriptions are for people: they are not compared. */
function describe({ mark, namespace, id, event, description, ...rest }) {
  return `${namespace} ${event} of ${id} ${JSON.stringify(rest)}`;
}

/** Replaces ids, and the number of this telling in marks. */
function nameIds(sections, telling) {
  const names = new Map();
  for (const [title, lines] of sections) {
    const who = title.split(",")[0];
    if (!title.endsWith(", down")) continue;
    for (const line of lines) {
      const [, type, namespace, id] =
        /^(0|40)(\/[^,]*)?,?\{"sid":"([\w-]{20})"/.exec(line) ?? [];
      if (id === undefined || names.has(id)) continue;
      const of = type === "0" ? "session" : `socket in ${namespace ?? "/"}`;
      const number = [...names.values()].filter((name) => name.startsWith(`${who}'s ${of} `)).length;
      names.set(id, `${who}'s ${of} ${number + 1}`);
    }
  }
  // Those of sockets that were never told theirs.
  let nameless = 0;
  for (const line of [...sections.values()].flat()) {
    const id = / of ([\w-]{20}) \{/.exec(line)?.[1];
    if (id !== undefined && !names.has(id)) names.set(id, `nameless socket ${(nameless += 1)}`);
  }
  const rename = (line) => {
    let text = line.replaceAll(new RegExp(`("[^"]+) ${telling}"`, "g"), '$1"');
    // What the client adds against caches.
    text = text.replaceAll(/,"t":"[^"]*"/g, "");
    for (const [id, name] of names) text = text.replaceAll(id, `<${name}>`);
    return shorten(sortNames(sortKeys(text)));
  };
  const renamed = new Map();
  for (const [title, lines] of sections) renamed.set(title, lines.map(rename));
  return renamed;
}

/** The test servers write their objects' keys in any order. */
function sortKeys(text) {
  const [, before, json] = /^([^[{]*)([[{].*)$/s.exec(text) ?? [];
  if (json === undefined) return text;
  try {
    return before + JSON.stringify(JSON.parse(json), (_, value) => {
      if (value === null || typeof value !== "object" || Array.isArray(value)) return value;
      return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)));
    });
  } catch {
    return text;
  }
}

/** Rooms are sorted, by ids that differ from run to run. */
function sortNames(text) {
  return text.replaceAll(/\["[^[\]]*"\]/g, (list) => {
    return list.includes('"<') ? JSON.stringify(JSON.parse(list).sort()) : list;
  });
}

function shorten(text) {
  return text.length <= 300 ? text : `${text.slice(0, 200)}… ${text.length} characters`;
}
