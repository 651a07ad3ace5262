// The test server of README.md on Node's official socket.io: the yardstick for every other server.
// Knows nothing of the tests; each handler does exactly what the contract's table says.

import { createServer } from "node:http";
import { setImmediate as turn, setTimeout as sleep } from "node:timers/promises";
import { Server } from "socket.io";
import msgpack from "socket.io-msgpack-parser";

const LOG_RECORDS_MAX = 10_000;

const { hooks, ...options } = JSON.parse(process.env.SERVER_OPTIONS ?? "{}");
if (options.cookie?.expires) options.cookie.expires = new Date(options.cookie.expires);
if (options.parser === "msgpack") options.parser = msgpack;
if (hooks) options.allowRequest = allowRequest;
const http = createServer(answerPlainRequest);
const io = new Server(http, { serveClient: false, ...options });
const log = [];
const refusals = [];
if (hooks) installHooks(io.engine);

for (const name of ["/", "/chat", "/admin", "/slow"]) {
  io.of(name).on("connection", (socket) => serve(io.of(name), socket));
}
io.of("/admin").use(requireToken);
io.of("/admin").use(refusePlainly);
io.of("/slow").use(hangAWhile);

// Node ends the process when a handler throws; the contract wants only that event to fail.
process.on("uncaughtException", (error) => console.error("handler failed:", error.message));
process.on("SIGTERM", shutDown);
http.listen(Number(process.env.PORT), "127.0.0.1", () => console.log("listening"));

async function allowRequest(request, answer) {
  const { refuse } = request._query;
  await turn();
  answer(refuse === "" ? undefined : refuse, refuse === undefined);
}

function installHooks(engine) {
  const generateId = engine.generateId.bind(engine);
  engine.generateId = async (request) => {
    const { id } = request._query;
    await turn();
    if (id === "fail") throw new Error("no id");
    return id ?? generateId(request);
  };
  engine.on("initial_headers", (headers, request) => {
    headers["x-initial"] = request._query.tag ?? "";
  });
  engine.on("headers", (headers, request) => {
    headers["x-each"] = request.method;
  });
  engine.on("connection_error", ({ req, code, message, context }) => {
    const { mark } = req._query;
    const { error, ...rest } = context;
    if (error !== undefined) rest.error = error.message;
    if (mark !== undefined) refusals.push({ mark, code, message, context: rest });
  });
}

async function requireToken(socket, next) {
  await sleep(1);
  const { token } = socket.handshake.auth;
  if (token !== "letmein") {
    const error = new Error("not authorized");
    error.data = { code: "E_TOKEN", given: token ?? null };
    return next(error);
  }
  socket.data.user = "admin";
  next();
}

function refusePlainly(socket, next) {
  next(socket.handshake.auth.plain ? new Error("plain refusal") : undefined);
}

async function hangAWhile(socket, next) {
  const { early, room, delay = 100, refuse } = socket.handshake.auth;
  record(socket, "middleware", { connected: socket.connected });
  if (early !== undefined) socket.emit("early", early);
  if (room !== undefined) socket.join(room);
  await sleep(delay);
  record(socket, "middleware-end");
  next(refuse === undefined ? undefined : new Error(refuse));
}

/** Runs one connected socket: its record of lifecycle events and the handlers of the contract. */
function serve(namespace, socket) {
  record(socket, "connection", { rooms: roomsOf(socket) });
  socket.on("disconnecting", (reason) => {
    record(socket, "disconnecting", { reason, rooms: roomsOf(socket) });
  });
  socket.on("disconnect", (reason, description) => {
    const details = { reason, rooms: roomsOf(socket), description: description?.message ?? null };
    record(socket, "disconnect", details);
  });
  if (hooks) {
    socket.conn.on("upgrade", ({ name }) => record(socket, "upgrade", { transport: name }));
  }
  const { welcome } = socket.handshake.auth;
  if (welcome !== undefined) socket.emit("welcome", welcome);

  serveMessages(socket);
  serveListening(socket);
  serveState(socket);
  serveRooms(namespace, socket);
  serveEndings(socket);
}

