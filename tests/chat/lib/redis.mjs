// A Redis as a process: started on a free port with a folder of its own, ended by its id. What it
// has acknowledged is on its disk.

import { spawn } from "node:child_process";
import { connect } from "node:net";

import { until } from "./client.mjs";
import { freePort } from "../../lib/ports.mjs";
import { temporaryFolder } from "./server.mjs";

export class Redis {
  // It ends with the test `t`.
  static async start(t, flags = []) {
    const redis = new Redis();
    Object.assign(redis, { flags, data: temporaryFolder(t), port: await freePort() });
    // Left to itself, the bus of a cluster takes a port that nobody has looked at.
    if (flags.includes("--cluster-enabled")) {
      redis.busPort = await freePort();
      redis.flags = [...flags, "--cluster-port", redis.busPort];
    }
    await redis.start();
    t.after(() => redis.stop("SIGKILL"));
    return redis;
  }

  async start() {
    const flags = ["--port", this.port, "--bind", "127.0.0.1", "--dir", this.data, "--save", ""];
    flags.push("--appendonly", "yes", "--appendfsync", "always", ...this.flags);
    this.child = spawn("redis-server", flags.map(String), { stdio: ["ignore", "pipe", "pipe"] });
    this.ended = new Promise((resolve) => this.child.once("close", resolve));
    let log = "";
    for (const stream of [this.child.stdout, this.child.stderr])
      stream.setEncoding("utf8").on("data", (text) => (log += text));
    this.ended.then(() => (log += "; it ended"));
    await until(() => log.includes("Ready to accept connections"), "Redis is ready");
    this.url = `redis://127.0.0.1:${this.port}/0`;
  }

  async stop(signal = "SIGTERM") {
    if (this.child.exitCode === null && this.child.signalCode === null) this.child.kill(signal);
    return this.ended;
  }

  // One command; its answer as the lines that come.
  async ask(...words) {
    const socket = connect(this.port, "127.0.0.1");
    let answer = "";
    socket.setEncoding("utf8").on("data", (text) => (answer += text));
    const parts = words.map((word) => `$${Buffer.byteLength(String(word))}\r\n${word}\r\n`);
    socket.end(`*${words.length}\r\n${parts.join("")}`);
    await new Promise((resolve, reject) => socket.once("close", resolve).once("error", reject));
    return answer.trim().split("\r\n");
  }
}
