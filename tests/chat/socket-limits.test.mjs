// What is refused, with which code, and that nobody else notices.

import assert from "node:assert/strict";
import { before, test } from "node:test";

import { Client, until } from "./lib/client.mjs";
import { Server, wholeFile } from "./lib/server.mjs";

const file = wholeFile();
let server;
before(async () => {
  server = await Server.start(file);
});

for (const [what, room] of [
  ["empty", ""],
  ["only spaces", "  \u00a0 "],
  ["of 65 characters", "é".repeat(65)],
  ["with a line break", "a\nb"],
  ["with a NUL", "a\u0000"],
  ["with a C1 control character", "a\u0085b"],
  ["nothing to see", "\u200b \u200d\ufe0f"],
  ["with a zero-width space", "lobby\u200b"],
  ["with a character that turns the text round", "a\u202eb"],
  ["with a line separator", "a\u2028b"],
  ["in the form of a connection's id", "abcdefghij0123456-_X"],
]) {
  test(`a room's name that is ${what} is refused by every event`, async (t) => {
    const ann = await Client.connect(t, server, "ann");
    await ann.refused("bad_room", "chat:join", room);
    await ann.refused("bad_room", "chat:message", { room, text: "x" });
    await ann.refused("bad_room", "chat:typing", room);
    await ann.refused("bad_room", "chat:leave", room);
  });
}

test("nobody joins the room of somebody's id", async (t) => {
  const [ann, ben] = [
    await Client.connect(t, server, "ann"),
    await Client.connect(t, server, "ben"),
  ];
  await ben.refused("bad_room", "chat:join", ann.socket.id);
  await ben.refused("bad_room", "chat:message", { room: ann.socket.id, text: "psst" });
  await ben.refused("bad_room", "chat:message", { room: ben.socket.id, text: "to me" });
  await ann.caughtUp();
  assert.deepEqual(ann.all("chat:message"), []);
});

test("64 characters are a room's name, whatever they take in bytes or UTF-16", async (t) => {
  const ann = await Client.connect(t, server, "ann");
  for (const name of ["x".repeat(64), "é".repeat(64), "🐟".repeat(64)])
    assert.deepEqual((await ann.joins(name)).members, ["ann"]);
  await ann.refused("bad_room", "chat:join", "🐟".repeat(65));
});