function serveMessages(socket) {
  socket.on("echo", (...args) => {
    const ack = takeAck(args);
    if (ack) ack(...args);
    else socket.emit("echo", ...args);
  });
  socket.on("7", (...args) => socket.emit("seven", ...args));
  socket.on("silence", () => {});
  socket.on("later", async (delay, ...args) => {
    const ack = takeAck(args);
    await sleep(delay);
    ack?.(...args);
  });
  socket.on("twice", (...args) => {
    socket.emit("twice", ...args);
    socket.emit("twice", ...args);
  });
  socket.on("ask", (event, ...args) => {
    const ack = takeAck(args);
    socket.emit(event, ...args, (...answers) => ack?.(...answers));
  });
  socket.on("ask-timeout", (timeout, event, ...args) => {
    const ack = takeAck(args);
    socket.timeout(timeout).emit(event, ...args, (error, ...answers) => {
      if (error) ack?.("timeout");
      else ack?.("ok", ...answers);
    });
  });
  socket.on("stream", async (event, count, padBytes, ack) => {
    const pad = "x".repeat(padBytes);
    for (let i = 0; i < count; i += 1) {
      socket.emit(event, i, pad);
      if (i % 10 === 9) await turn();
    }
    ack?.();
  });
  socket.on("volatile", (count, ...args) => {
    for (let i = 0; i < count; i += 1) socket.volatile.emit("volatile", i, ...args);
    socket.emit("volatile-end", count);
  });
}

/** Listeners, catch-alls and middlewares that clients add, by their words for them. */
function serveListening(socket) {
  const added = new Map();
  const take = (word) => {
    const listener = added.get(word);
    added.delete(word);
    return listener;
  };
  socket.on("send", (...args) => {
    takeAck(args);
    socket.send(...args);
  });
  socket.on("emit-number", (number, ...args) => socket.emit(number, ...args));
  socket.on("listen", (event, word, how, ack) => {
    const heard = (...args) => {
      takeAck(args);
      socket.emit("heard", word, ...args);
    };
    const answer = (...args) => takeAck(args)?.(word);
    added.set(word, how === "answer" ? answer : heard);
    if (how === "once") socket.once(event, heard);
    else socket.on(event, added.get(word));
    ack(socket.listenerCount(event));
  });
  socket.on("unlisten", (event, word, ack) => {
    if (word === null) socket.removeAllListeners(event);
    else socket.off(event, take(word));
    ack(socket.listenerCount(event));
  });
  socket.on("watch", (direction, word, first, ack) => {
    const saw = (event, ...args) => {
      takeAck(args);
      socket.emit("saw", word, event, ...args);
    };
    const outgoing = (name, ...args) => {
      takeAck(args);
      record(socket, "outgoing", { word, name: String(name), args: args.map(readable) });
    };
    added.set(word, direction === "out" ? outgoing : saw);
    const add = first ? "prependAny" : "onAny";
    socket[direction === "out" ? `${add}Outgoing` : add](added.get(word));
    ack();
  });
  socket.on("unwatch", (direction, word, ack) => {
    const off = direction === "out" ? "offAnyOutgoing" : "offAny";
    if (word === null) socket[off]();
    else socket[off](take(word));
    ack();
  });
  socket.on("judge", (event, word, delay, refuse, ack) => {
    socket.use(async ([name], next) => {
      if (name !== event) return next();
      await sleep(delay);
      socket.emit("judged", word);
      next(refuse === null ? undefined : new Error(refuse));
    });
    ack();
  });
  socket.on("error", ({ message }) => record(socket, "error", { message }));
}

function readable(value) {
  return Buffer.isBuffer(value) ? [...value] : value;
}

function serveState(socket) {
  socket.on("record", (value) => record(socket, "record", { value }));
  socket.on("whoami", (ack) => {
    const { id, connected, data, conn, handshake, nsp } = socket;
    const { auth, query } = handshake;
    const names = { namespace: nsp.name, transport: conn.transport.name };
    ack({ id, ...names, connected, rooms: roomsOf(socket), data, auth, query });
  });
  socket.on("data-set", (key, value, ack) => {
    socket.data[key] = value;
    ack?.();
  });
  socket.on("data-get", (key, ack) => ack(socket.data[key] ?? null));
}

