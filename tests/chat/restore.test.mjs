// session:restore: a connection that was lost has its rooms back.

import assert from "node:assert/strict";
import { before, test } from "node:test";

import { Client, until } from "./lib/client.mjs";
import { Server, wholeFile } from "./lib/server.mjs";

const file = wholeFile();
let server;
before(async () => {
  server = await Server.start(file);
});

async function restores(client, session) {
  const ack = await client.ask("session:restore", session);
  const restored = await client.next("session:restored");
  assert.deepEqual(ack, { status: "ok", rooms: restored.rooms });
  return restored.rooms.sort();
}

// Refused, and nothing else.
async function isRejected(client, session) {
  await client.refused("session_rejected", "session:restore", session);
  await client.next("session:rejected");
  assert.deepEqual(client.all("session:restored"), []);
}

for (const [how, lose] of [
  ["cut off", (client) => client.cut()],
  ["closed", (client) => client.socket.disconnect()],
]) {
  test(`a connection that was ${how} has its rooms back, once`, async (t) => {
    const rooms = [`a ${how}`, `b ${how}`];
    const ann = await Client.join(t, server, "ann", [...rooms, `left ${how}`]);
    await ann.ask("chat:leave", `left ${how}`);
    const ben = await Client.join(t, server, "ben", rooms);
    lose(ann);
    await ben.until(() => ben.all("chat:userLeft").length === 2);
    const again = await Client.connect(t, server, "ann");
    assert.notEqual(again.session, ann.session);
    assert.deepEqual(await restores(again, ann.session), rooms);
    await ben.until(() => ben.all("chat:userJoined").length === 2);
    // It is in them: it hears and may send.
    await ben.says(rooms[0], "welcome back");
    assert.equal((await again.next("chat:message")).text, "welcome back");
    await again.says(rooms[1], "thanks");
    await isRejected(again, ann.session);
    await isRejected(await Client.connect(t, server, "ann"), ann.session);
    // What it has back it can have back again.
    again.cut();
    const third = await Client.connect(t, server, "ann");
    await until(async () => (await ben.joins(rooms[0])).members.length === 1, "ann has left");
    assert.deepEqual(await restores(third, again.session), rooms);
  });
}

test("another user's, unknown and empty ids are rejected, and another user's stays good", async (t) => {
  const ann = await Client.join(t, server, "ann", "mine");
  ann.cut();
  const eve = await Client.connect(t, server, "eve");
  for (const id of [ann.session, "x".repeat(43), "", eve.session]) await isRejected(eve, id);
  await eve.refused("not_a_member", "chat:message", { room: "mine", text: "x" });
  const again = await Client.connect(t, server, "ann");
  assert.deepEqual(await restores(again, ann.session), ["mine"]);
});

test("a session without rooms is one too", async (t) => {
  const ann = await Client.connect(t, server, "ann");
  ann.cut();
  assert.deepEqual(await restores(await Client.connect(t, server, "ann"), ann.session), []);
});

test("while the old connection still lives the new one takes its rooms, and nobody hears of a coming or going", async (t) => {
  const [ann, ben] = [
    await Client.join(t, server, "ann", "live"),
    await Client.join(t, server, "ben", "live"),
  ];
  const again = await Client.connect(t, server, "ann");
  assert.deepEqual(await restores(again, ann.session), ["live"]);
  // Both are there until the server finds out that one is gone.
  await ben.says("live", "to both");
  for (const one of [ann, again]) assert.equal((await one.next("chat:message")).text, "to both");
  ann.cut();
  const third = await Client.connect(t, server, "ann");
  await isRejected(third, ann.session);
  await ben.caughtUp();
  assert.deepEqual(ben.all("chat:userJoined"), []);
  assert.deepEqual(ben.all("chat:userLeft"), []);
  again.cut();
  assert.deepEqual(await ben.next("chat:userLeft"), { username: "ann", room: "live" });
});

test("rooms that were joined before restoring stay, and come back too", async (t) => {
  const ann = await Client.join(t, server, "ann", ["one", "both"]);
  ann.cut();
  const again = await Client.join(t, server, "ann", ["both", "two"]);
  assert.deepEqual(await restores(again, ann.session), ["both", "one"]);
  again.cut();
  const third = await Client.connect(t, server, "ann");
  assert.deepEqual(await restores(third, again.session), ["both", "one", "two"]);
});

test("without an ack it is told all the same", async (t) => {
  const ann = await Client.join(t, server, "ann", "quiet");
  ann.cut();
  const again = await Client.connect(t, server, "ann");
  again.socket.emit("session:restore", ann.session);
  assert.deepEqual((await again.next("session:restored")).rooms, ["quiet"]);
  again.socket.emit("session:restore", ann.session);
  await again.next("session:rejected");
});

test("over the limit of rooms only so many come back", async (t) => {
  const small = await Server.start(t, { flags: ["--rooms-max", "3"] });
  const ann = await Client.join(t, small, "ann", ["a", "b", "c"]);
  ann.cut();
  const again = await Client.join(t, small, "ann", ["d", "e"]);
  const rooms = await restores(again, ann.session);
  assert.equal(rooms.length, 1);
  again.cut();
  const third = await Client.connect(t, small, "ann");
  assert.deepEqual(await restores(third, again.session), [...rooms, "d", "e"]);
});

for (const signal of ["SIGKILL", "SIGTERM"]) {
  test(`after ${signal} and a new start the rooms come back`, async (t) => {
    const own = await Server.start(t);
    const ann = await Client.join(t, own, "ann", ["a", "b", "left"]);
    await ann.ask("chat:leave", "left");
    const ben = await Client.join(t, own, "ben", "a");
    await own.restart(signal);
    const again = await Client.connect(t, own, "ann");
    assert.deepEqual(await restores(again, ann.session), ["a", "b"]);
    await isRejected(await Client.connect(t, own, "eve"), ben.session);
    await isRejected(again, ann.session);
    const back = await Client.connect(t, own, "ben");
    assert.deepEqual(await restores(back, ben.session), ["a"]);
    assert.deepEqual((await again.joins("a")).members, ["ann", "ben"]);
  });
}

test("--restore-seconds later it is rejected, counted from the end of the connection", async (t) => {
  const short = await Server.start(t, { flags: ["--restore-seconds", "2"] });
  const ben = await Client.join(t, short, "ben", "short");
  // On a machine that stands still for a while it may be too late: then it is tried once more.
  const again = await until(async () => {
    const ann = await Client.join(t, short, "ann", "short");
    // It lives for longer than that.
    const long = Date.now() + 2200;
    await until(() => Date.now() > long);
    const cut = Date.now();
    ann.cut();
    await ben.next("chat:userLeft");
    const again = await Client.connect(t, short, "ann");
    const ack = await again.ask("session:restore", ann.session);
    if (ack.status !== "ok" && Date.now() - cut >= 2000) return false;
    assert.deepEqual(ack, { status: "ok", rooms: ["short"] });
    return again;
  }, "it is restored in time");
  again.cut();
  await ben.next("chat:userLeft");
  const late = Date.now() + 2200;
  await until(() => Date.now() > late);
  await isRejected(await Client.connect(t, short, "ann"), again.session);
});

test("--restore-seconds 0 restores nothing that has ended", async (t) => {
  const none = await Server.start(t, { flags: ["--restore-seconds", "0"] });
  const ann = await Client.join(t, none, "ann", "none");
  const ben = await Client.join(t, none, "ben", "none");
  ann.cut();
  await ben.next("chat:userLeft");
  await isRejected(await Client.connect(t, none, "ann"), ann.session);
});
