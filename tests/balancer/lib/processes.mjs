// Starts and stops a Redis, nodes, and a real nginx before them with a configuration that the
// repository offers. Knows nothing of what passes through.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { freePort, isListening } from "../../lib/ports.mjs";

const { BALANCED_NODE } = process.env;
if (!BALANCED_NODE) throw new Error("BALANCED_NODE must be the example; `cargo xtask test` sets it");
const CONFIGURATIONS = new URL("../../../deploy/nginx/", import.meta.url);
const PATIENCE_MS = 30_000;
/** Where an nginx that is nobody's in particular may write. */
const TEMPORARY = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
  .map((name) => `${name}_temp_path ${name};`)
  .join(" ");

/** A Redis that keeps nothing on disk; its URL. */
export async function redis(t) {
  const port = await freePort();
  const options = ["--save", "", "--loglevel", "warning", "--bind", "127.0.0.1"];
  const child = start(t, "redis-server", ["--port", String(port), ...options]);
  child.stdout.resume();
  await until("Redis to listen", () => isListening(port));
  return `redis://127.0.0.1:${port}`;
}

/** A node; `{url, kill()}`. */
export async function node(t, settings) {
  const child = start(t, BALANCED_NODE, [], { PORT: "0", ...settings });
  const lines = [];
  createInterface({ input: child.stdout }).on("line", (line) => lines.push(line));
  await until("a node to listen", () => lines.length > 0);
  const url = lines[0].split(" ").at(-1);
  return {
    url,
    /** How many sessions live there. */
    sessions: async () => Number(await (await fetch(`${url}/sessions`)).text()),
    /** Asks it to end (`SIGTERM`), or ends it (`SIGKILL`). */
    end: async (signal) => {
      child.kill(signal);
      await child.ended;
    },
  };
}

/** nginx before `nodes`, by the file `name`, changed by `change` if that is given; its URL. */
export async function nginx(t, nodes, name, change = (text) => text) {
  const directory = await mkdtemp(join(tmpdir(), "sockeye-nginx-"));
  t.after(() => rm(directory, { recursive: true, force: true }));
  const port = await freePort();
  const servers = nodes.map(({ url }) => `server ${new URL(url).host} fail_timeout=2s;\n`).join("");
  const site = change(await readFile(new URL(name, CONFIGURATIONS), "utf8"), nodes)
    .replace("listen 80;", `listen 127.0.0.1:${port};`)
    .replace(/(^ *server 127\.0\.0\.1:\d+.*;\n)+/gm, servers);
  // Its workers would be another user's, who may not write into this directory.
  const user = process.getuid() === 0 ? "user root;" : "";
  const main = `${user} daemon off; pid nginx.pid; error_log stderr crit; events {}
    http { access_log off; ${TEMPORARY} ${site} }`;
  await writeFile(join(directory, "nginx.conf"), main);
  const child = start(t, "nginx", ["-p", directory, "-e", "stderr", "-c", "nginx.conf"]);
  child.stdout.resume();
  await until("nginx to listen", () => isListening(port));
  return `http://127.0.0.1:${port}`;
}

function start(t, command, args, env = {}) {
  const child = spawn(command, args, {
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...process.env, ...env },
  });
  child.ended = once(child, "exit");
  t.after(async () => {
    // Not SIGKILL: nginx has workers, which only it can end.
    child.kill("SIGTERM");
    await child.ended;
  });
  return child;
}

/** Waits until something is so. */
export async function until(what, isSo) {
  const end = Date.now() + PATIENCE_MS;
  while (!(await isSo())) {
    if (Date.now() > end) throw new Error(`waited ${PATIENCE_MS} ms in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
