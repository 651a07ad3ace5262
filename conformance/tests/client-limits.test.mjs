// The official client: message sizes around maxHttpBufferSize, in every mode.

import assert from "node:assert/strict";
import { test } from "node:test";
import { ask, askAll, collect, connect, disconnection, MODES, Witness } from "../lib/client.mjs";
import { useServer } from "../lib/server.mjs";

const LIMIT = 100_000;
const server = await useServer({ maxHttpBufferSize: LIMIT });

for (const mode of Object.keys(MODES)) {
  test(`${mode}: messages just below maxHttpBufferSize pass`, async (t) => {
    const socket = await connect(t, server, mode);
    const text = "é".repeat(LIMIT / 2 - 100);
    assert.equal(await ask(socket, "echo", text), text);
    // base64 over polling needs a third more.
    const bytes = Buffer.alloc(LIMIT / 2, 7);
    assert.deepEqual(await ask(socket, "echo", bytes), bytes);
  });

  for (const [kind, make] of [["text", (n) => "x".repeat(n)], ["binary", (n) => Buffer.alloc(n)]]) {
    test(`${mode}: a ${kind} message above maxHttpBufferSize ends only its sender`, async (t) => {
      const witness = await Witness.of(t, server);
      const socket = await connect(t, server, mode);
      const reason = disconnection(socket);
      socket.emit("echo", make(LIMIT + 1));
      assert.match(await reason, /^transport (error|close)$/);
      await witness.check();
    });
  }

  test(`${mode}: the limit is for what comes in, not for what goes out`, async (t) => {
    const socket = await connect(t, server, mode);
    const streamed = collect(socket, "part");
    await askAll(socket, "stream", "part", 10, 2 * LIMIT);
    for (let i = 0; i < 10; i += 1) {
      const [index, pad] = await streamed.next();
      assert.equal(index, i);
      assert.equal(pad.length, 2 * LIMIT);
    }
  });
}

test("many small messages in one turn are split below maxPayload by the client", async (t) => {
  const socket = await connect(t, server, "polling");
  const text = "x".repeat(1_000);
  const answers = Array.from({ length: 400 }, () => ask(socket, "echo", text));
  assert.equal((await Promise.all(answers)).length, 400);
});
