// The settings: where they come from, and what is said of wrong ones.

import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { test } from "node:test";

import { Client, until } from "./lib/client.mjs";
import { SECRET, Server, claimsOf, runToEnd, temporaryFolder } from "./lib/server.mjs";

// Each setting with a value that is wrong, what was expected, and what `--help` says of its unit
// and default.
const SETTINGS = {
  listen: [
    "localhost:3001",
    /an IP address and a port, such as 127\.0\.0\.1:3001/,
    /Address and port.*\[default: 127\.0\.0\.1:3001\]/,
  ],
  "data-dir": [null, null, /Folder of all data.*\[default: data\]/],
  "cors-origins": [
    "*",
    /an origin without a path, such as https:\/\/example\.com/,
    /Origins.*separated by commas.*none/,
  ],
  "trusted-proxies": [
    "proxy",
    /an IP address, such as 127\.0\.0\.1/,
    /Addresses.*separated by commas.*none/,
  ],
  "cookie-secure": ["maybe", /true or false/, /true or false.*\[default: false\]/],
  "access-token-seconds": ["0", /a whole number from 1 to/, /in seconds.*\[default: 900\]/],
  "refresh-token-seconds": ["1.5", /a whole number from 1 to/, /in seconds.*\[default: 2592000\]/],
  "sign-ins-per-minute": ["-1", /a whole number from 1 to/, /per minute.*\[default: 30\]/],
  "text-characters-max": [
    "many",
    /a whole number from 1 to 100000/,
    /in characters.*\[default: 4000\]/,
  ],
  "room-characters-max": [
    "1001",
    /a whole number from 1 to 1000/,
    /in characters.*\[default: 64\]/,
  ],
  "rooms-max": ["0", /a whole number from 1 to 10000/, /Rooms.*\[default: 50\]/],
  "messages-per-second": [
    "0",
    /a whole number from 1 to/,
    /per second and user.*five times.*\[default: 20\]/,
  ],
  "events-per-second": [
    "0",
    /a whole number from 1 to/,
    /per second and user.*five times.*\[default: 50\]/,
  ],
  "history-messages": ["1001", /a whole number from 0 to 1000/, /Messages.*\[default: 50\]/],
  "restore-seconds": ["-5", /a whole number from 0 to/, /in seconds.*\[default: 300\]/],
  "admin-listen": ["9100", /an IP address and a port/, /Address and port of metrics.*none/],
  "drain-seconds": ["3601", /a whole number from 0 to 3600/, /in seconds.*\[default: 3\]/],
  redis: [
    "localhost",
    /redis:\/\/\[user\[:password\]@\]host\[:port\]\[\/database\]/,
    /Redis that many processes share.*none/,
  ],
  "redis-prefix": ["a\tb", /some characters, such as sockeye-chat:/, /\[default: sockeye-chat:\]/],
  "redis-lease-seconds": ["0", /a whole number from 1 to 3600/, /in seconds.*\[default: 15\]/],
  "redis-timeout-seconds": ["61", /a whole number from 1 to 60/, /in seconds.*\[default: 3\]/],
  "forward-requests": ["maybe", /true or false/, /true or false.*\[default: false\]/],
  "redis-room-messages-max": [
    "999",
    /a whole number from 1000 to/,
    /Messages that Redis keeps.*\[default: 10000\]/,
  ],
  "shutdown-seconds": ["3601", /a whole number from 0 to 3600/, /in seconds.*\[default: 10\]/],
  "jwt-secret": ["short", /at least 32/, /at least 32 bytes.*data folder/],
};

const variable = (name) =>
  name === "jwt-secret" ? "JWT_SECRET" : `SOCKEYE_CHAT_${name.replaceAll("-", "_").toUpperCase()}`;

function file(t, text) {
  const path = join(temporaryFolder(t), "chat.toml");
  writeFileSync(path, text);
  return path;
}

