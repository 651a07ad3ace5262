// What Node's packages write to Redis, captured from a client that only keeps it: a JSON list of
// `{name, uid, request, channel, payload}` (base64), or with an `entry` of a stream. Each is the
// answer to a call that `crates/sockeye-redis/tests/redis/vectors.rs` makes of its own kind.

import { createAdapter, createShardedAdapter } from "@socket.io/redis-adapter";
import { Emitter } from "@socket.io/redis-emitter";
import { createAdapter as createStreamsAdapter } from "@socket.io/redis-streams-adapter";
import { Server } from "socket.io";

const vectors = [];

/** A client of the package `redis`, as far as the adapters use one. */
class Recorder {
  written = [];
  handlers = new Map();
  on() {}
  off() {}
  duplicate() {
    return this;
  }
  async connect() {}
  publish(channel, payload) {
    this.written.push({ channel, payload: Buffer.from(payload).toString("base64") });
    return Promise.resolve(1);
  }
  sPublish = this.publish;
  pSubscribe(pattern, handler) {
    this.handlers.set(pattern, handler);
  }
  subscribe(channels, handler) {
    for (const channel of [channels].flat()) this.handlers.set(channel, handler);
  }
  sSubscribe = this.subscribe;
  xAdd(stream, id, entry) {
    this.written.push({ channel: stream, entry });
    return Promise.resolve("1-0");
  }
  xRead() {
    return new Promise(() => {});
  }
  sendCommand(command) {
    return Promise.resolve([command[2], "2"]);
  }
}

const turn = () => new Promise((resolve) => setImmediate(resolve));
const bytes = Buffer.from([0, 1, 255]);
const values = [null, true, -1, 1.5, 2 ** 40, "\u0000é😀\u2028", [], {}, { a: [undefined, 1], b: undefined }];
const long = "x".repeat(70_000);

/** Whatever an adapter of any kind can be asked to say. */
async function capture(name, client, io, { requests = true } = {}) {
  const { uid } = io.of("/").adapter;
  const record = async (what, act) => {
    client.written.length = 0;
    act();
    await turn();
    await turn();
    // Each acts once, or broadcasts and asks in one.
    for (const written of client.written) vectors.push({ name: `${name} ${what}`, uid, ...written });
  };
  await record("event", () => io.emit("ev", 1, "x", { a: [true, null] }));
  await record("values", () => io.emit("values", ...values));
  await record("long", () => io.emit("long", long));
  await record("binary", () => io.emit("binary", bytes, { deep: [bytes] }));
  await record("room", () => io.to("room").emit("ev"));
  await record("number", () => io.to(7).emit("ev"));
  await record("hash", () => io.to("a#b").emit("ev"));
  await record("own", () => io.to("abcdefghijklmnopqrst").emit("ev"));
  await record("rooms", () => io.to(["a", "b"]).except(["c"]).emit("ev"));
  await record("volatile", () => io.volatile.compress(false).emit("ev"));
  await record("namespace", () => io.of("/other").emit("ev"));
  await record("ask", () => io.to("room").timeout(1500).emit("ask", bytes, () => {}));
  await record("ask plain", () => io.timeout(1500).emit("ask", 1, () => {}));
  await record("join", () => io.in("a").except("b").socketsJoin(["c", "d"]));
  await record("leave", () => io.in("a").socketsLeave("c"));
  await record("disconnect", () => io.in("a").disconnectSockets(true));
  await record("emit servers", () => io.serverSideEmit("hello", 1, { b: "c" }));
  await record("emit servers binary", () => io.serverSideEmit("hello", bytes));
  if (requests) {
    await record("fetch", () => io.in("a").fetchSockets());
    await record("ask servers", () => io.serverSideEmit("hello", 1, () => {}));
  }
}

/** What a server answers; `ask` brings it a request of node `asker`. */
async function answers(name, client, io, ask) {
  const { uid } = io.of("/").adapter;
  const record = async (what, request, prepare = () => {}) => {
    prepare();
    client.written.length = 0;
    ask(request);
    for (let i = 0; i < 5; i += 1) await turn();
    for (const written of client.written) vectors.push({ name: `${name} ${what}`, uid, ...written });
    io.of("/").removeAllListeners();
  };
  const data = { user: "u", list: [1] };
  const handshake = { headers: { host: "h" }, time: "t", xdomain: false, secure: true, issued: 1, auth: {} };
  const socket = (data) => ({ id: "abcdefghijklmnopqrst", handshake, rooms: new Set(["abcdefghijklmnopqrst", "r"]), data });
  const { adapter } = io.of("/");
  const serve = (...list) => () => {
    for (const one of list) {
      io.of("/").sockets.set(one.id, one);
      adapter.sids.set(one.id, one.rooms);
      for (const room of one.rooms) adapter.rooms.set(room, new Set([one.id]));
    }
  };
  await record("no sockets", "fetch");
  await record("sockets", "fetch", serve(socket(data)));
  await record("binary sockets", "fetch", serve({ ...socket({ own: bytes }) }));
  await record("nothing", "emit", () => io.on("hello", (ack) => ack()));
  await record("answer", "emit", () => io.on("hello", (ack) => ack({ a: 1 })));
  await record("binary answer", "emit", () => io.on("hello", (ack) => ack([bytes])));
  // A client of the real adapter, that answers at once.
  const client1 = { notifyOutgoingListeners() {}, acks: new Map(), ...socket({}), client: { writeToEngine: () => {} } };
  const asked = (...args) => () => {
    io.of("/").sockets.set(client1.id, client1);
    client1.client.writeToEngine = () => setImmediate(() => [...client1.acks.values()].at(-1)?.(...args));
  };
  await record("count, ack", "ask", asked("yes", 2));
  await record("count, binary ack", "ask", asked({ bytes }));
  await record("count, no ack", "ask", asked());
}

