// The official client: connection state recovery. FEATURES B7, H 64–67, H 93.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import { MODES, ask, client, collect, connect, connected, disconnection } from "../lib/client.mjs";
import { Proxy } from "../lib/proxy.mjs";
import { KIND, serverFor, sockeyeOnly, useServer } from "../lib/server.mjs";
import { elapsed, until } from "../lib/wait.mjs";
import { Peer } from "../lib/websocket.mjs";

const RECOVERY = { connectionStateRecovery: { skipMiddlewares: false } };
const WAYS = ["polling", "websocket", "upgraded"];
const server = await useServer(RECOVERY);

const CUTS = {
  "that closed its engine": (socket) => socket.io.engine.close(),
  "whose connection was cut": async (socket, proxy) => {
    if (socket.io.engine.transport.name === "polling") {
      // The server takes notice at once if a GET is open, and has seen it when it answers another.
      await until("a GET to be open", () => proxy.isAwaited);
      await server.stats();
    }
    proxy.cut();
  },
};

for (const mode of WAYS) {
  for (const [how, cut] of Object.entries(CUTS)) {
    test(`B7 H64 a client over ${mode} ${how} has its socket and what it missed`, async (t) => {
      const [witness, visitor] = [await connect(t, server, "websocket"), new Visitor(t, mode)];
      const socket = await visitor.connect();
      await ask(socket, "join", "room");
      socket.emit("data-set", "name", "Ada");
      const { id } = socket;
      await broadcast(witness, { event: "news" }, 1, "before");
      await until("the first event", () => visitor.events.size === 1);

      await visitor.lose(cut);
      await broadcast(witness, { event: "news" }, 2, "text");
      await broadcast(witness, { event: "news", to: ["room"] }, 3, { to: "room" });
      await broadcast(witness, { event: "news", to: ["other"] }, -1);
      await broadcast(witness, { event: "news", except: ["room"] }, -2);
      await broadcast(witness, { event: "news", to: [id] }, 4, [Buffer.from([1, 2]), "x"]);
      await broadcast(witness, { event: "news", volatile: true }, -3, "volatile");
      await visitor.comeBack();

      assert.equal(socket.recovered, true);
      assert.equal(socket.id, id);
      const me = await ask(socket, "whoami");
      assert.deepEqual([me.rooms, me.data], [[id, "room"].sort(), { name: "Ada" }]);
      await broadcast(witness, { event: "news", to: ["room"] }, 5, "after");
      const expected = [
        [1, "before"],
        [2, "text"],
        [3, { to: "room" }],
        [4, [Buffer.from([1, 2]), "x"]],
        [5, "after"],
      ];
      for (const args of expected) assert.deepEqual(await visitor.nextNews(), args);
      assert.equal(visitor.events.size, 0);
    });
  }

  test(`B7 a client over ${mode} that comes and goes has each event once, in order`,
    sockeyeOnly("Node: the volatile events spoil the offset"),
    async (t) => {
      const [witness, visitor] = [await connect(t, server, "websocket"), new Visitor(t, mode)];
      const socket = await visitor.connect();
      await ask(socket, "join", "stream");
      for (let number = 0; number < 200; number += 1) {
        const values = [number, number % 3 === 0 ? Buffer.from("x") : "x"];
        await broadcast(witness, { event: "news", to: ["stream"] }, ...values);
        await broadcast(witness, { event: "other", to: ["stream"], volatile: true }, "poison");
        if (number % 20 !== 10) continue;
        // Sometimes with what is on its way, sometimes before it is connected again.
        socket.io.engine.close();
        if (number % 40 === 10) await broadcast(witness, { event: "news", to: [socket.id ?? ""] });
        socket.connect();
        if (number % 60 !== 10) await connected(socket);
      }
      if (!socket.connected) await connected(socket);
      assert.equal(socket.recovered, true);
      for (let number = 0; number < 200; number += 1) {
        const args = await visitor.nextNews();
        assert.deepEqual(args, [number, number % 3 === 0 ? Buffer.from("x") : "x"]);
      }
      assert.equal(visitor.events.size, 0);
    });
}

