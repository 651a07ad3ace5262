// Starts, watches and stops the server under test; the only file that knows it is a process.
// What it must do is written down in README.md.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readFile } from "node:fs/promises";
import { after } from "node:test";
import { freePort } from "../../tests/lib/ports.mjs";
import { request } from "./http.mjs";
import { until, within } from "./wait.mjs";

/** Node's own server. */
export const REFERENCE = "node reference-server.mjs";
/** The server under test. */
export const COMMAND = process.env.SERVER_CMD || REFERENCE;
const DIRECTORY = new URL("..", import.meta.url);

/** `node` or `sockeye`: named where an expectation differs, with the reason beside it. */
export const KIND = process.env.SERVER_KIND || "node";
assert(["node", "sockeye"].includes(KIND), `SERVER_KIND is node or sockeye, not ${KIND}`);

/** For `test(name, sockeyeOnly("why Node cannot"), ...)`. */
export function sockeyeOnly(reason) {
  return { skip: KIND === "sockeye" ? false : reason };
}

/** A server for the whole test file, ended with it. */
export async function useServer(options = {}) {
  const server = new TestServer(options);
  await server.start();
  after(() => server.stop());
  return server;
}

/** A server for one test. */
export async function serverFor(t, options = {}) {
  const server = new TestServer(options);
  await server.start();
  t.after(() => server.stop());
  return server;
}

export class TestServer {
  #options;
  #command;
  #child;
  #exited;
  #stderr = "";

  constructor(options, command = COMMAND) {
    this.#options = options;
    this.#command = command;
  }

  get url() {
    return `http://127.0.0.1:${this.port}`;
  }

  /** Also used to start again on the same port after `stop` or `kill`. */
  async start() {
    this.port ??= await freePort();
    // Its own process group, so that a command which starts others ends as a whole.
    this.#child = spawn(`exec ${this.#command}`, {
      cwd: DIRECTORY,
      shell: true,
      detached: true,
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, ...this.#environment() },
    });
    this.#child.stderr.on("data", (chunk) => this.#keepError(chunk));
    this.#exited = new Promise((resolve) => {
      this.#child.once("exit", (code, signal) => resolve({ code, signal }));
    });
    const ended = this.#exited.then(({ code }) => {
      throw new Error(`the server ended with ${code} before it listened:\n${this.#stderr}`);
    });
    await within("the server to print `listening`", Promise.race([this.#listening(), ended]));
  }

  /** Asks it to end, as an operator would, and expects that it had survived until then. */
  async stop() {
    const { exitCode, signalCode } = this.#child;
    if (signalCode === "SIGKILL") return undefined;
    assert.equal(exitCode, null, `the server had ended by itself:\n${this.#stderr}`);
    this.#signal("SIGTERM");
    try {
      return await within("the server to end on SIGTERM", this.#exited);
    } catch (error) {
      this.#signal("SIGKILL");
      throw error;
    }
  }

  /** Ends it without a word to anybody. */
  async kill() {
    this.#signal("SIGKILL");
    await within("the server to be killed", this.#exited);
  }

  /** `{pid, sessions, sockets, rooms}`. */
  stats() {
    return this.#json("/stats");
  }

  /** What happened to the sockets whose `auth.mark` is `mark`, in order. */
  log(mark) {
    return this.#json(`/log?mark=${encodeURIComponent(mark)}`);
  }

  /** The requests that were refused and whose query has this `mark`, in order. */
  refusals(mark) {
    return this.#json(`/refusals?mark=${encodeURIComponent(mark)}`);
  }

  /** Waits for a record of the given event and returns it. */
  logged(mark, event) {
    return until(`${event} of ${mark}`, async () => {
      return (await this.log(mark)).find((record) => record.event === event);
    });
  }

  /** Waits until nothing is left: no session, no socket, no room. */
  async empty(timeout) {
    let last;
    await until("sessions, sockets and rooms to be zero", async () => {
      last = await this.stats();
      return last.sessions === 0 && last.sockets === 0 && last.rooms === 0;
    }, timeout).catch((error) => {
      throw new Error(`${error.message}, still ${JSON.stringify(last)}`);
    });
  }

  /** Resident memory of the process that serves, in bytes. */
  async residentBytes() {
    const { pid } = await this.stats();
    const status = await readFile(`/proc/${pid}/status`, "utf8");
    return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)[1]) * 1024;
  }

  #environment() {
    return { PORT: String(this.port), SERVER_OPTIONS: JSON.stringify(this.#options) };
  }

  #keepError(chunk) {
    this.#stderr = (this.#stderr + chunk).slice(-10_000);
  }

  #listening() {
    return new Promise((resolve) => {
      let output = "";
      this.#child.stdout.on("data", (chunk) => {
        output = (output + chunk).slice(-10_000);
        if (/^listening\b/m.test(output)) resolve();
      });
    });
  }

  #signal(signal) {
    try {
      process.kill(-this.#child.pid, signal);
    } catch (error) {
      if (error.code !== "ESRCH") throw error;
    }
  }

  async #json(path) {
    const { status, body } = await request(this, { path });
    assert.equal(status, 200, `GET ${path}`);
    return JSON.parse(body);
  }
}
