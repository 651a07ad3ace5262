// An adapter of version 7 beside ours: what it can ask of one socket, it is answered.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { test } from "node:test";
import { createClient } from "redis";
import { createAdapter } from "redis-adapter-7";
import { Server } from "socket.io";
import { Cluster, act, connect } from "./lib/cluster.mjs";

for (const specific of [false, true]) {
  test(`remoteJoin, remoteLeave, remoteDisconnect are answered (specific: ${specific})`, async (t) => {
    const cluster = await Cluster.start(t, ["sockeye"], { adapter: "classic", specific });
    const [publishing, subscribing] = [1, 2].map(() => createClient({ url: cluster.redis }));
    // Redis may end before they do.
    for (const made of [publishing, subscribing]) made.on("error", () => {});
    await Promise.all([publishing.connect(), subscribing.connect()]);
    const http = createServer();
    const adapter = createAdapter(publishing, subscribing, {
      requestsTimeout: 20_000,
      publishOnSpecificResponseChannel: specific,
    });
    const io = new Server(http, { adapter });
    t.after(async () => {
      await io.close();
      await Promise.all([publishing.close(), subscribing.close()]);
    });
    const [node] = cluster.nodes;
    await cluster.counted(node, 2, ["/"]);
    const socket = await connect(node);
    t.after(() => socket.disconnect());
    const rooms = async () => {
      const [fetched] = await act(node, { what: "fetch", to: [socket.id], local: true });
      return fetched.rooms;
    };
    const older = io.of("/").adapter;
    // Each resolves with the answer.
    await older.remoteJoin(socket.id, "a#b");
    assert.deepEqual(await rooms(), ["a#b", socket.id].sort());
    await older.remoteLeave(socket.id, "a#b");
    assert.deepEqual(await rooms(), [socket.id]);
    const gone = new Promise((resolve) => socket.once("disconnect", resolve));
    await older.remoteDisconnect(socket.id, false);
    assert.equal(await gone, "io server disconnect");
  });
}
