// The container file, as far as that can be known without building it: what it copies is in its
// context, that is a whole workspace, and the last stage runs the binary as it stands there.

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { chmodSync, chownSync, copyFileSync, existsSync, mkdirSync } from "node:fs";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";

import { until } from "./lib/client.mjs";
import { freePort } from "../lib/ports.mjs";
import { runToEnd, temporaryFolder } from "./lib/server.mjs";

const ROOT = join(import.meta.dirname, "../..");
const FILE = readFileSync(join(ROOT, "deploy/Containerfile"), "utf8");
const IS_ROOT = process.getuid() === 0;

// The stages, each with its instructions as [word, rest].
const stages = FILE.replaceAll("\\\n", " ")
  .split("\n")
  .filter((line) => line && !line.startsWith("#"))
  .map((line) => /^(\w+) (.*)$/.exec(line).slice(1))
  .reduce((stages, [word, rest]) => {
    if (word === "FROM") stages.push([]);
    stages.at(-1).push([word, rest]);
    return stages;
  }, []);
const all = (stage, wanted) => stages[stage].filter(([word]) => word === wanted).map(([, rest]) => rest);
const words = (text) => text.trim().split(/\s+/);

// What `docker build` would send: `name` and `**/name` are what the ignore file may say.
function context() {
  const ignored = readFileSync(join(ROOT, "deploy/Containerfile.dockerignore"), "utf8").trim().split("\n");
  for (const pattern of ignored) assert.match(pattern, /^(\*\*\/)?[\w./-]+$/, "the test knows it");
  const isIgnored = (path) =>
    ignored.some((pattern) =>
      pattern.startsWith("**/") ? path.split("/").at(-1) === pattern.slice(3) : path === pattern,
    );
  const walk = (folder) =>
    readdirSync(join(ROOT, folder), { withFileTypes: true }).flatMap((entry) => {
      const path = join(folder, entry.name);
      if (isIgnored(path)) return [];
      return entry.isDirectory() ? walk(path) : [path];
    });
  return walk("");
}

test("the container's context is a whole workspace, with what is copied out of it", (t) => {
  const files = new Set(context());
  for (const path of words(all(0, "COPY")[0]).slice(0, -1)) assert.ok(files.has(path), path);
  assert.equal(all(1, "COPY")[0], ". .");
  const folder = temporaryFolder(t);
  for (const path of files) {
    mkdirSync(join(folder, dirname(path)), { recursive: true });
    copyFileSync(join(ROOT, path), join(folder, path));
  }
  const metadata = ["metadata", "--locked", "--offline", "--format-version", "1"];
  const { status, stdout, stderr } = spawnSync("cargo", metadata, {
    cwd: folder,
    encoding: "utf8",
    maxBuffer: 1 << 28,
  });
  assert.equal(status, 0, stderr);
  const build = words(all(1, "RUN").at(-1));
  assert.deepEqual(build.slice(0, 2), ["cargo", "build"]);
  assert.ok(build.includes("--locked") && build.includes("--release"));
  const name = build[build.indexOf("--package") + 1];
  const chat = JSON.parse(stdout).packages.find((one) => one.name === name);
  assert.ok(chat.targets.some((target) => target.kind.includes("bin") && target.name === name));
  // What sources take in at compile time is there, too.
  for (const path of files) {
    if (!path.endsWith(".rs")) continue;
    const source = readFileSync(join(folder, path), "utf8");
    for (const [, taken] of source.matchAll(/include_(?:str|bytes)!\("([^"]+)"\)/g))
      assert.ok(existsSync(join(folder, dirname(path), taken)), `${path} includes ${taken}`);
  }
});

test("the page in the container has the browser client that it asks for", () => {
  const [from, to] = words(all(1, "COPY").at(-1).replace("--from=client", ""));
  const installed = from.replace("/web/", "");
  const lock = JSON.parse(readFileSync(join(ROOT, "crates/sockeye-chat/web/package-lock.json")));
  assert.ok(installed.startsWith("node_modules/socket.io-client/"));
  assert.ok(lock.packages["node_modules/socket.io-client"]);
  // The same release is installed here for the tests.
  assert.ok(existsSync(join(import.meta.dirname, installed)), installed);
  const page = join(ROOT, "crates/sockeye-chat/web/static");
  assert.equal(dirname(dirname(join(ROOT, to))), page);
  const asked = /from "\.\/(vendor\/[^"]+)"/.exec(readFileSync(join(page, "chat.js"), "utf8"))[1];
  assert.equal(join(ROOT, to), join(page, asked));
});

