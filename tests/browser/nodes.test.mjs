// Windows of a chat of two nodes behind nginx, while these die one after the other.

import assert from "node:assert/strict";
import { test } from "node:test";

import { nginx } from "../chat/lib/balancer.mjs";
import { Nodes } from "../chat/lib/server.mjs";
import { areThereOnce, person, say, sees } from "./lib/window.mjs";

const FLAGS = [
  ...["--sign-ins-per-minute", "1000", "--messages-per-second", "1000"],
  ...["--redis-lease-seconds", "10", "--trusted-proxies", "127.0.0.1"],
];

test("nodes that die behind nginx lose no message and double none", async (t) => {
  const chat = await Nodes.start(t, { count: 2, flags: FLAGS });
  const front = await nginx(t, "cookie.conf", chat.nodes);
  const names = ["ann", "ben", "carl", "dora"];
  const windows = [];
  for (const name of names) windows.push(await person(t, front.url, name, "nodes"));
  const texts = [];
  const everybodySays = async (what) => {
    for (const [i, name] of names.entries()) {
      texts.push(`${name} ${what}`);
      await say(windows[i], texts.at(-1));
    }
  };
  await everybodySays("begins");
  for (const window of windows) for (const text of texts) await sees(window, text);
  for (const [i, node] of chat.nodes.entries()) {
    await node.stop("SIGKILL");
    await everybodySays(`says this while node ${i} is away`);
    // The other one takes its windows.
    for (const window of windows) {
      await window.waitForSelector("#state.online");
      for (const text of texts) await sees(window, text);
    }
    await node.start();
  }
  await areThereOnce(windows, texts, chat, t, "nodes");
  for (const window of windows) {
    await window.waitForFunction(
      (count) => document.querySelectorAll("#members li").length === count,
      names.length + 1,
    );
  }
  assert.equal(texts.length, 12);
});
