// Three nodes of the chat behind each balancer in each of its modes, while a node is killed, all are
// restarted one after the other, and Redis dies or hangs: what was acknowledged is in everybody's
// history once, and who is there is told right. What was lost between is printed: nothing of that
// is promised. OUTAGE_SECONDS is how long Redis hangs.

import assert from "node:assert/strict";
import { test } from "node:test";
import { isDeepStrictEqual } from "node:util";

import { Client } from "../chat/lib/client.mjs";
import { insist, keepsAll } from "../chat/lib/persistent.mjs";
import { Redis } from "../chat/lib/redis.mjs";
import { Nodes } from "../chat/lib/server.mjs";
import { areThereOnce, say, screenshot, sees } from "../browser/lib/window.mjs";
import { Front, MODES } from "./lib/fronts.mjs";

const OUTAGE_SECONDS = Number(process.env.OUTAGE_SECONDS ?? 12);
const PAUSE_MS = 150;
const FLAGS = [
  ...["--admin-listen", "127.0.0.1:0", "--trusted-proxies", "127.0.0.1"],
  ...["--messages-per-second", "1000", "--events-per-second", "1000"],
  ...["--sign-ins-per-minute", "100000", "--history-messages", "1000"],
  ...["--redis-lease-seconds", "10", "--redis-timeout-seconds", "5", "--shutdown-seconds", "3"],
];

// What happens, each to the nodes of both chats at once; `more` waits until everybody has said more.
const FAULTS = {
  "nothing happens": async () => {},
  "a node is killed": async ({ chats, more }) => {
    await eachOf(chats, 1, (node) => node.stop("SIGKILL"));
    await more();
    await eachOf(chats, 1, (node) => node.start());
  },
  "a rolling restart": async ({ chats, more }) => {
    for (const i of [0, 1, 2]) {
      await eachOf(chats, i, async (node) => {
        await node.restart("SIGTERM");
        await ready([node]);
      });
      await more();
    }
  },
  "Redis is killed": async ({ redis }) => {
    await redis.stop("SIGKILL");
    await redis.start();
  },
  "Redis hangs": async ({ redis, chats }) => {
    redis.child.kill("SIGSTOP");
    await new Promise((resolve) => setTimeout(resolve, OUTAGE_SECONDS * 1000));
    for (const node of chats.flatMap((chat) => chat.nodes))
      await insist("not ready", async () => (await fetch(`${node.url}/readyz`)).status === 503);
    redis.child.kill("SIGCONT");
  },
};

const eachOf = (chats, i, act) => Promise.all(chats.map((chat) => act(chat.nodes[i])));

const ready = (nodes) =>
  insist("all nodes are ready", async () => {
    const answers = await Promise.all(nodes.map((node) => fetch(`${node.url}/readyz`)));
    return answers.every(({ status }) => status === 200);
  });

test("three nodes behind balancers", async (t) => {
  const redis = await Redis.start(t);
  const start = (flags) => Nodes.start(t, { count: 3, redis, flags: [...FLAGS, ...flags] });
  // Nodes that hand requests on would hide that a balancer is not sticky: these do not.
  const sticky = await start([]);
  const forwarding = await start(["--redis-prefix", "forwarding:", "--forward-requests"]);
  const chats = [sticky, forwarding];
  const fronts = await Promise.all(
    MODES.map((mode) => Front.start(t, mode, (mode.forwards ? forwarding : sticky).nodes)),
  );
  for (const front of fronts) front.chat = front.forwards ? forwarding : sticky;
  await Promise.all(fronts.map((front) => front.open(t)));
  const talkers = fronts.flatMap((front) => front.talkers);

  await t.test("clients are on all nodes, over the transports that they want", async () => {
    for (const front of fronts)
      for (const [i, talker] of front.talkers.entries())
        await insist("the transport", () => talker.transport === front.transports[i].at(-1));
    for (const node of chats.flatMap((chat) => chat.nodes)) assert.ok((await opened(node)) > 0);
  });

  const more = () => {
    const before = talkers.map(({ acknowledged }) => acknowledged.length);
    return insist("everybody says more", () =>
      talkers.every(({ acknowledged }, i) => acknowledged.length >= before[i] + 3),
    );
  };
  for (const [fault, happen] of Object.entries(FAULTS))
    await t.test(fault, async (t) => {
      await Promise.all(talkers.map((one) => one.enter(`${roomOf(one, fronts)}, ${fault}`)));
      for (const talker of talkers) talker.talk(PAUSE_MS);
      await more();
      // What is written in the windows meanwhile is sent when that is possible.
      const happening = happen({ redis, chats, more });
      await everybodyWrites(fronts, fault);
      await happening;
      await ready(chats.flatMap((chat) => chat.nodes));
      await more();
      await Promise.all(talkers.map((talker) => talker.rest()));
      for (const front of fronts) await wasKept(t, front);
      if (fault === "nothing happens")
        for (const { lost, username } of talkers) assert.equal(lost, 0, `${username} was cut off`);
      for (const node of chats.flatMap((chat) => chat.nodes))
        assert.ok(!/panicked/.test(node.log), node.log);
    });

  await Promise.all(
    fronts.map((front) =>
      t.test(`${front.name}: in the end all is there once, and who is there is right`, (t) =>
        endsWell(t, front),
      ),
    ),
  );
});