test("the binary needs no library that the last stage's image lacks", () => {
  const { status, stdout } = spawnSync("ldd", [process.env.CHAT_BIN], { encoding: "utf8" });
  assert.equal(status, 0);
  const names = stdout.match(/\b(?:lib|ld-)[\w.+-]+\.so[\w.]*/g).filter((name) => !/vdso/.test(name));
  // What Debian has without anything installed.
  for (const name of names) assert.match(name, /^(libc|libm|libgcc_s|ld-linux-[\w-]+)\.so/);
});

test("the container's user can be made", { skip: !IS_ROOT && "only root can" }, (t) => {
  const folder = temporaryFolder(t);
  mkdirSync(join(folder, "etc"));
  for (const name of ["passwd", "group", "shadow", "gshadow"]) writeFileSync(join(folder, "etc", name), "");
  const command = all(2, "RUN")[0];
  const [add, install] = command.split(" && ").map(words);
  const added = spawnSync(add[0], ["--prefix", folder, ...add.slice(1)], { encoding: "utf8" });
  assert.equal(added.status, 0, added.stderr);
  const [user] = all(2, "USER");
  assert.match(readFileSync(join(folder, "etc/passwd"), "utf8"), new RegExp(`^${user}:x:10001:`, "m"));
  assert.ok(install.includes(`--owner=${user}`));
  // The user is not one of this machine.
  const flags = install.slice(1, -1).filter((flag) => !flag.startsWith("--owner"));
  const data = join(folder, install.at(-1));
  assert.equal(spawnSync(install[0], [...flags, data]).status, 0);
  assert.ok(existsSync(data));
});

test("as the last stage says, the chat runs for an unprivileged user and ends by its signal", async (t) => {
  const [, binary] = words(all(2, "COPY")[0].replace("--from=build", ""));
  assert.deepEqual(JSON.parse(all(2, "ENTRYPOINT")[0]), [binary]);
  const env = Object.fromEntries(words(all(2, "ENV")[0]).map((pair) => pair.split("=")));
  const { output } = await runToEnd(["--help"]);
  for (const name of Object.keys(env)) assert.ok(output.includes(`[env: ${name}=`), name);
  assert.equal(env.SOCKEYE_CHAT_DATA_DIR, all(2, "VOLUME")[0]);
  assert.equal(env.SOCKEYE_CHAT_LISTEN, `0.0.0.0:${all(2, "EXPOSE")[0]}`);
  // Not on its port and its folder, which may be somebody's here.
  const folder = temporaryFolder(t);
  const [program, data] = [join(folder, "sockeye-chat"), join(folder, "data")];
  copyFileSync(process.env.CHAT_BIN, program);
  mkdirSync(data, { mode: 0o700 });
  if (IS_ROOT) chownSync(data, 10001, 10001);
  for (const [path, mode] of [[folder, 0o755], [program, 0o755]]) chmodSync(path, mode);
  const port = await freePort();
  const child = spawn(program, [], {
    env: { ...env, SOCKEYE_CHAT_LISTEN: `0.0.0.0:${port}`, SOCKEYE_CHAT_DATA_DIR: data },
    cwd: "/",
    stdio: "ignore",
    ...(IS_ROOT && { uid: 10001, gid: 10001 }),
  });
  const ended = new Promise((resolve) => child.once("close", resolve));
  t.after(() => child.kill("SIGKILL") && ended);
  const health = () => fetch(`http://127.0.0.1:${port}/readyz`).then(({ ok }) => ok, () => false);
  await until(health, "it is ready");
  assert.ok(readdirSync(data).length > 0, "its data are there");
  child.kill(all(2, "STOPSIGNAL")[0]);
  assert.equal(await ended, 0);
});
