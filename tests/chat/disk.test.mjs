// A disk that takes no more: errors in place of answers, nothing lost or made up, and well again
// once there is space.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { renameSync, statSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { Client, until } from "./lib/client.mjs";
import { Server } from "./lib/server.mjs";

// The system refuses writes beyond a file size; ignored, the signal for it becomes an error.
const under = ["sh", "-c", `trap "" XFSZ; exec "$@"`, "sh"];
const limit = (server, bytes) =>
  execFileSync("prlimit", ["--pid", server.pid, `--fsize=${bytes}:unlimited`]);

test("while the disk is full every event is answered, nothing is told, and it goes on once there is space", async (t) => {
  const flags = [
    "--messages-per-second",
    "100000",
    "--history-messages",
    "1000",
    "--events-per-second",
    "1000",
  ];
  const server = await Server.start(t, { under, flags });
  const { cookie } = await server.register("ann");
  const [ann, ben] = [
    await Client.join(t, server, "ann", "full"),
    await Client.join(t, server, "ben", "full"),
  ];
  const ready = async () => (await fetch(`${server.url}/readyz`)).status;
  assert.equal(await ready(), 200);
  // The file may not grow any more.
  limit(server, statSync(join(server.data, "chat.redb")).size);
  const text = "x".repeat(4000);
  const acknowledged = [];
  let refused;
  for (let i = 0; !refused; i += 1) {
    const ack = await ann.ask("chat:message", {
      room: "full",
      text: `${i} ${text}`.slice(0, 4000),
    });
    if (ack.status === "ok") acknowledged.push(ack.id);
    else refused = ack;
    assert.ok(i < 1000, "the disk is full");
  }
  assert.deepEqual([refused.code, refused.message], ["internal", "The server failed."]);
  await until(async () => (await ready()) === 503, "it is not ready");
  // Many at once, of every kind: each is answered.
  const events = Array.from({ length: 20 }, (_, i) =>
    ann.ask("chat:message", { room: "full", text: `${i} ${text}`.slice(0, 4000) }),
  );
  const answers = await Promise.all([
    ...events,
    ann.ask("chat:leave", "full"),
    ben.ask("chat:typing", "full"),
  ]);
  for (const [i, ack] of answers.entries()) {
    if (ack.status === "ok" && i < events.length) acknowledged.push(ack.id);
    assert.ok(["ok", "error"].includes(ack.status));
  }
  assert.ok([200, 401, 500].includes((await server.refresh(cookie)).status));
  assert.equal((await fetch(`${server.url}/healthz`)).status, 200, "it lives");
  limit(server, "unlimited");
  await until(async () => (await ready()) === 200, "it is ready again");
  await ann.joins("full");
  acknowledged.push(await ann.says("full", "after"));
  const { history } = await ben.joins("full");
  assert.deepEqual(
    history.map((message) => message.id),
    acknowledged,
  );
  assert.deepEqual(
    ben.all("chat:message").map((message) => message.id),
    acknowledged,
    "what was told is what was acknowledged",
  );
  await server.restart("SIGKILL");
  const again = await Client.connect(t, server, "ben");
  assert.deepEqual(
    (await again.joins("full")).history.map((message) => message.id),
    acknowledged,
  );
});

test("a disk that is full at the start is told with the file", async (t) => {
  const server = await Server.start(t, { under });
  await server.register("ann");
  await server.stop("SIGTERM");
  server.under = ["sh", "-c", `trap "" XFSZ; ulimit -f 1; exec "$@"`, "sh"];
  await assert.rejects(server.start(), /ended with 1: .*cannot (open|write to) \S+chat\.redb: /s);
  server.under = under;
  await server.start();
  assert.equal((await server.login("ann")).status, 200);
});

test("a file that was taken away while the disk failed is waited for: no new chat begins", async (t) => {
  const server = await Server.start(t, { under, flags: ["--messages-per-second", "100000"] });
  const path = join(server.data, "chat.redb");
  const ann = await Client.join(t, server, "ann", "gone");
  const ready = async () => (await fetch(`${server.url}/readyz`)).status;
  limit(server, statSync(path).size);
  const acknowledged = [];
  const fill = async () => {
    const ack = await ann.ask("chat:message", { room: "gone", text: "x".repeat(4000) });
    if (ack.status === "ok") acknowledged.push(ack.id);
    return ack.status !== "ok";
  };
  await until(fill, "the disk is full");
  renameSync(path, `${path}.away`);
  const isMissed = async () => (await fill()) && server.log.includes("the file stays closed");
  await until(isMissed, "the file is missed");
  limit(server, "unlimited");
  assert.equal(await ready(), 503);
  await ann.refused("internal", "chat:message", { room: "gone", text: "nowhere" });
  renameSync(`${path}.away`, path);
  await until(async () => (await ready()) === 200, "it is ready again");
  const { history } = await ann.joins("gone");
  assert.deepEqual(
    history.map((message) => message.id),
    acknowledged.slice(-50),
  );
});
