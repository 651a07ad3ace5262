// Ports of this machine: free ones, and whether somebody listens.

import { createSocket } from "node:dgram";
import { connect, createServer } from "node:net";

// None of those that the system gives to connections, or to whoever asks for any.
const [FIRST, END] = [10_000, 32_000];

// A port that is this process's own until it ends, also while nobody listens there: who asks in
// another gets another. UDP's port of the same number says that it is taken.
export async function freePort() {
  for (;;) {
    const port = FIRST + Math.floor(Math.random() * (END - FIRST));
    if ((await claims(port)) && (await isFree(port))) return port;
  }
}

function claims(port) {
  return new Promise((resolve) => {
    const claim = createSocket("udp4").unref();
    claim.once("error", () => resolve(false));
    claim.bind({ port, address: "127.0.0.1", exclusive: true }, () => resolve(true));
  });
}

function isFree(port) {
  return new Promise((resolve) => {
    const listener = createServer();
    listener.once("error", () => resolve(false));
    listener.listen(port, "127.0.0.1", () => listener.close(() => resolve(true)));
  });
}

export function isListening(port) {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    socket.once("connect", () => resolve(socket.destroy() && true));
    socket.once("error", () => resolve(false));
  });
}
