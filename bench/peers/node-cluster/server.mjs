// Peer: socket.io (Node.js) with a Redis adapter, single process. See ../../README.md for the contract.
// env: PORT, REDIS_URL, BUS=classic|sharded|streams
import { createServer } from "node:http";
import { createAdapter, createShardedAdapter } from "@socket.io/redis-adapter";
import { createAdapter as createStreamsAdapter } from "@socket.io/redis-streams-adapter";
import { createClient } from "redis";
import { Server } from "socket.io";

const connect = () => createClient({ url: process.env.REDIS_URL }).connect();

async function adapter() {
  switch (process.env.BUS) {
    case "streams":
      return createStreamsAdapter(await connect());
    case "sharded":
      return createShardedAdapter(await connect(), await connect(), { subscriptionMode: "dynamic" });
    default:
      return createAdapter(await connect(), await connect());
  }
}

const http = createServer();
const io = new Server(http, {
  pingInterval: 25000,
  pingTimeout: 20000,
  maxHttpBufferSize: 1e8,
  perMessageDeflate: false,
  httpCompression: false,
  serveClient: false,
  adapter: await adapter(),
});
io.on("connection", (socket) => {
  socket.on("echo", (...args) => {
    const last = args[args.length - 1];
    if (typeof last === "function") last(...args.slice(0, -1));
    else socket.emit("echo", ...args);
  });
  socket.on("broadcast", (payload) => io.emit("broadcast", payload));
  socket.on("join", (room, ack) => {
    socket.join(room);
    if (typeof ack === "function") ack();
  });
  socket.on("room", (room, payload) => io.to(room).emit("room", payload));
});
// backlog must be at least the load generator's connect window
http.listen({ port: Number(process.env.PORT || 3000), host: "0.0.0.0", backlog: 4096 });