const classic = (options) => {
  const client = new Recorder();
  return { client, io: new Server({ adapter: createAdapter(client, client, options) }) };
};

{
  const { client, io } = classic();
  await capture("classic", client, io);
  const requests = {
    fetch: { type: 5, opts: { rooms: [], except: [] } },
    emit: { type: 6, data: ["hello"] },
    ask: { type: 7, packet: { type: 2, data: ["ask"], nsp: "/" }, opts: { rooms: [], except: [], flags: { timeout: 1000 } } },
    rooms: { type: 1 },
  };
  const handler = client.handlers.get("socket.io-request#/#");
  const ask = (name) => {
    const request = { uid: "asker1", requestId: "req001", ...requests[name] };
    handler(Buffer.from(JSON.stringify(request)), "socket.io-request#/#");
  };
  await answers("classic", client, io, ask);
  client.written.length = 0;
  ask("rooms");
  await turn();
  vectors.push({ name: "classic list rooms", uid: "", ...client.written[0] });
}
{
  const { client, io } = classic({ key: "key", publishOnSpecificResponseChannel: true });
  io.of("/");
  const request = { uid: "asker1", requestId: "req001", type: 5, opts: { rooms: [], except: [] } };
  client.handlers.get("key-request#/#")(Buffer.from(JSON.stringify(request)), "key-request#/#");
  for (let i = 0; i < 5; i += 1) await turn();
  vectors.push({ name: "classic specific", uid: "", ...client.written[0] });
}
{
  const client = new Recorder();
  await capture("emitter", client, Object.assign(emitterAsServer(client), {}), { requests: false });
}
for (const subscriptionMode of ["static", "dynamic", "dynamic-private"]) {
  const client = new Recorder();
  const io = new Server({ adapter: createShardedAdapter(client, client, { subscriptionMode }) });
  await capture(subscriptionMode, client, io);
  if (subscriptionMode === "dynamic") {
    await answers("numbered", client, io, numbered(io, (message) => {
      client.handlers.get("socket.io#/#")(Buffer.from(JSON.stringify(message)), "socket.io#/#");
    }));
  }
}
{
  const client = new Recorder();
  const io = new Server({ adapter: createStreamsAdapter(client, {}) });
  await capture("streams", client, io);
  await answers("streams", client, io, numbered(io, (message) => io.of("/").adapter.onMessage(message)));
}
{
  const streams = [];
  for (const namespace of ["/", "/a", "/dashboard", "/é", "/chat", "/admin", "/a/very/long/name/of/a/namespace"]) {
    for (const streamCount of [1, 2, 3, 8]) {
      const client = new Recorder();
      const io = new Server({ adapter: createStreamsAdapter(client, { streamCount }) });
      io.of(namespace).emit("e");
      await turn();
      streams.push([namespace, streamCount, client.written.at(-1).channel]);
    }
  }
  vectors.push({ name: "stream names", streams });
}

function numbered(io, deliver) {
  const opts = { rooms: [], except: [], flags: { timeout: 1000 } };
  const data = {
    fetch: [7, { opts, requestId: "req001" }],
    emit: [9, { requestId: "req001", packet: ["hello"] }],
    ask: [3, { packet: { type: 2, data: ["ask"] }, requestId: "req001", opts }],
  };
  return (name) => {
    const [type, content] = data[name];
    deliver({ type, data: content, uid: "asker1", nsp: "/" });
  };
}

/** The emitter has most of a server's words. */
function emitterAsServer(client) {
  const emitter = new Emitter(client);
  const asNamespace = (emitter) => ({
    emit: (...args) => emitter.emit(...args),
    to: (...args) => emitter.to(...args),
    in: (...args) => emitter.in(...args),
    get volatile() {
      return emitter.volatile;
    },
    // It has no acknowledgements.
    timeout: () => ({ emit: () => {} }),
    serverSideEmit: (...args) => emitter.serverSideEmit(...args),
    adapter: { uid: "emitter" },
  });
  const root = asNamespace(emitter);
  const withoutAsking = (operator) => Object.assign(operator, { timeout: () => ({ emit: () => {} }) });
  return {
    ...root,
    to: (...args) => withoutAsking(emitter.to(...args)),
    get volatile() {
      return emitter.volatile;
    },
    of: (name) => (name === "/" ? root : asNamespace(emitter.of(name))),
  };
}

process.stdout.write(JSON.stringify(vectors), () => process.exit(0));
