// A network between clients and the server that can break: a TCP proxy that cuts and swallows.

import { connect, createServer } from "node:net";

export class Proxy {
  #pairs = new Set();
  #isDown = false;
  #holds = null;
  #bytesPerSecond = Infinity;

  // Stands between `port` of this machine and whoever connects to its own `url`.
  static async start(t, port) {
    const proxy = new Proxy();
    const listener = createServer((client) => proxy.#accept(client, port));
    await new Promise((resolve) => listener.listen(0, "127.0.0.1", resolve));
    proxy.port = listener.address().port;
    proxy.url = `http://127.0.0.1:${proxy.port}`;
    t.after(() => {
      proxy.cut();
      listener.close();
    });
    return proxy;
  }

  #accept(client, port) {
    if (this.#isDown) return client.destroy();
    const server = connect(port, "127.0.0.1");
    const pair = { client, server, swallows: false, held: null };
    this.#pairs.add(pair);
    client.on("data", (bytes) => {
      if (this.#holds && bytes.includes(this.#holds)) pair.held ??= [];
      server.write(bytes);
    });
    server.on("data", (bytes) => {
      if (pair.held) pair.held.push(bytes);
      else if (!pair.swallows) client.write(bytes);
      if (this.#bytesPerSecond === Infinity) return;
      server.pause();
      setTimeout(() => server.resume(), (bytes.length / this.#bytesPerSecond) * 1000);
    });
    for (const one of [client, server]) {
      one.on("error", () => {});
      one.on("close", () => {
        this.#pairs.delete(pair);
        client.destroy();
        server.destroy();
      });
    }
    return undefined;
  }

  // Cuts every connection, and those that come, until `restore`.
  cut() {
    this.#isDown = true;
    for (const { client, server } of this.#pairs) {
      client.destroy();
      server.destroy();
    }
  }

  restore() {
    this.#isDown = false;
  }

  // From now on no connection gets more from the server.
  slow(bytesPerSecond) {
    this.#bytesPerSecond = bytesPerSecond;
  }

  // From now on holds back the answers to requests with these words in them; with `null`, no more
  // of them.
  hold(words) {
    this.#holds = words;
  }

  // How many answers have come and are held back.
  get held() {
    return [...this.#pairs].filter((pair) => pair.held?.length).length;
  }

  // Lets go of what was held back.
  release() {
    for (const pair of this.#pairs) {
      for (const bytes of pair.held ?? []) pair.client.write(bytes);
      pair.held = null;
    }
  }

  // Connections that there are stay open, and what the server sends over them is lost without a
  // word.
  swallow() {
    for (const pair of this.#pairs) pair.swallows = true;
  }
}
