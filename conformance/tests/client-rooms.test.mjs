// The official client: rooms and the broadcast patterns, over a crowd of mixed transports.

import assert from "node:assert/strict";
import { test } from "node:test";
import { ask, collect, connect, MODES } from "../lib/client.mjs";
import { useServer } from "../lib/server.mjs";

const server = await useServer();

for (const mode of Object.keys(MODES)) {
  test(`${mode}: join, leave and list rooms`, async (t) => {
    const socket = await connect(t, server, mode);
    const own = socket.id;
    const rooms = (...names) => [own, ...names].sort();
    assert.deepEqual(await ask(socket, "rooms"), rooms());
    assert.deepEqual(await ask(socket, "join", "a"), rooms("a"));
    assert.deepEqual(await ask(socket, "join", ["b", "ç 😀", "a"]), rooms("a", "b", "ç 😀"));
    assert.deepEqual(await ask(socket, "leave", "a"), rooms("b", "ç 😀"));
    assert.deepEqual(await ask(socket, "leave", "never joined"), rooms("b", "ç 😀"));
    assert.deepEqual(await ask(socket, "leave", own), ["b", "ç 😀"].sort());
  });

  test(`${mode}: broadcast.emit reaches everyone else of the namespace`, async (t) => {
    const crowd = await Crowd.of(t, mode, [[], [], []]);
    await crowd.broadcast({ from: "socket" }, [0, 1, 1]);
  });

  test(`${mode}: socket.to(room) reaches the room without the sender`, async (t) => {
    const crowd = await Crowd.of(t, mode, [["a"], ["a"], ["b"]]);
    await crowd.broadcast({ from: "socket", to: ["a"] }, [0, 1, 0]);
  });

  test(`${mode}: io.to(room) reaches the room with the sender`, async (t) => {
    const crowd = await Crowd.of(t, mode, [["a"], ["a"], ["b"]]);
    await crowd.broadcast({ from: "server", to: ["a"] }, [1, 1, 0]);
  });

  test(`${mode}: several rooms are a union, each socket is reached once`, async (t) => {
    const crowd = await Crowd.of(t, mode, [["a", "b"], ["a", "b", "c"], ["c"], []]);
    await crowd.broadcast({ from: "server", to: ["a", "b", "c"] }, [1, 1, 1, 0]);
    await crowd.broadcast({ from: "socket", to: ["a", "c"] }, [0, 1, 1, 0]);
  });

  test(`${mode}: one socket is reached by its id`, async (t) => {
    const crowd = await Crowd.of(t, mode, [[], [], []]);
    await crowd.broadcast({ from: "server", to: [crowd.sockets[1].id] }, [0, 1, 0]);
    await crowd.broadcast({ from: "socket", to: [crowd.sockets[2].id] }, [0, 0, 1]);
    await crowd.broadcast({ from: "socket", to: [crowd.sockets[0].id] }, [0, 0, 0]);
  });

  test(`${mode}: io.emit reaches everyone of the namespace`, async (t) => {
    const crowd = await Crowd.of(t, mode, [[], ["a"], ["b"]]);
    await crowd.broadcast({ from: "server" }, [1, 1, 1]);
  });

  test(`${mode}: except wins over to`, async (t) => {
    const crowd = await Crowd.of(t, mode, [["a"], ["a", "out"], ["a", "b"], ["b"]]);
    await crowd.broadcast({ from: "server", to: ["a"], except: ["out"] }, [1, 0, 1, 0]);
    await crowd.broadcast({ from: "server", except: ["b"] }, [1, 1, 0, 0]);
    const own = [crowd.sockets[0].id];
    await crowd.broadcast({ from: "server", to: ["a"], except: own }, [0, 1, 1, 0]);
    await crowd.broadcast({ from: "socket", to: ["a"], except: ["a"] }, [0, 0, 0, 0]);
  });

  test(`${mode}: an empty room reaches nobody`, async (t) => {
    const crowd = await Crowd.of(t, mode, [[], []]);
    await crowd.broadcast({ from: "server", to: ["nobody here"] }, [0, 0]);
  });

  test(`${mode}: a room is left by leaving it`, async (t) => {
    const crowd = await Crowd.of(t, mode, [["a"], ["a"]]);
    await ask(crowd.sockets[1], "leave", "a");
    await crowd.broadcast({ from: "server", to: ["a"] }, [1, 0]);
  });

  test(`${mode}: a broadcast carries binary to everyone`, async (t) => {
    const crowd = await Crowd.of(t, mode, [["a"], ["a"], ["a"]]);
    const args = [{ deep: [Buffer.from([1, 2, 3])] }, "é", Buffer.alloc(70_000, 9)];
    await crowd.broadcast({ from: "server", to: ["a"] }, [1, 1, 1], args);
  });

  test(`${mode}: volatile broadcasts reach clients that keep up`, async (t) => {
    const crowd = await Crowd.of(t, "websocket", [["a"], ["a"], []]);
    await crowd.broadcast({ from: "server", to: ["a"], volatile: true }, [1, 1, 0]);
  });

  test(`${mode}: broadcasts keep their order for every receiver`, async (t) => {
    const crowd = await Crowd.of(t, mode, [["a"], ["a"]]);
    const spec = { from: "server", to: ["a"], event: "news" };
    const sent = Array.from({ length: 200 }, (_, i) => i);
    for (const i of sent) crowd.sockets[0].emit("broadcast", spec, i);
    for (const inbox of crowd.inboxes) {
      for (const i of sent) assert.deepEqual(await inbox.next(), [i]);
    }
  });
}

/** Clients in a namespace; the first is in the given mode, the others mix transports. */
class Crowd {
  static async of(t, mode, roomsOfEach) {
    const crowd = new Crowd();
    const modes = [mode, "websocket", "polling", "upgrade"];
    // Tests of this file run in turn; nobody else is in the namespace meanwhile.
    crowd.sockets = await Promise.all(
      roomsOfEach.map((_, i) => connect(t, server, modes[i], { namespace: "/chat" })),
    );
    crowd.inboxes = crowd.sockets.map((socket) => collect(socket, "news"));
    await Promise.all(roomsOfEach.map((rooms, i) => ask(crowd.sockets[i], "join", rooms)));
    return crowd;
  }

  /** The first client causes a broadcast; `wanted[i]` is how often client `i` gets it. */
  async broadcast(spec, wanted, args = ["hello", 1]) {
    await ask(this.sockets[0], "broadcast", { event: "news", ...spec }, ...args);
    // The barrier is sent after the broadcast to each socket, so whatever was to come came before.
    await Promise.all(this.sockets.map((socket) => this.#barrier(socket)));
    const sizes = this.inboxes.map((inbox) => inbox.size);
    assert.deepEqual(sizes, wanted, JSON.stringify(spec));
    for (const inbox of this.inboxes) {
      while (inbox.size > 0) assert.deepEqual(await inbox.next(), args);
    }
  }

  /** An event from the server to this socket, which keeps its place behind earlier events. */
  async #barrier(socket) {
    assert.equal(await ask(socket, "echo", "barrier"), "barrier");
  }
}
