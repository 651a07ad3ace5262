// Starts the crate's examples as programs, and waits for what happens.
// The folder of their binaries is named by EXAMPLES.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";

const { EXAMPLES } = process.env;
if (!EXAMPLES) {
  throw new Error("EXAMPLES must name the folder of the built examples; `cargo xtask interop` does it");
}

/** Starts an example; its lines and its exit code can be awaited. */
export function start(name, ...args) {
  const child = spawn(join(EXAMPLES, name), args, { stdio: ["ignore", "pipe", "inherit"] });
  const lines = [];
  const waiting = new Set();
  const look = () => waiting.forEach((check) => check());
  createInterface({ input: child.stdout }).on("line", (line) => {
    lines.push(line);
    look();
  });
  const exited = once(child, "close").then(([code]) => {
    look();
    return code;
  });
  return {
    exited,
    lines,
    /** The first line that matches. */
    line(pattern) {
      return new Promise((resolve, reject) => {
        const check = () => {
          const found = lines.find((line) => pattern.test(line));
          if (found !== undefined) {
            waiting.delete(check);
            resolve(found);
          } else if (child.exitCode !== null) {
            reject(new Error(`${name} ended without ${pattern}; it said:\n${lines.join("\n")}`));
          }
        };
        waiting.add(check);
        check();
      });
    },
    async stop() {
      child.kill();
      await exited;
    },
  };
}

/** Starts an example that serves; its URL is in `url`. */
export async function serve(name, ...args) {
  const example = start(name, "127.0.0.1:0", ...args);
  const [url] = (await example.line(/listening on/)).match(/ws:\S+/);
  return { ...example, url };
}

/** Bytes that differ from place to place. */
export function bytes(length) {
  return Buffer.from(Array.from({ length }, (_, index) => (index * 31) >> 3));
}

/** The messages of a WebSocket from now on, one after the other, as `[data, isBinary]`. */
export function messages(socket) {
  const queue = [];
  let wake = () => {};
  const push = (entry) => {
    queue.push(entry);
    wake();
  };
  socket.on("message", (data, isBinary) => push([data, isBinary]));
  socket.on("close", () => push(null));
  return (async function* () {
    for (;;) {
      while (queue.length === 0) await new Promise((resolve) => (wake = resolve));
      const next = queue.shift();
      if (next === null) return;
      yield next;
    }
  })();
}