test("--help names every setting with its unit, its default and its variable, and no other", async () => {
  const { code, output } = await runToEnd(["--help"]);
  assert.equal(code, 0);
  const parts = output.split(/\n\s+(?=--|-h,|-V,)/).slice(1);
  const told = new Map(
    parts.map((part) => [/^(?:-\w, )?--([\w-]+)/.exec(part)[1], part.replace(/\s+/g, " ")]),
  );
  assert.deepEqual(
    [...told.keys()].sort(),
    [...Object.keys(SETTINGS), "config", "help", "version"].sort(),
  );
  for (const [name, [, , words]] of Object.entries(SETTINGS)) {
    assert.match(told.get(name), words);
    assert.ok(told.get(name).includes(`[env: ${variable(name)}`), name);
  }
  assert.match(told.get("config"), /TOML.*none.*SOCKEYE_CHAT_CONFIG/);
});

test("--help does not print a secret that the environment has", async () => {
  const { output } = await runToEnd(["--help"], { env: { JWT_SECRET: SECRET } });
  assert.ok(!output.includes(SECRET));
});

for (const [name, [wrong, expected]] of Object.entries(SETTINGS)) {
  if (!wrong) continue;
  test(`a wrong ${name} is named with what was expected and where it stands`, async (t) => {
    const data = ["--data-dir", temporaryFolder(t), "--listen", "127.0.0.1:0"].filter(
      (_, i) => name !== "listen" || i < 2,
    );
    const flag = await runToEnd([...data, `--${name}=${wrong}`]);
    const environment = await runToEnd(data, { env: { [variable(name)]: wrong } });
    const path = file(t, `${name} = ${JSON.stringify(wrong)}`);
    const toml = await runToEnd([...data, "--config", path]);
    for (const [where, { code, output }] of [
      [`--${name}`, flag],
      [variable(name), environment],
      [name === "jwt-secret" ? name : path, toml],
    ]) {
      assert.ok(code > 0, `${where}: ${output}`);
      assert.ok(output.includes(where), output);
      assert.ok(name === "jwt-secret" || output.includes(wrong), output);
      assert.match(output, expected);
      assert.ok(output.trim().split("\n").length <= 3, output);
    }
  });
}

test("a flag wins over the environment, and that over the file, setting by setting", async (t) => {
  const text = `text-characters-max = 1\nroom-characters-max = 2\nrooms-max = 3\njwt-secret = "${"f".repeat(32)}"\n`;
  const server = await Server.start(t, {
    flags: ["--config", file(t, text), "--text-characters-max", "7"],
    env: {
      SOCKEYE_CHAT_TEXT_CHARACTERS_MAX: "8",
      SOCKEYE_CHAT_ROOM_CHARACTERS_MAX: "9",
      JWT_SECRET: SECRET,
    },
  });
  const ann = await Client.join(t, server, "ann", "room");
  assert.match(
    (await ann.refused("bad_text", "chat:message", { room: "room", text: "" })).message,
    / 7 /,
    "the flag's",
  );
  assert.match(
    (await ann.refused("bad_room", "chat:join", "")).message,
    / 9 /,
    "the environment's",
  );
  for (const room of ["b", "c"]) await ann.joins(room);
  assert.match(
    (await ann.refused("too_many_rooms", "chat:join", "d")).message,
    / 3 /,
    "the file's",
  );
});

