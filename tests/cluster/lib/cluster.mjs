// Starts and stops a Redis and the nodes around it; knows nothing of what they say.

import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { io } from "socket.io-client";
import { freePort, isListening } from "../../lib/ports.mjs";

const DIRECTORY = new URL("..", import.meta.url);
export const SOCKEYE = process.env.CLUSTER_NODE ?? "../../target/debug/examples/cluster-node";
const COMMANDS = { node: [process.execPath, ["node-server.mjs"]], sockeye: [SOCKEYE, []] };
const WAIT_MS = 30_000;

/** A Redis that keeps nothing on disk, or a Redis Cluster of three (`redisCluster`), and nodes of these kinds (`node`, `sockeye`) on it. */
export class Cluster {
  #children = [];
  nodes = [];

  static async start(t, kinds, options) {
    const cluster = new Cluster();
    t.after(() => cluster.stop());
    if (options.redisCluster) await cluster.#startRedisCluster();
    else await cluster.#startRedis();
    for (const kind of kinds) await cluster.add(kind, options);
    for (const node of cluster.nodes) await cluster.counted(node, kinds.length);
    return cluster;
  }

  async #startRedis() {
    this.port = await freePort();
    const options = ["--save", "", "--loglevel", "warning", "--bind", "127.0.0.1"];
    this.#spawn("redis-server", ["--port", String(this.port), ...options], {});
    await until("Redis to listen", () => isListening(this.port));
    this.redis = this.oneRedis = `redis://127.0.0.1:${this.port}`;
  }

  async #startRedisCluster() {
    this.directory = mkdtempSync(join(tmpdir(), "sockeye-cluster-"));
    const hosts = [];
    for (let i = 0; i < 3; i += 1) {
      const [port, busPort] = [await freePort(), await freePort()].map(String);
      const options = ["--save", "", "--loglevel", "warning", "--bind", "127.0.0.1", "--port", port];
      options.push("--cluster-enabled", "yes", "--cluster-port", busPort, "--dir", this.directory);
      options.push("--cluster-config-file", `${port}.conf`);
      this.#spawn("redis-server", options, {});
      await until("a node of Redis to listen", () => isListening(Number(port)));
      hosts.push(`127.0.0.1:${port}`);
    }
    const create = ["--cluster", "create", ...hosts, "--cluster-yes"];
    await promisify(execFile)("redis-cli", create);
    for (const host of hosts) {
      const info = ["-p", host.split(":")[1], "CLUSTER", "INFO"];
      await until(`${host} to be well`, async () => {
        return (await promisify(execFile)("redis-cli", info)).stdout.includes("cluster_state:ok");
      });
    }
    this.redis = `redis-cluster://${hosts.join(",")}`;
    this.oneRedis = `redis://${hosts[0]}`;
  }

  async add(kind, options) {
    const port = await freePort();
    const name = `${kind} ${this.nodes.length}`;
    const config = { name, port, redis: this.redis, ...options };
    const child = this.#spawn(...COMMANDS[kind], { NODE: JSON.stringify(config) });
    const listening = new Promise((resolve, reject) => {
      child.stdout.once("data", resolve);
      child.once("exit", (code) => reject(new Error(`${name} ended with ${code}`)));
    });
    await within(`${name} to listen`, listening);
    const node = { name, kind, child, url: `http://127.0.0.1:${port}` };
    node.control = await connect(node);
    this.nodes.push(node);
    return node;
  }

  /** Starts an example that takes a port and serves. */
  async process(binary, env) {
    const port = await freePort();
    const child = this.#spawn(binary, [String(port)], env);
    await until(`${binary} to listen`, () => {
      assert.equal(child.exitCode, null, `${binary} ended`);
      return isListening(port);
    });
    const node = { name: binary, kind: "example", url: `http://127.0.0.1:${port}`, child };
    this.nodes.push(node);
    return node;
  }

  /** Runs something that ends by itself; its exit code. */
  async run(binary, args, env) {
    const child = spawn(binary, args, {
      cwd: DIRECTORY,
      env: { ...process.env, ...env },
      stdio: "ignore",
    });
    this.#children.push(child);
    return within(`${binary} to end`, new Promise((resolve) => child.once("exit", resolve)));
  }

  /** What Redis has under a key, on whichever node; empty where it is not there. */
  async get(key) {
    const get = ["-c", "-u", this.oneRedis, "GET", key];
    return (await promisify(execFile)("redis-cli", get)).stdout.trim();
  }

  /** Waits until a node counts so many in these namespaces. */
  async counted(node, count, namespaces = ["/", "/other"]) {
    for (const namespace of namespaces) {
      await until(`${node.name} to count ${count}`, async () => {
        return (await act(node, { what: "count", namespace })) === count;
      });
    }
  }

  async stop() {
    for (const { control } of this.nodes) control?.disconnect();
    const ends = this.#children.map((child) => {
      const ended = new Promise((resolve) => child.once("exit", resolve));
      if (child.exitCode !== null || child.signalCode !== null) return undefined;
      child.kill("SIGTERM");
      return ended;
    });
    await Promise.all(ends);
    if (this.directory) rmSync(this.directory, { recursive: true });
  }

  #spawn(command, args, env) {
    const child = spawn(command, args, {
      cwd: DIRECTORY,
      env: { ...process.env, ...env },
      stdio: ["ignore", "pipe", "inherit"],
    });
    child.stdout.on("data", () => {});
    this.#children.push(child);
    return child;
  }
}

/** A connected client of a node, with an inbox of all that comes. */
export async function connect(node, auth = {}, namespace = "/") {
  const options = { transports: ["websocket"], forceNew: true, reconnection: false };
  const socket = io(node.url + namespace, { ...options, auth, query: { tag: "tag" } });
  socket.inbox = [];
  socket.onAny((event, ...args) => {
    const ack = typeof args.at(-1) === "function" ? args.pop() : undefined;
    socket.inbox.push([event, ...args]);
    if (ack && event !== "silent") ack({ from: socket.id, args });
  });
  const connected = new Promise((resolve, reject) => {
    socket.once("connect", resolve);
    socket.once("connect_error", reject);
  });
  await within(`a client of ${node.name}`, connected);
  return socket;
}

/** Has a node do something. */
export function act(node, what, ...args) {
  return within(`${node.name} to ${what.what}`, node.control.emitWithAck("act", what, ...args));
}

/** Waits for the next thing that a client hears. */
export async function hears(socket, expected) {
  await until(`hearing ${JSON.stringify(expected).slice(0, 60)}`, () => socket.inbox.length > 0);
  assert.deepEqual(socket.inbox.shift(), expected);
}

/** Waits for all of these, in their order or in any, each once. */
export async function hearsAll(socket, expected, isOrdered) {
  if (isOrdered) {
    for (const event of expected) await hears(socket, event);
    return;
  }
  const isLate = ([event]) => event === "start" || event.startsWith("reach");
  const heard = () => socket.inbox.filter((event) => !isLate(event));
  await until(`${expected.length} events`, () => heard().length >= expected.length);
  const sorted = (events) => events.map((event) => JSON.stringify(event)).sort();
  assert.deepEqual(sorted(heard()), sorted(expected));
  socket.inbox.length = 0;
}

export async function until(what, isSo) {
  const end = Date.now() + WAIT_MS;
  while (!(await isSo())) {
    if (Date.now() > end) throw new Error(`waited ${WAIT_MS} ms in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

export function within(what, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited ${WAIT_MS} ms in vain for ${what}`)), WAIT_MS);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}
