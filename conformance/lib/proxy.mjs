// A TCP proxy before a server, whose connections can be cut without a word.
// Knows nothing of what passes through.

import { connect, createServer } from "node:net";
import { within } from "./wait.mjs";

export class Proxy {
  #server;
  #pairs = new Set();

  /** A proxy before `server`, ended with the test. */
  static async before(t, server) {
    const proxy = new Proxy();
    proxy.#server = createServer((socket) => proxy.#forward(socket, server.port));
    await within("the proxy to listen", new Promise((resolve) => {
      proxy.#server.listen(0, "127.0.0.1", resolve);
    }));
    proxy.port = proxy.#server.address().port;
    t.after(() => {
      proxy.cut();
      proxy.#server.close();
    });
    return proxy;
  }

  /** As of a server: clients are given the one or the other. */
  get url() {
    return `http://127.0.0.1:${this.port}`;
  }

  /** Whether a request, or a message, has been passed on that nothing has come back for yet. */
  get isAwaited() {
    return [...this.#pairs].some((pair) => pair.isAwaited);
  }

  /** Cuts every connection on both sides. */
  cut() {
    for (const { near, far } of this.#pairs) {
      near.destroy();
      far.destroy();
    }
    this.#pairs.clear();
  }

  #forward(near, port) {
    const far = connect(port, "127.0.0.1");
    const pair = { near, far, isAwaited: false };
    this.#pairs.add(pair);
    near.on("data", () => (pair.isAwaited = true));
    far.on("data", () => (pair.isAwaited = false));
    near.pipe(far);
    far.pipe(near);
    const end = () => {
      near.destroy();
      far.destroy();
      this.#pairs.delete(pair);
    };
    for (const socket of [near, far]) socket.on("error", end).on("close", end);
  }
}
