// The chat server as a process: started on a free port with a folder of its own, ended by its id.
// CHAT_BIN is its binary.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createHmac } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after } from "node:test";

import { freePort } from "../../lib/ports.mjs";

export const SECRET = "a secret that only the tests know";

// Stands for a test where a whole file shares something: ends it after the last one.
export function wholeFile() {
  const ends = [];
  after(async () => {
    for (const end of ends.reverse()) await end();
  });
  return { after: (end) => ends.push(end) };
}

// A folder that is gone after the test.
export function temporaryFolder(t) {
  const folder = mkdtempSync(join(tmpdir(), "sockeye-chat-"));
  t.after(() => rmSync(folder, { recursive: true, force: true, maxRetries: 5 }));
  return folder;
}

// What tests want unless they say otherwise. A Redis on a busy machine may stand still for seconds.
const DEFAULTS = { SOCKEYE_CHAT_DRAIN_SECONDS: "0", SOCKEYE_CHAT_REDIS_TIMEOUT_SECONDS: "10" };

// What the environment says of the chat must not reach it, but for what a test sets.
function environment(more) {
  const names = Object.keys(process.env).filter(
    (name) => !/^(SOCKEYE_CHAT_|JWT_SECRET$)/.test(name),
  );
  return { ...Object.fromEntries(names.map((name) => [name, process.env[name]])), ...more };
}

// Runs the binary to its end.
export async function runToEnd(flags, { env = {}, cwd } = {}) {
  const child = spawn(process.env.CHAT_BIN, flags, {
    env: environment(env),
    cwd,
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding("utf8").on("data", (text) => (output += text));
  const code = await new Promise((resolve) => child.once("close", resolve));
  return { code, output };
}

// So many processes are one chat in the tests: with CHAT_NODES they share a Redis, and clients
// go to one after the other.
export const NODES = Number(process.env.CHAT_NODES ?? 0);

export class Server {
  // It ends with the test `t`. `alone` is for what a process has for itself.
  static async start(t, { alone = false, ...options } = {}) {
    if (NODES > 0 && !alone) return Nodes.start(t, options);
    return Server.startOne(t, options);
  }

  static async startOne(
    t,
    {
      flags = [],
      env = { JWT_SECRET: SECRET },
      data = temporaryFolder(t),
      port,
      under = [],
    } = {},
  ) {
    const server = new Server();
    // Its own also while it is not there: who restarts it finds the port free.
    port ??= await freePort();
    Object.assign(server, { flags, env, data, port, under });
    await server.start();
    t.after(() => server.stop("SIGKILL"));
    return server;
  }

  async start() {
    const flags = ["--listen", `127.0.0.1:${this.port}`, "--data-dir", this.data, ...this.flags];
    const [program, ...args] = [...this.under, process.env.CHAT_BIN, ...flags];
    this.log = "";
    this.child = spawn(program, args, {
      env: environment({ ...DEFAULTS, ...this.env }),
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.ended = new Promise((resolve) => this.child.once("close", (code) => resolve(code)));
    this.child.stderr.setEncoding("utf8").on("data", (text) => (this.log += text));
    const address = await new Promise((resolve, reject) => {
      let text = "";
      this.child.once("error", reject);
      this.ended.then((code) => reject(new Error(`the server ended with ${code}: ${this.log}`)));
      this.child.stdout.setEncoding("utf8").on("data", (chunk) => {
        text += chunk;
        const found = /http:\/\/127\.0\.0\.1:(\d+)/.exec(text);
        if (found) resolve(found);
        // Only where there is an admin listener; it comes behind the address.
        this.admin ??= /(http:\/\/127\.0\.0\.1:\d+)\/metrics/.exec(text)?.[1];
      });
    });
    this.port = Number(address[1]);
    this.url = `http://127.0.0.1:${this.port}`;
  }

  get pid() {
    return this.child.pid;
  }

  async stop(signal = "SIGTERM") {
    if (this.child.exitCode === null && this.child.signalCode === null) this.child.kill(signal);
    return this.ended;
  }

  // On the same port and folder, as a supervisor would.
  async restart(signal = "SIGKILL") {
    await this.stop(signal);
    await this.start();
  }

  async post(path, body, headers = {}) {
    const json = body === undefined ? {} : { "content-type": "application/json" };
    const text = typeof body === "string" ? body : JSON.stringify(body);
    const response = await fetch(this.url + path, {
      method: "POST",
      headers: { ...json, ...headers },
      body: text,
    });
    const answer = await response.text();
    return {
      status: response.status,
      headers: response.headers,
      cookie: cookieOf(response),
      body: answer && parsed(answer),
    };
  }

  register(username, password = PASSWORD, headers) {
    return this.post("/api/register", { username, password }, headers);
  }

  login(username, password = PASSWORD, headers) {
    return this.post("/api/login", { username, password }, headers);
  }

  refresh(cookie) {
    return this.post("/api/refresh", undefined, cookie ? { cookie } : {});
  }
}

// Several processes that share a Redis, with the face of one: whoever asks for an address gets that
// of the next one.
export class Nodes extends Server {
  #turn = 0;

  static async start(t, { count = NODES, flags = [], redis, ...options } = {}) {
    const server = new Nodes();
    const { Redis } = await import("./redis.mjs");
    server.redis = redis ?? (await Redis.start(t));
    const all = ["--redis", server.redis.url, ...flags];
    server.nodes = [];
    for (let i = 0; i < count; i += 1)
      server.nodes.push(await Server.startOne(t, { ...options, flags: all }));
    for (const node of server.nodes) node.redis = server.redis;
    return server;
  }

  get next() {
    this.#turn += 1;
    return this.nodes[this.#turn % this.nodes.length];
  }

  get url() {
    return this.next.url;
  }

  get port() {
    return this.next.port;
  }

  get log() {
    return this.nodes.map((node) => node.log).join("");
  }

  async start() {
    await Promise.all(this.nodes.map((node) => node.start()));
  }

  async stop(signal) {
    const codes = await Promise.all(this.nodes.map((node) => node.stop(signal)));
    return codes.find((code) => code !== 0) ?? 0;
  }
}

export const PASSWORD = "a long password";

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

// What a browser would send back: the first Set-Cookie's name and value.
function cookieOf(response) {
  const [line] = response.headers.getSetCookie();
  return line?.split(";")[0];
}

const encoded = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");

// An access token as the server itself makes them, or one that is wrong in one thing.
export function token(
  username,
  { secret = SECRET, header = { typ: "JWT", alg: "HS256" }, ...claims } = {},
) {
  const iat = Math.floor(Date.now() / 1000);
  const text = `${encoded(header)}.${encoded({ sub: `id of ${username}`, username, iat, exp: iat + 600, ...claims })}`;
  return `${text}.${createHmac("sha256", secret).update(text).digest("base64url")}`;
}

// The claims of an access token whose signature is good.
export function claimsOf(jwt, secret = SECRET) {
  const [header, claims, signature] = jwt.split(".");
  assert.equal(
    signature,
    createHmac("sha256", secret).update(`${header}.${claims}`).digest("base64url"),
  );
  assert.equal(JSON.parse(Buffer.from(header, "base64url")).alg, "HS256");
  return JSON.parse(Buffer.from(claims, "base64url"));
}