test("B7 it works before the first event", sockeyeOnly("Node: without an offset no recovery"),
  async (t) => {
    const [witness, visitor] = [await connect(t, server, "websocket"), new Visitor(t, "upgraded")];
    const socket = await visitor.connect();
    const { id } = socket;
    await visitor.lose(CUTS["that closed its engine"]);
    await broadcast(witness, { event: "news" }, "missed");
    await visitor.comeBack();
    assert.deepEqual([socket.recovered, socket.id], [true, id]);
    assert.deepEqual(await visitor.nextNews(), ["missed"]);
  });

test("H93 volatile events that end in text leave the client's offset alone",
  sockeyeOnly("Node: the client takes the text for an offset and is not recovered"), async (t) => {
    const [witness, visitor] = [await connect(t, server, "websocket"), new Visitor(t, "websocket")];
    const socket = await visitor.connect();
    await broadcast(witness, { event: "news" }, 1, "kept");
    await until("the first event", () => visitor.events.size === 1);
    const poisoned = collect(socket, "poison");
    await broadcast(witness, { event: "poison", volatile: true }, "text");
    await poisoned.next();
    await broadcast(witness, { event: "poison", volatile: true });
    await poisoned.next();
    await visitor.lose(CUTS["whose connection was cut"]);
    await broadcast(witness, { event: "news" }, 2, "missed");
    await visitor.comeBack();
    assert.equal(socket.recovered, true);
    assert.deepEqual(await visitor.nextNews(), [1, "kept"]);
    assert.deepEqual(await visitor.nextNews(), [2, "missed"]);
  });

test("B7 a session that has expired is a new one", async (t) => {
  const recovery = { ...RECOVERY.connectionStateRecovery, maxDisconnectionDuration: 100 };
  const own = await serverFor(t, { connectionStateRecovery: recovery });
  const witness = await connect(t, own, "websocket");
  const visitor = new Visitor(t, "websocket", own);
  const socket = await visitor.connect();
  const { id } = socket;
  await broadcast(witness, { event: "news" }, 1, "before");
  await visitor.nextNews();
  await visitor.lose(CUTS["that closed its engine"]);
  await elapsed(300);
  await visitor.comeBack();
  assert.equal(socket.recovered, false);
  assert.notEqual(socket.id, id);
});

test("B7 disconnections that were meant are not recovered from", async (t) => {
  const witness = await connect(t, server, "websocket");
  const ends = [(socket) => socket.disconnect(), (socket) => socket.emit("disconnect-me", true)];
  for (const end of ends) {
    const visitor = new Visitor(t, "websocket");
    const socket = await visitor.connect();
    await broadcast(witness, { event: "news" }, 1, "before");
    await visitor.nextNews();
    await visitor.lose(end);
    await visitor.comeBack();
    assert.equal(socket.recovered, false);
  }
});

test("B7 middlewares run again, unless they are skipped", async (t) => {
  for (const skipMiddlewares of [false, true]) {
    const own = await serverFor(t, { connectionStateRecovery: { skipMiddlewares } });
    const witness = await connect(t, own, "websocket", { namespace: "/slow", auth: { delay: 1 } });
    const visitor = new Visitor(t, "websocket", own, "/slow", { delay: 1 });
    const socket = await visitor.connect();
    await broadcast(witness, { event: "news" }, 1, "before");
    await visitor.nextNews();
    await visitor.lose(CUTS["that closed its engine"]);
    await visitor.comeBack();
    assert.equal(socket.recovered, true);
    const log = await own.log(visitor.mark);
    const runs = log.filter(({ event }) => event === "middleware").length;
    assert.equal(runs, skipMiddlewares ? 1 : 2);
  }
});

