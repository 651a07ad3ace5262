// Page `recovery`: a client that lost its connection, and one that said goodbye.

import assert from "node:assert/strict";
import { test } from "node:test";
import { client, connect, next, serve, until } from "./lib/page.mjs";

for (const transports of [["polling"], ["websocket"]]) {
  test(`who lost the connection has the same socket, and what it missed (${transports})`, async (t) => {
    const page = await serve(t, "recovery");
    const anna = client(t, page, { transports });
    const heard = [];
    anna.on("welcome", () => heard.push("welcome"));
    anna.on("news", (text) => heard.push(text));
    await next(anna, "welcome");
    const { id } = anna;
    const bert = await connect(t, page);
    await bert.emitWithAck("publish", "one");
    await until("the first news", () => heard.includes("one"));

    anna.io.engine.close();
    await page.line(new RegExp(`^${id} is gone, recoverable: true$`));
    await bert.emitWithAck("publish", "two");
    await bert.emitWithAck("publish", "three");
    anna.connect();
    await page.line(new RegExp(`^${id} is back$`));
    await bert.emitWithAck("publish", "four");
    await until("the last news", () => heard.includes("four"));
    assert.equal(anna.recovered, true);
    assert.equal(anna.id, id);
    assert.deepEqual(heard, ["welcome", "one", "two", "three", "four"]);
  });
}

test("who said goodbye begins anew", async (t) => {
  const page = await serve(t, "recovery");
  const anna = client(t, page);
  await next(anna, "welcome");
  const { id } = anna;
  anna.disconnect();
  await page.line(new RegExp(`^${id} is gone, recoverable: false$`));
  anna.connect();
  await next(anna, "welcome");
  assert.equal(anna.recovered, false);
  assert.notEqual(anna.id, id);
});
