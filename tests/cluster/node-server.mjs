// A node of a cluster on Node's official socket.io and adapters, as README.md asks for it.

import { createServer } from "node:http";
import { createAdapter, createShardedAdapter } from "@socket.io/redis-adapter";
import { createAdapter as createStreamsAdapter } from "@socket.io/redis-streams-adapter";
import Redis from "ioredis";
import { createClient, createCluster } from "redis";
import { Server } from "socket.io";

const { name, port, redis, adapter, specific, recovery, client = "redis" } = JSON.parse(process.env.NODE);

function make() {
  const [scheme, hosts] = redis.split("://");
  if (scheme !== "redis-cluster") {
    return client === "redis" ? createClient({ url: redis }) : new Redis(redis);
  }
  const urls = hosts.split(",").map((host) => `redis://${host}`);
  if (client !== "redis") return new Redis.Cluster(urls);
  return createCluster({ rootNodes: urls.map((url) => ({ url })), RESP: 2 });
}

async function connect() {
  const made = make();
  made.on("error", (error) => console.error(error.message));
  if (client === "redis") await made.connect();
  return made;
}

async function chosen() {
  if (adapter === "streams") return createStreamsAdapter(await connect());
  const [publishing, subscribing] = [await connect(), await connect()];
  if (adapter === "classic") {
    const options = { requestsTimeout: 5000, publishOnSpecificResponseChannel: specific };
    return createAdapter(publishing, subscribing, options);
  }
  return createShardedAdapter(publishing, subscribing, { subscriptionMode: adapter });
}

const http = createServer();
const connectionStateRecovery = recovery ? { maxDisconnectionDuration: 120_000 } : undefined;
const io = new Server(http, { adapter: await chosen(), connectionStateRecovery });
const heard = [];

for (const namespace of [io.of("/"), io.of("/other")]) {
  namespace.on("connection", (socket) => {
    const { rooms = [], data } = socket.handshake.auth;
    if (!socket.recovered) socket.join(rooms);
    if (data && !socket.recovered) Object.assign(socket.data, data);
    socket.on("act", async (act, ...args) => {
      const ack = args.pop();
      ack(await perform(act, args));
    });
  });
  namespace.on("hello", (...args) => heard.push(args));
  namespace.on("who", (asked, ack) => ack({ name, asked }));
}

async function perform(act, args) {
  const { what, to = [], except = [], local, volatile, event, rooms, close, timeout = 15_000 } = act;
  const namespace = io.of(act.namespace ?? "/");
  let chosen = namespace.to(to).except(except);
  if (local) chosen = chosen.local;
  if (volatile) chosen = chosen.volatile;
  switch (what) {
    case "emit":
      chosen.emit(event, ...args);
      return null;
    case "ask":
      return new Promise((resolve) => {
        chosen.timeout(timeout).emit(event, ...args, (error, answers) => {
          resolve({ answers, whole: !error });
        });
      });
    case "direct":
      namespace.sockets.get(act.id).emit(event, ...args);
      return null;
    case "join":
      chosen.socketsJoin(rooms);
      return null;
    case "leave":
      chosen.socketsLeave(rooms);
      return null;
    case "disconnect":
      chosen.disconnectSockets(close);
      return null;
    case "fetch":
      return (await chosen.fetchSockets()).map(({ id, rooms, data, handshake }) => ({
        id,
        rooms: [...rooms].sort(),
        data,
        auth: handshake.auth,
        query: handshake.query.tag,
      }));
    case "hello":
      namespace.serverSideEmit("hello", ...args);
      return null;
    case "who":
      return new Promise((resolve) => {
        namespace.serverSideEmit("who", ...args, (error, answers) => {
          resolve({ answers, whole: !error });
        });
      });
    case "heard":
      return heard;
    case "count":
      return namespace.adapter.serverCount();
    default:
      throw new Error(`what is ${what}?`);
  }
}

process.on("SIGTERM", () => process.exit(0));
http.listen(port, "127.0.0.1", () => console.log("listening"));