test("the file may come from the environment and have every setting, with lists as lists", async (t) => {
  const folder = temporaryFolder(t);
  const text = `
    listen = "127.0.0.1:0"
    data-dir = ${JSON.stringify(join(folder, "data"))}
    cors-origins = ["https://a.example", "https://b.example"]
    trusted-proxies = ["127.0.0.1", "::1"]
    cookie-secure = true
    access-token-seconds = 77
    refresh-token-seconds = 88
    sign-ins-per-minute = 100
    text-characters-max = 10
    room-characters-max = 10
    rooms-max = 10
    messages-per-second = 10
    events-per-second = 10
    history-messages = 10
    restore-seconds = 10
    shutdown-seconds = 1
    jwt-secret = "${"f".repeat(32)}"
  `;
  const server = await Server.start(t, {
    env: { SOCKEYE_CHAT_CONFIG: file(t, text) },
    data: folder,
  });
  const { body, headers } = await server.register("ann");
  const claims = claimsOf(body.accessToken, "f".repeat(32));
  assert.equal(claims.exp - claims.iat, 77);
  assert.match(headers.getSetCookie()[0], /Max-Age=88; Secure$/);
  const polling = (origin) =>
    fetch(`${server.url}/socket.io/?EIO=4&transport=polling`, { headers: { origin } });
  for (const origin of ["https://a.example", "https://b.example"])
    assert.equal((await polling(origin)).status, 200);
});

test("a variable that is empty counts as one that is not set", async (t) => {
  const text = `rooms-max = 3\njwt-secret = "${SECRET}"\n`;
  const env = Object.fromEntries(["config", ...Object.keys(SETTINGS)].map((name) => [variable(name), ""]));
  env.RUST_LOG = "";
  const server = await Server.start(t, { alone: true, flags: ["--config", file(t, text)], env });
  const { body, headers } = await server.register("ann");
  const claims = claimsOf(body.accessToken);
  assert.equal(claims.exp - claims.iat, 900);
  assert.doesNotMatch(headers.getSetCookie()[0], /Secure/);
  const ann = await Client.join(t, server, "ann", ["a", "b", "c"]);
  const refused = await ann.refused("too_many_rooms", "chat:join", "d");
  assert.match(refused.message, / 3 /, "the file's, as nothing overrides it");
  await until(() => server.log.includes("a new one begins"), "what happens is told");
  // A flag or a key that is empty is a mistake.
  for (const name of ["redis", "data-dir", "listen", "jwt-secret"]) {
    const { code, output } = await runToEnd(["--data-dir", temporaryFolder(t), `--${name}=`]);
    assert.ok(code > 0 && output.includes(`--${name}`), output);
  }
});

test("a variable that is no text is named, and a log filter that is none is told", async (t) => {
  const wrong = ["sh", "-c", `export "$1=$(printf '${"x".repeat(40)}\\377')"; shift; exec "$@"`, "sh"];
  for (const name of ["JWT_SECRET", "SOCKEYE_CHAT_ROOMS_MAX"])
    await assert.rejects(
      Server.start(t, { alone: true, env: {}, under: [...wrong, name] }),
      new RegExp(`ended with 1: sockeye-chat: in the environment, ${name}: invalid UTF-8`),
    );
  const server = await Server.start(t, { alone: true, env: { RUST_LOG: "a=b=c" } });
  await until(() => /WARN .*RUST_LOG is passed over: /.test(server.log), "it is told");
});

test("a key that there is not is named, with the file", async (t) => {
  for (const text of ["rooms-mx = 7", "[server]\nlisten = 1", "config = 'x'", "help = true"]) {
    const path = file(t, text);
    const { code, output } = await runToEnd(["--config", path]);
    assert.ok(code > 0);
    assert.ok(
      output.includes(path) &&
        output.includes(`there is no setting \`${/\w[\w-]*/.exec(text)[0]}\``),
      output,
    );
  }
  const flag = await runToEnd(["--rooms-mx", "7"]);
  assert.ok(flag.code > 0);
  assert.match(flag.output, /--rooms-mx/);
});

test("a file that is not there or no TOML is named", async (t) => {
  const none = await runToEnd(["--config", "/nowhere/chat.toml"]);
  assert.match(none.output, /\/nowhere\/chat\.toml: No such file/);
  const path = file(t, "rooms-max 7");
  const { code, output } = await runToEnd(["--config", path]);
  assert.ok(code > 0);
  assert.ok(output.includes(`${path} is not TOML`), output);
});