const roomOf = (talker, fronts) => fronts.find((front) => front.talkers.includes(talker)).name;

// Each window says something.
function everybodyWrites(fronts, what) {
  return Promise.all(
    fronts.map(async (front) => {
      for (const [i, window] of front.windows.entries()) {
        const text = `${["wilma", "xaver"][i]} says this when ${what}`;
        front.texts.push(text);
        await say(window, text);
      }
    }),
  );
}

// Everybody has the same history, with everything that was acknowledged; and what of it they heard
// as it happened is counted.
async function wasKept(t, { name, talkers, windows, texts }) {
  const looks = await Promise.all(talkers.map((talker) => talker.look()));
  let [all, missed, twice] = [0, 0, 0];
  for (const [i, { history }] of looks.entries()) {
    keepsAll(history, talkers, talkers[i].username);
    const heard = talkers[i].heard();
    const once = new Set(heard);
    all += history.length;
    missed += history.filter(({ id }) => !once.has(id)).length;
    twice += heard.length - once.size;
  }
  const sum = (figure) => talkers.reduce((sum, talker) => sum + talker[figure], 0);
  const silence = Math.max(...talkers.map(({ silenceMs }) => silenceMs));
  t.diagnostic(
    `${name.padEnd(20)} ${all} to be heard: ${missed} only later, ${twice} twice; ` +
      `${sum("lost")} connections lost, ${sum("repeated")} messages sent again, ` +
      `the slowest after ${silence} ms`,
  );
  for (const window of windows) for (const text of texts) await sees(window, text);
}

async function endsWell(t, front) {
  const { talkers, windows, texts, chat, name } = front;
  if (windows.length > 0) await areThereOnce(windows, texts, chat, t, front.windowsRoom);
  const people = windows.map((_, i) => front.nameOf(["wilma", "xaver"][i]));
  for (const window of windows)
    await insist("the window tells who is there", async () => {
      const there = await window.locator("#members li").allTextContents();
      return people.every((name) => there.filter((text) => text.includes(name)).length === 1);
    });
  if (windows.length > 0) await screenshot(windows[0], `nodes-${name.replace(" ", "-")}`);
  const room = `${name}, ${Object.keys(FAULTS).at(-1)}`;
  const readers = await Promise.all(chat.nodes.map((node) => Client.connect(t, node, "reader")));
  const members = async (reader) =>
    (await reader.joins(room)).members.filter((member) => member !== "reader");
  const names = (some) => some.map(({ username }) => username).sort();
  for (const reader of readers)
    await insist("all talkers are there", async () =>
      isDeepStrictEqual(await members(reader), names(talkers)),
    );
  const [stays, ...goes] = talkers;
  for (const talker of goes) talker.leave();
  for (const reader of readers) {
    await insist("those who went have left", async () => (await members(reader)).length === 1);
    assert.deepEqual(await members(reader), names([stays]));
    const left = reader.all("chat:userLeft", (who) => who.room === room).map((who) => who.username);
    assert.ok(new Set(left).size === left.length, `each leaves once: ${left}`);
  }
  stays.leave();
}

// How many connections a node has had.
async function opened(node) {
  const metrics = await (await fetch(`${node.admin}/metrics`)).text();
  const counts = metrics.matchAll(/^sockeye_connections_opened_total\{.*\} (\d+)$/gm);
  return [...counts].reduce((sum, [, count]) => sum + Number(count), 0);
}