test("joiners inside words and emoji belong to a room's name", async (t) => {
  const ann = await Client.connect(t, server, "ann");
  for (const name of ["\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "👩\u200d👧", "❤\ufe0f"])
    assert.deepEqual((await ann.joins(name)).members, ["ann"]);
});

test("4,000 characters are a text, whatever they take in bytes or UTF-16; one more or none is not", async (t) => {
  const ann = await Client.join(t, server, "ann", "texts");
  for (const text of ["x".repeat(4000), "日".repeat(4000), "🐟".repeat(4000), "x"]) {
    await ann.says("texts", text);
    assert.equal((await ann.next("chat:message")).text, text);
  }
  for (const text of ["x".repeat(4001), "🐟".repeat(4001), "", "   \n\t ", "\u200b"])
    await ann.refused("bad_text", "chat:message", { room: "texts", text });
  await ann.caughtUp();
  assert.deepEqual(ann.all("chat:message"), []);
});

test("the limits are settings", async (t) => {
  const flags = ["--text-characters-max", "3", "--room-characters-max", "2", "--rooms-max", "2"];
  const small = await Server.start(t, { flags });
  const ann = await Client.join(t, small, "ann", ["é1", "é2"]);
  assert.match((await ann.refused("bad_room", "chat:join", "abc")).message, /1 to 2 characters/);
  assert.match(
    (await ann.refused("bad_text", "chat:message", { room: "é1", text: "abcd" })).message,
    /1 to 3 characters/,
  );
  assert.match((await ann.refused("too_many_rooms", "chat:join", "é3")).message, /2 rooms/);
});

test("a key has 1 to 64 characters", async (t) => {
  const ann = await Client.join(t, server, "ann", "keys");
  for (const key of ["", "x".repeat(65)])
    await ann.refused("bad_key", "chat:message", { room: "keys", text: "x", key });
  await ann.refused("bad_arguments", "chat:message", { room: "keys", text: "x", key: 1 });
  await ann.says("keys", "x", { key: "x".repeat(64) });
  await ann.says("keys", "x", { key: null });
});

test("only members may send, type and leave", async (t) => {
  const [ann, ben] = [
    await Client.join(t, server, "ann", "members"),
    await Client.join(t, server, "ben", "elsewhere"),
  ];
  await ben.refused("not_a_member", "chat:message", { room: "members", text: "x" });
  await ben.refused("not_a_member", "chat:message", { room: "Members", text: "x" });
  await ben.refused("not_a_member", "chat:typing", "members");
  await ben.refused("not_a_member", "chat:leave", "members");
  // One connection of a user does not speak for the other.
  const other = await Client.connect(t, server, "ann");
  await other.refused("not_a_member", "chat:message", { room: "members", text: "x" });
  await ann.caughtUp();
  for (const event of ["chat:message", "chat:typing", "chat:userLeft"])
    assert.deepEqual(ann.all(event), []);
  assert.deepEqual((await ann.joins("members")).history, []);
});

test("50 rooms are a connection's most; leaving one makes room", async (t) => {
  const ann = await Client.connect(t, server, "ann");
  const rooms = Array.from({ length: 50 }, (_, i) => `room ${i}`);
  for (const room of rooms) await ann.joins(room);
  const refused = await ann.refused("too_many_rooms", "chat:join", "one more");
  assert.match(refused.message, /50 rooms/);
  assert.equal((await ann.joins("room 7")).status, "ok", "it is in that one already");
  await ann.ask("chat:leave", "room 7");
  await ann.joins("one more");
  // Each connection for itself.
  const other = await Client.connect(t, server, "ann");
  await other.joins("yet another");
});

test("a burst of five seconds' messages passes, then it is too fast, with the time to wait; others are not held up", async (t) => {
  const slow = await Server.start(t, { flags: ["--messages-per-second", "1"] });
  const [ann, ben] = [
    await Client.join(t, slow, "ann", "fast"),
    await Client.join(t, slow, "ben", "fast"),
  ];
  // The limit is the user's: a second connection has no allowance of its own.
  const other = await Client.join(t, slow, "ann", "fast");
  const begun = Date.now();
  const sends = (one, name) =>
    Array.from({ length: 10 }, (_, i) =>
      one.ask("chat:message", { room: "fast", text: `${name} ${i}` }),
    );
  const acks = [];
  // However long twenty take: they are refused once they come faster than the limit allows.
  await until(async () => {
    acks.push(...(await Promise.all([...sends(ann, "ann"), ...sends(other, "other")])));
    return acks.some((ack) => ack.status !== "ok");
  }, "it is too fast");
  const sent = acks.filter((ack) => ack.status === "ok");
  const refused = acks.filter((ack) => ack.status !== "ok");
  const most = 5 + Math.ceil((Date.now() - begun) / 1000);
  assert.ok(sent.length >= 5 && sent.length <= most, `${sent.length} of at most ${most}`);
  for (const { status, code, message, data } of refused) {
    assert.deepEqual([status, code], ["error", "too_fast"]);
    assert.ok(message.length > 0);
    assert.ok(
      Number.isInteger(data.retryAfterMs) && data.retryAfterMs > 0 && data.retryAfterMs <= 1000,
      JSON.stringify(data),
    );
  }
  await ben.says("fast", "ben is not held up");
  // Whoever waits as long as it was told is let in.
  const waited = Date.now() + refused.at(-1).data.retryAfterMs;
  await until(() => Date.now() > waited, "the time to wait");
  const id = await ann.says("fast", "after the wait");
  await ben.caughtUp();
  const heard = ben
    .all("chat:message", (message) => message.username === "ann")
    .map((message) => message.id);
  assert.deepEqual(
    heard.sort(),
    [...sent.map((ack) => ack.id), id].sort(),
    "what was refused was told to nobody",
  );
});

test("joins, typing, restores and connections have a limit of their own", async (t) => {
  const slow = await Server.start(t, {
    flags: ["--events-per-second", "1", "--messages-per-second", "100"],
  });
  const begun = Date.now();
  const ann = await Client.join(t, slow, "ann", "room");
  // The connection and the join are two of five; a slow machine is given one more a second.
  let passed = 2;
  const tooFast = ({ code, data }) => {
    assert.equal(code, "too_fast");
    assert.ok(data.retryAfterMs > 0 && data.retryAfterMs <= 1000);
  };
  // Twenty at once leave nothing for what comes right behind them.
  const spend = () => Array.from({ length: 20 }, () => ann.ask("chat:typing", "room"));
  const first = await Promise.all(spend());
  assert.deepEqual(
    first.slice(0, 3).map((ack) => ack.status),
    Array(3).fill("ok"),
  );
  for (const act of [
    () => ann.ask("chat:join", "room"),
    () => ann.ask("session:restore", "x"),
    async () => {
      const next = new Client(t, slow, "ann");
      const { event, args } = await next.until(() => next.heard[0]);
      if (event === "session:created") return { status: "ok" };
      assert.equal(args[0].message, "Too many connections");
      const { code, ...data } = args[0].data;
      return { code, data };
    },
  ])
    await until(async () => {
      const acks = await Promise.all([...spend(), act()]);
      const limited = acks.filter(({ code }) => code === "too_fast");
      limited.forEach(tooFast);
      passed += acks.length - limited.length;
      return acks.at(-1).code === "too_fast";
    }, "it is too fast");
  passed += first.filter(({ status }) => status === "ok").length;
  const most = 5 + Math.ceil((Date.now() - begun) / 1000);
  assert.ok(passed <= most, `${passed} of at most ${most}`);
  await ann.says("room", "talking goes on");
  await Client.join(t, slow, "ben", "room");
});

test("wrong arguments are refused, and the connection goes on", async (t) => {
  const ann = await Client.join(t, server, "ann", "types");
  for (const wrong of [undefined, null, 5, true, {}, ["types"], Buffer.from("types")]) {
    const args = wrong === undefined ? [] : [wrong];
    for (const event of ["chat:join", "chat:typing", "chat:leave", "chat:message"])
      await ann.refused("bad_arguments", event, ...args);
    await ann.refused("session_rejected", "session:restore", ...args);
  }
  for (const wrong of [
    "types",
    { room: "types" },
    { text: "x" },
    { room: "types", text: 5 },
    { room: 5, text: "x" },
    { room: "types", text: Buffer.from("x") },
  ]) {
    await ann.refused("bad_arguments", "chat:message", wrong);
  }
  assert.equal(
    (await ann.ask("chat:typing", "types", "and", "more")).status,
    "ok",
    "what is too much is passed over",
  );
  assert.ok(await ann.says("types", "still here", { more: 1 }));
});

test("an event that there is not is passed over", async (t) => {
  const ann = await Client.join(t, server, "ann", "unknown");
  ann.socket.emit("chat:unknown", "x");
  ann.socket.emit("session:created", { sessionId: "x" });
  assert.ok(await ann.says("unknown", "still here"));
});
