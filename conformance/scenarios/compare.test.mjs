// Every story, told to Node's server and to the server under test by the same official clients: what
// they see, what the servers record and what is on the wire must be the same, or explained.
// With SERVER_KIND=node, Node's server is compared with itself: stories say the same each time.

import assert from "node:assert/strict";
import { after, test } from "node:test";
import { COMMAND, KIND, REFERENCE, TestServer } from "../lib/server.mjs";
import differences from "./differences.mjs";
import { compare, describe, explanation } from "./lib/difference.mjs";
import { Stage } from "./lib/stage.mjs";
import endings from "./stories/endings.mjs";
import members from "./stories/members.mjs";
import namespaces from "./stories/namespaces.mjs";
import refusals from "./stories/refusals.mjs";
import traffic from "./stories/traffic.mjs";

const STORIES = [...members, ...namespaces, ...refusals, ...traffic, ...endings];
const MODES = ["polling", "websocket", "upgraded"];
const listed = KIND === "node" ? [] : differences;
const unused = new Set(listed);

/** Servers without options of their own are shared. */
const shared = new Map();
after(async () => {
  for (const server of shared.values()) await (await server).stop();
});

for (const story of STORIES) {
  for (const mode of story.modes ?? MODES) {
    test(`${story.name} (${mode})`, async (t) => {
      const [node, other] = await Promise.all([tell(t, story, mode, REFERENCE), tell(t, story, mode, COMMAND, "other")]);
      const unexplained = [];
      for (const difference of compare(node, other)) {
        const explained = explanation(listed, story.name, mode, difference);
        if (explained) unused.delete(explained);
        else unexplained.push(describe(story.name, mode, difference));
      }
      if (unexplained.length > 0) throw new Error(`not explained:\n${unexplained.join("\n")}`);
    });
  }
}

test("every listed difference is there", { skip: chosen() }, () => {
  const stale = [...unused].map(({ story, section }) => `${story}, ${section}`);
  assert.deepEqual(stale, []);
});

async function tell(t, story, mode, command, name = "node") {
  const stage = new Stage(t, await serverOf(t, story, command, name), mode);
  try {
    await story.tell(stage);
    return await stage.end();
  } catch (error) {
    throw new Error(`with the server of ${name}: ${error.message}`, { cause: error });
  }
}

async function serverOf(t, { options = {}, own = false }, command, name) {
  const start = async () => {
    const server = new TestServer(options, command);
    await server.start();
    return server;
  };
  if (own) {
    const server = await start();
    t.after(() => server.stop());
    return server;
  }
  const key = name + JSON.stringify(options);
  if (!shared.has(key)) shared.set(key, start());
  return shared.get(key);
}

/** Whether only some stories are told. */
function chosen() {
  return process.execArgv.some((flag) => flag.startsWith("--test-name-pattern"));
}
