// The official client: several listeners, once, off, catch-alls, middlewares of events, numbers as
// names, send. FEATURES B4, H 37, 51, 55.

import assert from "node:assert/strict";
import { test } from "node:test";
import { ask, askAll, collect, connect, MODES, next } from "../lib/client.mjs";
import { KIND, sockeyeOnly, useServer } from "../lib/server.mjs";

const server = await useServer();

/** What has come under `event` when everything before it is there. */
async function heard(socket, inbox) {
  await ask(socket, "echo", "sync");
  const all = [];
  while (inbox.size > 0) all.push(await inbox.next());
  return all;
}

/** The records of one kind, without what all of them have. */
async function recorded(mark, event) {
  const records = (await server.log(mark)).filter((record) => record.event === event);
  return records.map(({ mark: _, namespace: __, id: ___, event: ____, ...more }) => more);
}

for (const mode of Object.keys(MODES)) {
  test(`${mode}: several listeners in their order, once, off`, async (t) => {
    const socket = await connect(t, server, mode);
    const inbox = collect(socket, "heard");
    assert.equal(await ask(socket, "listen", "e", "first", "on"), 1);
    assert.equal(await ask(socket, "listen", "e", "second", "once"), 2);
    assert.equal(await ask(socket, "listen", "e", "third", "on"), 3);
    assert.equal(await ask(socket, "listen", "other", "other", "on"), 1);
    socket.emit("e", 1, { two: [3] });
    socket.emit("e");
    assert.deepEqual(await heard(socket, inbox), [
      ["first", 1, { two: [3] }],
      ["second", 1, { two: [3] }],
      ["third", 1, { two: [3] }],
      ["first"],
      ["third"],
    ]);
    assert.equal(await ask(socket, "unlisten", "e", "first"), 1);
    socket.emit("e");
    socket.emit("other");
    assert.deepEqual(await heard(socket, inbox), [["third"], ["other"]]);
    assert.equal(await ask(socket, "unlisten", "e", null), 0);
    socket.emit("e");
    assert.deepEqual(await heard(socket, inbox), []);
  });

  test(`${mode}: H55 of several listeners the first answers, once`, async (t) => {
    const socket = await connect(t, server, mode);
    for (const [word, how] of [["quiet", "on"], ["one", "answer"], ["two", "answer"]]) {
      await ask(socket, "listen", "question", word, how);
    }
    let count = 0;
    const answered = new Promise((resolve) => {
      socket.emit("question", 1, (answer) => {
        count += 1;
        resolve(answer);
      });
    });
    assert.equal(await answered, "one");
    await ask(socket, "echo", "sync");
    assert.equal(count, 1);
  });

  test(`${mode}: catch-alls see every event first, also what nobody listens to`, async (t) => {
    const socket = await connect(t, server, mode);
    const all = [];
    for (const event of ["saw", "judged", "heard"]) {
      socket.on(event, (...args) => all.push([event, ...args]));
    }
    await ask(socket, "listen", "e", "named", "on");
    await ask(socket, "judge", "e", "middleware", 1, null);
    await ask(socket, "watch", "in", "second", false);
    await ask(socket, "watch", "in", "first", true);
    await ask(socket, "echo", "sync");
    all.length = 0;
    socket.emit("unheard", 1);
    assert.deepEqual(await askAll(socket, "echo"), []);
    socket.emit("e", 2, "x");
    await ask(socket, "unwatch", "in", "second");
    await ask(socket, "unwatch", "in", null);
    // Node does not wait for the middleware of one event before it takes the next.
    const others = (event) => all.filter((saw) => saw[2] !== "echo" && saw[0] === event);
    while (others("heard").length < 1) await ask(socket, "echo", "sync");
    assert.deepEqual(all.filter(([event, , name]) => event === "saw" && name !== "echo"), [
      ["saw", "first", "unheard", 1],
      ["saw", "second", "unheard", 1],
      ["saw", "first", "e", 2, "x"],
      ["saw", "second", "e", 2, "x"],
      ["saw", "first", "unwatch", "in", "second"],
      ["saw", "second", "unwatch", "in", "second"],
      ["saw", "first", "unwatch", "in", null],
    ]);
    const order = all.filter((saw) => saw[2] === "e" || saw[0] !== "saw").map(([event]) => event);
    assert.deepEqual(order, ["saw", "saw", "judged", "heard"]);
  });

  test(`${mode}: H51 catch-alls of outgoing events see values, not placeholders`, async (t) => {
    const mark = `outgoing ${mode}`;
    const socket = await connect(t, server, mode, { auth: { mark } });
    const other = await connect(t, server, mode);
    await ask(socket, "watch", "out", "second", false);
    await ask(socket, "watch", "out", "first", true);
    const echoed = collect(socket, "echo");
    socket.emit("echo", "direct");
    // What another connection asks for may overtake it.
    await echoed.next("the echo");
    const everyone = { from: "server", event: "everyone", to: [socket.id, other.id] };
    await ask(other, "broadcast", everyone, Buffer.from([1, 2, 3]), { a: 1 });
    await ask(other, "broadcast", { ...everyone, event: "not here", to: [other.id] }, 1);
    // An acknowledgement is no event.
    await ask(socket, "echo", "sync");
    await ask(socket, "unwatch", "out", "first");
    socket.emit("emit-number", 7, "n");
    await ask(socket, "unwatch", "out", null);
    await ask(socket, "echo", "unseen");
    const event = (word, name, ...args) => ({ word, name, args });
    assert.deepEqual(await recorded(mark, "outgoing"), [
      event("first", "echo", "direct"),
      event("second", "echo", "direct"),
      event("first", "everyone", [1, 2, 3], { a: 1 }),
      event("second", "everyone", [1, 2, 3], { a: 1 }),
      event("second", "7", "n"),
    ]);
  });

  test(`${mode}: middlewares of events are a chain; what one refuses nobody hears`, async (t) => {
    const mark = `judge ${mode}`;
    const socket = await connect(t, server, mode, { auth: { mark } });
    const inboxes = { judged: collect(socket, "judged"), heard: collect(socket, "heard") };
    for (const event of ["good", "bad"]) await ask(socket, "listen", event, event, "on");
    await ask(socket, "judge", "good", "slow", 50, null);
    await ask(socket, "judge", "good", "quick", 0, null);
    await ask(socket, "judge", "bad", "refuses", 0, "not today");
    await ask(socket, "judge", "bad", "behind", 0, null);
    socket.emit("good", 1);
    assert.deepEqual(await inboxes.judged.next(), ["slow"]);
    assert.deepEqual(await inboxes.judged.next(), ["quick"]);
    assert.deepEqual(await inboxes.heard.next(), ["good", 1]);
    let answer;
    socket.emit("bad", 2, (error) => (answer = error));
    assert.deepEqual(await inboxes.judged.next(), ["refuses"]);
    await server.logged(mark, "error");
    await ask(socket, "echo", "sync");
    assert.deepEqual(await recorded(mark, "error"), [{ message: "not today" }]);
    assert.deepEqual([inboxes.judged.size, inboxes.heard.size], [0, 0]);
    // Node leaves the client waiting.
    const told = { status: "error", code: "refused", message: "not today" };
    assert.deepEqual(answer, KIND === "node" ? undefined : told);
  });

  test(
    `${mode}: events keep their order behind a middleware that takes its time`,
    sockeyeOnly("the next event overtakes one that a middleware of Node's holds up"),
    async (t) => {
      const socket = await connect(t, server, mode);
      const inbox = collect(socket, "heard");
      for (const event of ["slow", "quick"]) await ask(socket, "listen", event, event, "on");
      await ask(socket, "judge", "slow", "slow", 50, null);
      for (const event of ["slow", "quick", "slow", "quick"]) socket.emit(event);
      for (const event of ["slow", "quick", "slow", "quick"]) {
        assert.deepEqual(await inbox.next(), [event]);
      }
    },
  );

  test(`${mode}: H37 numbers are names, in and out; send is the event message`, async (t) => {
    const socket = await connect(t, server, mode);
    const seven = next(socket, "seven");
    socket.emit(7, "in");
    assert.deepEqual(await seven, ["in"]);
    const number = next(socket, 42);
    socket.emit("emit-number", 42, "out", Buffer.from([1]));
    assert.deepEqual(await number, ["out", Buffer.from([1])]);
    const message = next(socket, "message");
    socket.emit("send", "hello", { to: "you" });
    assert.deepEqual(await message, ["hello", { to: "you" }]);
  });

  test(
    `${mode}: of what is conflated in one turn the latest comes`,
    sockeyeOnly("Node has no emits that replace each other"),
    async (t) => {
      const socket = await connect(t, server, mode);
      const inbox = collect(socket, "conflated");
      const end = next(socket, "conflated-end");
      socket.emit("conflate", "key", 100);
      assert.deepEqual(await end, [100]);
      assert.deepEqual(await heard(socket, inbox), [[99]]);
    },
  );
}
