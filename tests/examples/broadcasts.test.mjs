// Page `broadcasts`: whom each of the six patterns reaches.

import assert from "node:assert/strict";
import { test } from "node:test";
import { connect, serve } from "./lib/page.mjs";

const REACHED = {
  "to all": ["sender", "red", "blue", "both", "none"],
  "to all others": ["red", "blue", "both", "none"],
  "to a room": ["sender", "red", "both"],
  "to others in a room": ["red", "both"],
  "to rooms": ["sender", "red", "blue", "both"],
  "to all except": ["blue", "none"],
};
const ROOMS = { sender: ["red"], red: ["red"], blue: ["blue"], both: ["red", "blue"], none: [] };

test("each pattern reaches whom it names, once", async (t) => {
  const page = await serve(t, "broadcasts");
  const heard = [];
  const clients = {};
  for (const [name, rooms] of Object.entries(ROOMS)) {
    clients[name] = await connect(t, page, { auth: { rooms } });
    clients[name].on("news", (text) => heard.push(`${text}: ${name}`));
  }
  for (const pattern of Object.keys(REACHED)) await clients.sender.emitWithAck(pattern, pattern);
  // What was sent before an answer has come before it: all is heard when all have an answer.
  for (const socket of Object.values(clients)) await socket.emitWithAck("to others in a room", "end");

  const expected = Object.entries(REACHED).flatMap(([pattern, names]) => {
    return names.map((name) => `${pattern}: ${name}`);
  });
  const news = heard.filter((line) => !line.startsWith("end: "));
  assert.deepEqual(news.sort(), expected.sort());
});
