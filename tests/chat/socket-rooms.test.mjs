// Joining, leaving, typing, and who is told of it.

import assert from "node:assert/strict";
import { before, test } from "node:test";

import { Client } from "./lib/client.mjs";
import { Server, wholeFile } from "./lib/server.mjs";

const file = wholeFile();
let server;
before(async () => {
  server = await Server.start(file);
});

test("join: the ack names the members, the joiner gets the history, the others are told", async (t) => {
  const ann = await Client.connect(t, server, "ann");
  const outsider = await Client.join(t, server, "olaf", "elsewhere");
  const first = await ann.ask("chat:join", "hall");
  assert.deepEqual(first, { status: "ok", room: "hall", members: ["ann"] });
  assert.deepEqual(await ann.next("chat:history"), { room: "hall", messages: [] });
  const ben = await Client.connect(t, server, "ben");
  assert.deepEqual(await ben.ask("chat:join", "hall"), {
    status: "ok",
    room: "hall",
    members: ["ann", "ben"],
  });
  assert.deepEqual(await ann.next("chat:userJoined"), { username: "ben", room: "hall" });
  await Promise.all([ben, outsider].map((one) => one.caughtUp()));
  assert.deepEqual(ben.all("chat:userJoined"), [], "the joiner itself is not told");
  assert.deepEqual(outsider.all("chat:userJoined"), []);
});

test("the acknowledgement comes first, then the history, then what is new", async (t) => {
  const ann = await Client.join(t, server, "ann", "order");
  const order = [];
  const ben = await Client.connect(t, server, "ben");
  ben.socket.onAny((event) => order.push(event));
  let talking = true;
  const talk = (async () => {
    for (let i = 0; talking; i += 1) await ann.says("order", `message ${i}`);
  })();
  await ann.until(() => ann.all("chat:message").length > 3);
  ben.socket.emit("chat:join", "order", () => order.push("ack"));
  await ben.until(() => order.filter((event) => event === "chat:message").length > 2);
  talking = false;
  await talk;
  assert.deepEqual(order.slice(0, 3), ["ack", "chat:history", "chat:message"]);
  // What is new goes on where the history ends: nothing twice, nothing missing.
  await ben.caughtUp();
  const history = (await ben.next("chat:history")).messages.map((message) => message.text);
  const live = ben.all("chat:message").map((message) => message.text);
  assert.deepEqual(
    [...history, ...live],
    ann.all("chat:message").map((message) => message.text),
  );
});

test("to join again brings the history again, and tells nobody", async (t) => {
  const [ann, ben] = [
    await Client.join(t, server, "ann", "again"),
    await Client.join(t, server, "ben", "again"),
  ];
  await ann.next("chat:userJoined");
  await ann.says("again", "once");
  const again = await ben.joins("again");
  assert.deepEqual(again.members, ["ann", "ben"]);
  assert.deepEqual(
    again.history.map((message) => message.text),
    ["once"],
  );
  await ann.caughtUp();
  assert.deepEqual(ann.all("chat:userJoined"), []);
  assert.equal((await ben.ask("chat:leave", "again")).status, "ok");
  await ann.next("chat:userLeft", (left) => left.username === "ben");
});

test("histories are no longer than a client can take, also those of many rooms at once", async (t) => {
  const flags = ["--messages-per-second", "100000", "--history-messages", "1000"];
  const long = await Server.start(t, { flags });
  const rooms = Array.from({ length: 10 }, (_, i) => `long ${i}`);
  const ann = await Client.join(t, long, "ann", rooms);
  // Over a MiB in each room; all of them are more than may wait for a client.
  const said = new Map();
  for (const room of rooms) {
    const saying = Array.from({ length: 100 }, () => ann.says(room, "\u6f22".repeat(4000)));
    said.set(room, await Promise.all(saying));
  }
  for (const transport of ["polling", "websocket"]) {
    const ben = await Client.connect(t, long, `ben ${transport}`, { transports: [transport] });
    const joined = await Promise.all(rooms.map((room) => ben.joins(room)));
    for (const { room, history } of joined) {
      const bytes = Buffer.byteLength(JSON.stringify(history));
      assert.ok(bytes <= 1 << 20 && bytes > 1_000_000, `${bytes} bytes`);
      assert.deepEqual(
        history.map((message) => message.id),
        said.get(room).slice(-history.length),
        "the newest",
      );
    }
    assert.deepEqual(ben.all("disconnect"), []);
  }
});

test("a message that is longer than a history is all of it", async (t) => {
  const flags = ["--text-characters-max", "100000", "--history-messages", "1000"];
  const long = await Server.start(t, { flags });
  const ann = await Client.join(t, long, "ann", "long");
  // Each of them 600 KB as JSON.
  const ids = [];
  for (let i = 0; i < 3; i += 1) ids.push(await ann.says("long", "\u0001".repeat(100_000)));
  const ben = await Client.connect(t, long, "ben");
  assert.deepEqual(
    (await ben.joins("long")).history.map((message) => message.id),
    ids.slice(-1),
  );
});

