// nginx as a process, with a file of `deploy/nginx`: started on a free port, ended by its id.

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";

import { until } from "./client.mjs";
import { freePort } from "./redis.mjs";
import { temporaryFolder } from "./server.mjs";

const FILES = join(import.meta.dirname, "../../../deploy/nginx");
const NGINX = ["/usr/sbin/nginx", "/usr/bin/nginx"].find(existsSync) ?? "nginx";

// nginx with this file for these nodes, its port changed; it ends with the test.
export async function nginx(t, file, nodes) {
  const folder = temporaryFolder(t);
  const port = await freePort();
  const [first, second] = [3001, 3002].map((port) => `server 127.0.0.1:${port};`);
  const site = readFileSync(join(FILES, file), "utf8");
  for (const line of [first, second, "listen 80;"]) assert.ok(site.includes(line), line);
  const changed = site
    .replace(first, `server 127.0.0.1:${nodes[0].port};`)
    .replace(second, `server 127.0.0.1:${nodes[1].port};`)
    .replace("listen 80;", `listen 127.0.0.1:${port};`);
  writeFileSync(join(folder, "site.conf"), changed);
  mkdirSync(join(folder, "temp"));
  const temps = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
  const main = [
    "daemon off;",
    "worker_processes 1;",
    `pid ${folder}/nginx.pid;`,
    `error_log ${folder}/error.log;`,
    "events { worker_connections 256; }",
    "http {",
    "  access_log off;",
    ...temps.map((name) => `  ${name}_temp_path ${folder}/temp/${name};`),
    `  include ${folder}/site.conf;`,
    "}",
  ];
  const path = join(folder, "nginx.conf");
  writeFileSync(path, main.join("\n"));
  const flags = ["-p", folder, "-c", path, "-e", `${folder}/error.log`];
  const check = spawnSync(NGINX, ["-t", ...flags], { encoding: "utf8" });
  assert.equal(check.status, 0, check.stderr);
  assert.ok(!/warn|emerg/.test(check.stderr), check.stderr);
  const child = spawn(NGINX, flags, { stdio: "ignore" });
  const ended = new Promise((resolve) => child.once("close", resolve));
  t.after(() => {
    child.kill("SIGTERM");
    return ended;
  });
  await until(
    () =>
      new Promise((resolve) => {
        const socket = connect(port, "127.0.0.1");
        socket.once("connect", () => resolve(socket.destroy() && true));
        socket.once("error", () => resolve(false));
      }),
    "nginx listens",
  );
  return { url: `http://127.0.0.1:${port}`, redis: nodes[0].redis };
}