function serveRooms(namespace, socket) {
  socket.on("join", (rooms, ack) => {
    socket.join(rooms);
    ack?.(roomsOf(socket));
  });
  socket.on("leave", (room, ack) => {
    socket.leave(room);
    ack?.(roomsOf(socket));
  });
  socket.on("rooms", (ack) => ack(roomsOf(socket)));
  socket.on("broadcast", (spec, ...args) => {
    const ack = takeAck(args);
    let operator = spec.from === "server" ? namespace.to([]) : socket.broadcast;
    if (spec.to) operator = operator.to(spec.to);
    if (spec.except) operator = operator.except(spec.except);
    if (spec.compress === false) operator = operator.compress(false);
    if (spec.volatile) operator = operator.volatile;
    if (spec.timeout === undefined) {
      operator.emit(spec.event, ...args);
      return ack?.();
    }
    operator.timeout(spec.timeout).emit(spec.event, ...args, (error, answers) => {
      ack?.(error ? "timeout" : "ok", sorted(answers));
    });
  });
  socket.on("operators", (first, second, ack) => {
    const base = namespace.to(first);
    const both = base.to(second);
    const nobody = both.except([first, second]);
    both.emit("operators", "both");
    base.emit("operators", "first");
    nobody.emit("operators", "nobody");
    base.emit("operators", "first again");
    ack?.();
  });
}

function serveEndings(socket) {
  socket.on("disconnect-me", (close, ...args) => {
    takeAck(args);
    socket.emit("bye", ...args);
    socket.disconnect(close);
  });
  socket.on("disconnect-then-join", (room) => {
    socket.disconnect();
    socket.join(room);
  });
  socket.on("throw", (message) => {
    throw new Error(message);
  });
  socket.on("emit-named", (name, ack) => {
    try {
      socket.emit(name);
      ack("ok");
    } catch {
      ack("refused");
    }
  });
}

/** Takes the acknowledgement off the end of an event's arguments. */
function takeAck(args) {
  return typeof args.at(-1) === "function" ? args.pop() : undefined;
}

/** In the order of their JSON: receivers answer in any order. */
function sorted(answers) {
  return answers.map((answer) => JSON.stringify(answer)).sort().map((text) => JSON.parse(text));
}

function roomsOf(socket) {
  return [...socket.rooms].sort();
}

/** Only marked sockets are recorded, so that a churn of thousands leaves nothing behind. */
function record(socket, event, details = {}) {
  const { mark } = socket.handshake.auth;
  if (typeof mark !== "string") return;
  log.push({ mark, namespace: socket.nsp.name, id: socket.id, event, ...details });
  if (log.length > LOG_RECORDS_MAX) log.shift();
}

function answerPlainRequest(request, response) {
  const url = new URL(request.url, "http://localhost");
  const mark = url.searchParams.get("mark");
  if (url.pathname === "/stats") return answerJson(response, stats());
  if (url.pathname === "/log") return answerJson(response, log.filter((r) => r.mark === mark));
  if (url.pathname === "/refusals") {
    const marked = refusals.filter((refusal) => refusal.mark === mark);
    return answerJson(response, marked.map(({ mark, ...refusal }) => refusal));
  }
  response.writeHead(404).end();
}

function answerJson(response, value) {
  response.writeHead(200, { "Content-Type": "application/json" }).end(JSON.stringify(value));
}

function stats() {
  const namespaces = [...io._nsps.values()];
  const transports = { polling: 0, websocket: 0 };
  for (const client of Object.values(io.engine.clients)) transports[client.transport.name] += 1;
  return {
    pid: process.pid,
    sessions: io.engine.clientsCount,
    transports,
    sockets: namespaces.reduce((sum, namespace) => sum + namespace.sockets.size, 0),
    rooms: namespaces.reduce((sum, namespace) => sum + namespace.adapter.rooms.size, 0),
  };
}

async function shutDown() {
  // A WebSocket peer that never answers the close frame must not keep the process.
  await Promise.race([io.close(), sleep(1_000)]);
  process.exit(0);
}