test("a port that is in use is named", async (t) => {
  const other = createServer();
  await new Promise((resolve) => other.listen(0, "127.0.0.1", resolve));
  t.after(() => other.close());
  const address = `127.0.0.1:${other.address().port}`;
  const { code, output } = await runToEnd(["--listen", address, "--data-dir", temporaryFolder(t)]);
  assert.ok(code > 0);
  assert.ok(output.includes(`cannot listen on ${address}: Address already in use`), output);

  // That of the metrics is found out before anybody is told where the chat is.
  const flags = ["--listen", "127.0.0.1:0", "--admin-listen", address];
  const admin = await runToEnd([...flags, "--data-dir", temporaryFolder(t)]);
  assert.ok(admin.code > 0);
  assert.ok(admin.output.includes(`cannot listen on ${address}: `), admin.output);
  assert.ok(!admin.output.includes("The chat is at"), admin.output);
});

test("a data folder that cannot be made or written to is named", async (t) => {
  const path = file(t, "");
  for (const folder of [path, join(path, "below")]) {
    const { code, output } = await runToEnd(["--listen", "127.0.0.1:0", "--data-dir", folder]);
    assert.ok(code > 0);
    assert.ok(output.includes(`cannot make the data folder ${folder}: `), output);
  }
  // Nobody may write there, whoever runs this.
  const { code, output } = await runToEnd(["--listen", "127.0.0.1:0", "--data-dir", "/sys"]);
  assert.ok(code > 0);
  assert.match(output, /cannot write \/sys\/jwt-secret: /);
});

test("where there was no chat one line says that a new one begins, and where", async (t) => {
  const lines = (log) => log.split("\n").filter((line) => line.includes("a new one begins"));
  // What it prints and what it logs come apart.
  const told = (server) => until(() => lines(server.log).length > 0, "it is told");
  const server = await Server.start(t, { alone: true });
  await told(server);
  const [line, ...more] = lines(server.log);
  assert.deepEqual(more, []);
  assert.ok(line.includes(join(server.data, "chat.redb")), line);
  // Nobody looks on: what a journal or a file gets is plain text.
  assert.doesNotMatch(server.log, /\x1b/);
  await server.restart();
  assert.deepEqual(lines(server.log), [], "it goes on");
  await server.stop();
  writeFileSync(join(server.data, "chat.redb"), "");
  await server.start();
  await told(server);
  assert.equal(lines(server.log).length, 1, "an empty file has no chat either");
  // A path that is not whole is told whole: it depends on where the server was started.
  const cwd = temporaryFolder(t);
  const other = { under: ["env", "-C", cwd], data: "elsewhere", alone: true };
  const elsewhere = await Server.start(t, other);
  await told(elsewhere);
  const [path] = lines(elsewhere.log);
  assert.ok(path.includes(join(cwd, "elsewhere", "chat.redb")), path);
});

test("a second process on the same data folder ends, and the first goes on", async (t) => {
  const first = await Server.start(t);
  const ann = await Client.join(t, first, "ann", "room");
  const { code, output } = await runToEnd(["--listen", "127.0.0.1:0", "--data-dir", first.data], {
    env: { JWT_SECRET: SECRET },
  });
  assert.ok(code > 0);
  assert.match(output, /chat\.redb is in use by another server/);
  assert.ok(await ann.says("room", "still here"));
});

test("a data file that is none of ours is named and left as it is", async (t) => {
  const data = temporaryFolder(t);
  mkdirSync(data, { recursive: true });
  writeFileSync(join(data, "chat.redb"), "not a database".repeat(1000));
  const { code, output } = await runToEnd(["--listen", "127.0.0.1:0", "--data-dir", data]);
  assert.ok(code > 0);
  assert.match(output, /cannot open .*chat\.redb: /);
});