test("B7 H65 the wire: private ids, offsets, and what has none", async (t) => {
  const peer = await Peer.handshake(t, server);
  const mark = randomUUID();
  const first = await join(peer, { mark });
  assert.match(first.pid, /^[\w-]{20}$/);
  assert.notEqual(first.pid, first.sid);
  const witness = await connect(t, server, "websocket");
  await broadcast(witness, { event: "e", to: [first.sid] }, 1);
  const [, number, offset] = JSON.parse((await peer.receive()).slice(2));
  assert.deepEqual([number, typeof offset], [1, "string"]);
  await broadcast(witness, { event: "e", to: [first.sid] }, Buffer.from("x"));
  const text = await peer.receive();
  assert.match(text, /^451-\["e",\{"_placeholder":true,"num":0\},"[^"]+"\]$/);
  await peer.receive();
  await peer.send('42["ask","question",1]');
  assert.match(await peer.receive(), /^42\d+\["question",1\]$/);
  peer.ws.terminate();

  const away = await Peer.handshake(t, server);
  await server.logged(mark, "disconnect");
  const second = await join(away, { pid: first.pid, offset }, 1);
  assert.deepEqual([second.sid, second.pid], [first.sid, first.pid]);

  const stray = await Peer.handshake(t, server);
  const third = await join(stray, { pid: first.pid, offset: "nonsense" });
  assert.notEqual(third.sid, first.sid);
});

test("H66 a socket is taken up once, and not while it lives",
  sockeyeOnly("Node: any number of sockets with one id"), async (t) => {
    const witness = await connect(t, server, "websocket");
    const peer = await Peer.handshake(t, server);
    const mark = randomUUID();
    const { sid, pid } = await join(peer, { mark });
    await broadcast(witness, { event: "e", to: [sid] }, 1);
    const [, , offset] = JSON.parse((await peer.receive()).slice(2));
    const take = async () => {
      const other = await Peer.handshake(t, server);
      return (await join(other, { pid, offset })).sid === sid;
    };
    assert.equal(await take(), false, "it lives");
    peer.ws.terminate();
    await server.logged(mark, "disconnect");
    assert.equal(await take(), true);
    assert.equal(await take(), false, "it has been taken up");
  });

/** Joins `/`; with what was missed, `missed` packets that are one binary event each. */
async function join(peer, auth, missed = 0) {
  await peer.send(`40${JSON.stringify(auth)}`);
  const packets = [];
  for (let count = 0; count < 1 + 2 * missed; count += 1) packets.push(await peer.receive());
  // Sockeye sends what was missed behind the CONNECT: the client may handle what comes before twice.
  const connect = KIND === "node" ? packets.at(-1) : packets[0];
  assert.match(connect, /^40\{/);
  return JSON.parse(connect.slice(2));
}

async function broadcast(witness, spec, ...args) {
  await ask(witness, "broadcast", { from: "server", ...spec }, ...args);
}

/** An official client that loses its connection when it is told to, and comes back then. */
class Visitor {
  constructor(t, mode, at = server, namespace = "/", auth = {}) {
    this.mark = randomUUID();
    Object.assign(this, { t, mode, at, options: { namespace, auth: { ...auth, mark: this.mark } } });
  }

  async connect() {
    this.proxy = await Proxy.before(this.t, this.at);
    this.socket = client(this.t, this.proxy, this.mode, this.options);
    this.events = collect(this.socket, "news");
    await connected(this.socket);
    if (MODES[this.mode].waitForUpgrade) {
      const { engine } = this.socket.io;
      await until("the upgrade", () => engine.transport.name === "websocket");
    }
    return this.socket;
  }

  /** The next event's arguments, without its offset. */
  async nextNews() {
    return (await this.events.next("an event")).slice(0, -1);
  }

  /** Both sides take notice. */
  async lose(cut) {
    const ended = this.socket.connected && disconnection(this.socket);
    await cut(this.socket, this.proxy);
    await ended;
    await this.at.logged(this.mark, "disconnect");
  }

  async comeBack() {
    this.socket.connect();
    await connected(this.socket);
  }
}
