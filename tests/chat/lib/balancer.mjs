// nginx and HAProxy as processes, each with a file of `deploy`: started on a free port before these
// nodes, ended by their id.

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { until } from "./client.mjs";
import { freePort, isListening } from "../../lib/ports.mjs";
import { temporaryFolder } from "./server.mjs";

const DEPLOY = join(import.meta.dirname, "../../../deploy");
const found = (name) => [`/usr/sbin/${name}`, `/usr/bin/${name}`].find(existsSync) ?? name;
const NGINX = found("nginx");
const HAPROXY = found("haproxy");

// nginx with this file for these nodes, its port changed; it ends with the test.
export async function nginx(t, file, nodes) {
  const folder = temporaryFolder(t);
  const port = await freePort();
  const site = readFileSync(join(DEPLOY, "nginx", file), "utf8");
  const servers = /( *server 127\.0\.0\.1:300\d .*;\n)+/g;
  assert.ok(servers.test(site) && site.includes("listen 80;"), file);
  const line = (block, { port }) => block.split("\n")[0].replace("127.0.0.1:3001", `127.0.0.1:${port}`);
  const changed = site
    .replace(servers, (block) => nodes.map((node) => `${line(block, node)}\n`).join(""))
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
  return front(t, NGINX, flags, port, nodes);
}

// HAProxy likewise.
export async function haproxy(t, file, nodes) {
  const folder = temporaryFolder(t);
  const port = await freePort();
  const text = readFileSync(join(DEPLOY, "haproxy", file), "utf8");
  const servers = /( *server node\d 127\.0\.0\.1:300\d.*\n)+/g;
  assert.ok(servers.test(text) && text.includes("bind :80\n"), file);
  const line = (block, node, i) =>
    block
      .split("\n")[0]
      .replaceAll("node1", `node${i + 1}`)
      .replace("127.0.0.1:3001", `127.0.0.1:${node.port}`);
  const changed = text
    .replace(servers, (block) => nodes.map((node, i) => `${line(block, node, i)}\n`).join(""))
    .replace("bind :80", `bind 127.0.0.1:${port}`);
  const path = join(folder, "haproxy.cfg");
  writeFileSync(path, changed);
  const check = spawnSync(HAPROXY, ["-c", "-f", path], { encoding: "utf8" });
  assert.equal(check.status, 0, check.stderr);
  assert.ok(!/WARNING|ALERT/.test(check.stdout + check.stderr), check.stdout + check.stderr);
  return front(t, HAPROXY, ["-db", "-f", path], port, nodes);
}

async function front(t, program, flags, port, nodes) {
  const child = spawn(program, flags, { stdio: "ignore" });
  const ended = new Promise((resolve) => child.once("close", resolve));
  t.after(() => {
    // HAProxy would wait for its connections; nginx has workers, which only it can end.
    child.kill(program === NGINX ? "SIGTERM" : "SIGINT");
    return ended;
  });
  await until(() => isListening(port), `${program} listens`);
  return { url: `http://127.0.0.1:${port}`, port, redis: nodes[0].redis };
}
