// What the page keeps of a room and of its own messages, without a page.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Outgoing, againMs } from "../../crates/sockeye-chat/web/static/outgoing.js";
import { Timeline } from "../../crates/sockeye-chat/web/static/timeline.js";

const shown = (timeline) => timeline.entries.map(({ message, line }) => message?.id ?? line.text);

test("messages stand in the order of their ids, lines where they came", () => {
  const timeline = new Timeline();
  for (const id of ["8", "9", "10"])
    assert.equal(timeline.add({ id }), timeline.entries.length - 1);
  timeline.addLine({ text: "ben left" });
  assert.equal(timeline.add({ id: "9" }), -1, "it is there");
  // After an interruption: one came live, and then the history with those before it.
  timeline.add({ id: "14" });
  timeline.addLine({ text: "ben joined" });
  assert.equal(timeline.add({ id: "12" }), 4);
  assert.equal(timeline.add({ id: "13" }), 5);
  assert.deepEqual(shown(timeline), ["8", "9", "10", "ben left", "12", "13", "14", "ben joined"]);
});

test("a line can stand before what is newer than a message", () => {
  const timeline = new Timeline();
  assert.equal(timeline.newest, null);
  for (const id of ["8", "12"]) timeline.add({ id });
  timeline.addLine({ text: "ben left" });
  assert.equal(timeline.newest, "12");
  assert.equal(timeline.addLine({ text: "a gap" }, "8"), 1);
  timeline.add({ id: "11" });
  assert.equal(timeline.addLine({ text: "at the end" }, "12"), 5);
  assert.deepEqual(shown(timeline), ["8", "a gap", "11", "12", "ben left", "at the end"]);
});

test("any order of arrival gives one order", () => {
  for (let round = 0; round < 200; round += 1) {
    const timeline = new Timeline();
    const ids = Array.from({ length: 30 }, (_, i) => String(i + 95));
    const arrivals = [...ids, ...ids].sort(() => Math.random() - 0.5);
    for (const id of arrivals) timeline.add({ id });
    assert.deepEqual(shown(timeline), ids);
  }
});

test("the last line can be taken away, and the oldest entries forgotten", () => {
  const timeline = new Timeline();
  timeline.add({ id: "1" });
  timeline.addLine({ text: "ben left" });
  assert.equal(
    timeline.undoLine((line) => line.text === "ann left"),
    -1,
  );
  assert.equal(
    timeline.undoLine((line) => line.text === "ben left"),
    1,
  );
  assert.equal(
    timeline.undoLine(() => true),
    -1,
    "a message is no line",
  );
  for (const id of ["2", "3"]) timeline.add({ id });
  assert.equal(timeline.trim(2), 1);
  assert.deepEqual(shown(timeline), ["2", "3"]);
  assert.equal(timeline.has("1"), false);
  assert.equal(timeline.trim(2), 0);
});

// A server that answers as it is told, and remembers by the key.
function outgoing(answers) {
  const asked = [];
  const state = { isReady: true };
  const queue = new Outgoing({
    ask: async (message) => {
      asked.push(message);
      const answer = answers.shift() ?? { status: "ok" };
      if (answer instanceof Error) throw answer;
      return answer;
    },
    isReady: () => state.isReady,
    changed: () => {},
  });
  return { queue, asked, state, texts: () => queue.of("room").map((one) => one.text) };
}

const settled = () => new Promise((resolve) => setImmediate(resolve));

test("messages leave one after the other, and stay until they are acknowledged", async () => {
  const { queue, asked, state, texts } = outgoing([{ status: "ok" }, new Error("cut")]);
  state.isReady = false;
  for (const text of ["one", "two", "three"]) queue.send("room", text);
  await settled();
  assert.deepEqual(asked, []);
  state.isReady = true;
  queue.resume();
  await settled();
  assert.deepEqual(
    texts(),
    ["two", "three"],
    "the second had no answer: it waits for another connection",
  );
  queue.resume();
  await settled();
  assert.deepEqual(texts(), []);
  assert.deepEqual(
    asked.map((message) => message.text),
    ["one", "two", "two", "three"],
  );
  assert.equal(asked[1].key, asked[2].key, "it is the same message");
  assert.equal(new Set(asked.map((message) => message.key)).size, 3);
});

test("what is refused waits for its author, the others go on", async () => {
  const { queue, asked, texts } = outgoing([{ status: "error", message: "no" }, { status: "ok" }]);
  queue.send("room", "bad");
  queue.send("room", "good");
  await settled();
  assert.deepEqual(texts(), ["bad"]);
  const [bad] = queue.of("room");
  assert.equal(bad.error, "no");
  queue.retry(bad);
  await settled();
  assert.deepEqual(texts(), []);
  assert.equal(asked.length, 3);
});

test("what no server takes is not sent: it would end every connection; the others go on", async () => {
  const { queue, asked, texts } = outgoing([]);
  // Characters are counted as the server counts them.
  const longest = "\u{1f41f}".repeat(100_000);
  queue.send("room", `${longest}!`);
  queue.send("room", longest);
  await settled();
  assert.deepEqual(texts(), [`${longest}!`]);
  const [bad] = queue.of("room");
  assert.match(bad.error, /too long/);
  queue.retry(bad);
  await settled();
  assert.match(bad.error, /too long/);
  assert.deepEqual(
    asked.map((message) => message.text),
    [longest],
  );
});

test("what has arrived before its acknowledgement is not shown twice, and is sent again if that is lost", async () => {
  const { queue, asked, state, texts } = outgoing([new Error("cut")]);
  state.isReady = false;
  queue.send("room", "same");
  queue.send("room", "same");
  queue.arrived("room", "same");
  assert.deepEqual(texts(), ["same"], "one of the two");
  queue.arrived("elsewhere", "same");
  assert.deepEqual(texts(), ["same"]);
  assert.equal(queue.size, 2);
  state.isReady = true;
  queue.resume();
  await settled();
  queue.resume();
  await settled();
  assert.equal(queue.size, 0);
  assert.equal(asked.length, 3);
});

test("too fast is waited for", async () => {
  const { queue, asked } = outgoing([
    { status: "error", code: "too_fast", data: { retryAfterMs: 1 } },
  ]);
  queue.send("room", "one");
  queue.send("room", "two");
  while (queue.size) await settled();
  assert.deepEqual(
    asked.map((message) => message.text),
    ["one", "one", "two"],
  );
});

test("a server that fails is asked again, later each time, and nothing is refused by that", async () => {
  const { queue, asked } = outgoing([{ status: "error", code: "internal", message: "It failed." }]);
  queue.send("room", "one");
  while (queue.size) {
    assert.ok(queue.of("room").every(({ error }) => error === null));
    await settled();
  }
  assert.deepEqual(
    asked.map(({ key }) => key === asked[0].key),
    [true, true],
  );
  const failed = { code: "internal" };
  const waits = [0, 1, 2, 9].map((failures) => againMs(failed, failures));
  assert.deepEqual(waits, [250, 500, 1000, 5000]);
  for (const answer of [{ status: "ok" }, { code: "bad_text" }]) assert.equal(againMs(answer, 3), null);
});

test("what is discarded, or of a room that was left, is not sent", async () => {
  const { queue, asked, state } = outgoing([]);
  state.isReady = false;
  for (const room of ["room", "room", "left"]) queue.send(room, room);
  queue.discard(queue.of("room")[0]);
  queue.forget("left");
  state.isReady = true;
  queue.resume();
  await settled();
  assert.deepEqual(
    asked.map((message) => message.room),
    ["room"],
  );
});
