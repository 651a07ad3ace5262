// Page `rooms`: joining, leaving, being gone.

import assert from "node:assert/strict";
import { test } from "node:test";
import { connect, next, serve } from "./lib/page.mjs";

test("a room is told who joins and who leaves", async (t) => {
  const page = await serve(t, "rooms");
  const [anna, bert] = [await connect(t, page), await connect(t, page)];
  assert.equal(await anna.emitWithAck("join", "garden"), 1);

  const joined = next(anna, "joined");
  assert.equal(await bert.emitWithAck("join", "garden"), 2);
  assert.deepEqual(await joined, [{ room: "garden", who: bert.id, members: 2 }]);
  assert.deepEqual(await bert.emitWithAck("rooms"), [bert.id, "garden"]);

  const left = next(anna, "left");
  await bert.emitWithAck("leave", "garden");
  assert.deepEqual(await left, [{ room: "garden", who: bert.id }]);
  assert.deepEqual(await bert.emitWithAck("rooms"), [bert.id]);
});

test("however a connection ends, its rooms are told", async (t) => {
  const page = await serve(t, "rooms");
  const anna = await connect(t, page);
  await anna.emitWithAck("join", "garden");
  const ends = [
    (socket) => socket.disconnect(),
    (socket) => socket.io.engine.close(),
    (socket) => socket.io.engine.transport.ws.terminate(),
  ];
  for (const end of ends) {
    const bert = await connect(t, page, { transports: ["websocket"] });
    await bert.emitWithAck("join", "garden");
    const { id } = bert;
    const left = next(anna, "left");
    end(bert);
    assert.deepEqual(await left, [{ room: "garden", who: id }]);
  }
});