test("leave: acknowledged, the others are told, and the room is heard no more", async (t) => {
  const [ann, ben] = [
    await Client.join(t, server, "ann", "leave"),
    await Client.join(t, server, "ben", "leave"),
  ];
  const outsider = await Client.join(t, server, "olaf", "elsewhere");
  assert.deepEqual(await ben.ask("chat:leave", "leave"), { status: "ok", room: "leave" });
  assert.deepEqual(await ann.next("chat:userLeft"), { username: "ben", room: "leave" });
  await ann.says("leave", "you do not hear this");
  await Promise.all([ben, outsider].map((one) => one.caughtUp()));
  for (const one of [ben, outsider]) {
    assert.deepEqual(one.all("chat:userLeft"), []);
    assert.deepEqual(one.all("chat:message"), []);
  }
  await ben.refused("not_a_member", "chat:message", { room: "leave", text: "x" });
  await ben.refused("not_a_member", "chat:leave", "leave");
  assert.deepEqual((await ann.joins("leave")).members, ["ann"]);
});

test("typing: the others in the room are told, not the one who types", async (t) => {
  const [ann, ben] = [
    await Client.join(t, server, "ann", "type"),
    await Client.join(t, server, "ben", "type"),
  ];
  const outsider = await Client.join(t, server, "olaf", "elsewhere");
  ann.socket.emit("chat:typing", "type");
  assert.deepEqual(await ben.next("chat:typing"), { username: "ann", room: "type" });
  assert.deepEqual(await ann.ask("chat:typing", "type"), { status: "ok" });
  await Promise.all([ann, outsider].map((one) => one.caughtUp()));
  for (const one of [ann, outsider]) assert.deepEqual(one.all("chat:typing"), []);
  await outsider.refused("not_a_member", "chat:typing", "type");
});

test("a user with two connections is there once, and has left when the last one has", async (t) => {
  const ann = await Client.join(t, server, "ann", "twice");
  const one = await Client.join(t, server, "ben", "twice");
  assert.deepEqual(await ann.next("chat:userJoined"), { username: "ben", room: "twice" });
  const two = await Client.connect(t, server, "ben");
  assert.deepEqual((await two.joins("twice")).members, ["ann", "ben"]);
  // Both hear what one of them says; each is the other's "others".
  await one.says("twice", "from one");
  assert.equal((await two.next("chat:message")).text, "from one");
  one.socket.emit("chat:typing", "twice");
  await two.next("chat:typing");
  await one.ask("chat:leave", "twice");
  one.socket.disconnect();
  await ann.joins("twice");
  assert.deepEqual(ann.all("chat:userJoined"), []);
  assert.deepEqual(ann.all("chat:userLeft"), []);
  two.socket.disconnect();
  assert.deepEqual(await ann.next("chat:userLeft"), { username: "ben", room: "twice" });
  assert.deepEqual((await ann.joins("twice")).members, ["ann"]);
});

for (const [how, leave] of [
  ["says so", (client) => client.socket.disconnect()],
  ["is cut off", (client) => client.cut()],
]) {
  for (const transport of ["websocket", "polling"]) {
    test(`a client that ${how} over ${transport} has left every room that it was in`, async (t) => {
      const [one, two] = [`one ${how} ${transport}`, `two ${how} ${transport}`];
      const ann = await Client.join(t, server, "ann", [one, two]);
      const ben = await Client.join(t, server, "ben", [one, two], { transports: [transport] });
      leave(ben);
      await ann.until(() => ann.all("chat:userLeft").length === 2);
      assert.deepEqual(
        ann
          .all("chat:userLeft")
          .map((left) => left.room)
          .sort(),
        [one, two],
      );
      assert.deepEqual((await ann.joins(one)).members, ["ann"]);
    });
  }
}

test("rooms know nothing of each other", async (t) => {
  const ann = await Client.join(t, server, "ann", ["a", "b"]);
  const ben = await Client.join(t, server, "ben", "b");
  await ann.says("a", "in a");
  await ann.says("b", "in b");
  assert.equal((await ben.next("chat:message")).text, "in b");
  await ann.ask("chat:leave", "a");
  await ben.caughtUp();
  assert.deepEqual(ben.all("chat:message"), []);
  assert.deepEqual(ben.all("chat:userLeft"), []);
  // Case and spaces are part of a name, and any script is.
  for (const name of ["B", " b", "日本語", "🐟", "constructor", "__proto__", "a/b?c#d"])
    assert.deepEqual((await ben.joins(name)).members, ["ben"], name);
});
