// Runs the suite: `npm test`, or `npm test -- tests/churn.test.mjs` for some files.
// The server comes from SERVER_CMD and SERVER_KIND (README.md).

import { spawn } from "node:child_process";
import { readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const directory = dirname(fileURLToPath(import.meta.url));
const flags = process.argv.slice(2).filter((argument) => argument.startsWith("-"));
const chosen = process.argv.slice(2).filter((argument) => !argument.startsWith("-"));
const all = readdirSync(join(directory, "tests")).map((name) => join("tests", name)).sort();
const files = chosen.length > 0 ? chosen : all;

const runner = ["--test", "--test-reporter=spec", "--test-concurrency=2", "--test-timeout=900000"];
const child = spawn(process.execPath, [...runner, ...flags, ...files], {
  cwd: directory,
  stdio: "inherit",
});
child.once("exit", (code, signal) => process.exit(signal ? 1 : code));
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => child.kill(signal));
