// Peer: ws (Node.js), single process. See ../../README.md for the contract.
// env: PORT, DEFLATE=1 (permessage-deflate as in the peers in Rust: level 3, threshold 1024)
import { createServer } from "node:http";
import { WebSocketServer } from "ws";

const http = createServer();
const perMessageDeflate = process.env.DEFLATE === "1" && {
  threshold: 1024,
  serverNoContextTakeover: true,
  clientNoContextTakeover: true,
  zlibDeflateOptions: { level: 3 },
};
const server = new WebSocketServer({ server: http, perMessageDeflate, maxPayload: 1e8 });
const receivers = new Set();
server.on("connection", (socket, request) => {
  socket.on("error", () => {});
  if (request.url !== "/broadcast") {
    socket.on("message", (data, binary) => socket.send(data, { binary }));
    return;
  }
  receivers.add(socket);
  socket.on("close", () => receivers.delete(socket));
  socket.on("message", (data, binary) => {
    for (const receiver of receivers) receiver.send(data, { binary });
  });
});
// backlog must be at least the load generator's connect window
http.listen({ port: Number(process.env.PORT || 3000), host: "0.0.0.0", backlog: 4096 });
