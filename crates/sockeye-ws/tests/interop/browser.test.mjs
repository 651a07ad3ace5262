// The WebSocket of a real browser as the client, the crate as the server: plain, and compressed as
// the browser offers it. CHROMIUM is the browser's binary.
import assert from "node:assert/strict";
import { once } from "node:events";
import { connect as connectTcp, createServer } from "node:net";
import { after, before, test } from "node:test";
import { chromium } from "playwright-core";
import { serve } from "./example.mjs";

const EXTENSIONS = {
  plain: "",
  alone: "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
  takeover: "permessage-deflate",
};
const LENGTHS = [0, 1, 125, 126, 127, 1023, 1024, 65535, 65536, 5 << 20, 3];

let browser;
before(async () => {
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
  });
});
after(() => browser?.close());

/** A server, and a page of its origin whose scripts have `connect`, `bytes` and `text`. */
async function open(t, compression) {
  const server = await serve("interop_server", ...(compression === "plain" ? [] : [EXTENSIONS[compression]]));
  const page = await browser.newPage();
  t.after(async () => {
    await page.close();
    await server.stop();
  });
  await page.addInitScript(helpers);
  await page.goto(server.url.replace("ws:", "http:"));
  return { server, page, url: `${server.url}/` };
}

// Runs in the page.
function helpers() {
  /** A WebSocket whose events come out of `next`, in order; each must be of the expected kind. */
  window.connect = async (url, { protocols = [], opens = true } = {}) => {
    const socket = new WebSocket(url, protocols);
    socket.binaryType = "arraybuffer";
    const events = [];
    let wake = () => {};
    for (const kind of ["open", "message", "error", "close"]) {
      socket.addEventListener(kind, (event) => {
        events.push(event);
        wake();
      });
    }
    socket.next = async (kind) => {
      while (events.length === 0) await new Promise((resolve) => (wake = resolve));
      const event = events.shift();
      if (event.type !== kind) throw new Error(`${event.type} came in place of ${kind}`);
      return event;
    };
    /** How it ended. */
    socket.ended = async () => {
      const { code, reason, wasClean } = await socket.next("close");
      return { code, reason, wasClean };
    };
    if (opens) await socket.next("open");
    return socket;
  };
  // Bytes that differ from place to place.
  window.bytes = (length) => Uint8Array.from({ length }, (_, index) => (index * 31) >> 3);
  window.text = (length) => "añ🐟z".repeat(length / 4);
  window.isSame = (one, other) => {
    const [a, b] = [new Uint8Array(one), new Uint8Array(other)];
    return a.length === b.length && a.every((byte, index) => byte === b[index]);
  };
}

/** A relay that counts what passes. */
async function count(t, url) {
  const { hostname, port } = new URL(url);
  const bytes = { toServer: 0, toBrowser: 0 };
  const relay = createServer((near) => {
    const far = connectTcp(port, hostname);
    near.on("data", (chunk) => (bytes.toServer += chunk.length)).pipe(far);
    far.on("data", (chunk) => (bytes.toBrowser += chunk.length)).pipe(near);
    for (const end of [near, far]) end.on("error", () => {});
  });
  relay.listen(0, "127.0.0.1");
  await once(relay, "listening");
  t.after(() => relay.close());
  return { bytes, url: `ws://127.0.0.1:${relay.address().port}/` };
}

for (const compression of Object.keys(EXTENSIONS)) {
  test(`${compression}: text and binary of all lengths come back as they were`, async (t) => {
    const { page, url } = await open(t, compression);
    const result = await page.evaluate(
      async ({ url, lengths }) => {
        const socket = await connect(url);
        for (const length of lengths) {
          socket.send(text(length));
          const { data } = await socket.next("message");
          if (data !== text(length)) return `text of ${length}`;
          for (const binary of [bytes(length), new Blob([bytes(length)])]) {
            socket.send(binary);
            const { data } = await socket.next("message");
            if (!isSame(data, bytes(length).buffer)) return `binary of ${length}`;
          }
        }
        socket.binaryType = "blob";
        socket.send(bytes(5000));
        const { data } = await socket.next("message");
        if (!isSame(await data.arrayBuffer(), bytes(5000))) return "a blob";
        return socket.extensions;
      },
      { url, lengths: LENGTHS },
    );
    assert.equal(result, EXTENSIONS[compression]);
  });

  test(`${compression}: many messages at once come back in order`, async (t) => {
    const { page, url } = await open(t, compression);
    const count = await page.evaluate(async (url) => {
      const socket = await connect(url);
      const message = (number) => `${number} `.repeat(number % 500);
      for (let number = 0; number < 5000; number++) socket.send(message(number));
      for (let number = 0; number < 5000; number++) {
        if ((await socket.next("message")).data !== message(number)) return number;
      }
      return 5000;
    }, url);
    assert.equal(count, 5000);
  });

  test(`${compression}: fragments are put together, with pings between them`, async (t) => {
    const { page, url } = await open(t, compression);
    const result = await page.evaluate(async (url) => {
      const socket = await connect(`${url}parts`);
      for (const length of [1, 1000, 1001, 100_000]) {
        socket.send(text(4 * length));
        if ((await socket.next("message")).data !== text(4 * length)) return `text of ${length}`;
        socket.send(bytes(length));
        const { data } = await socket.next("message");
        if (!isSame(data, bytes(length).buffer)) return `binary of ${length}`;
      }
      return "all";
    }, url);
    assert.equal(result, "all");
  });

  test(`${compression}: the browser answers pings`, async (t) => {
    const { page, url } = await open(t, compression);
    const answers = await page.evaluate(async (url) => {
      const socket = await connect(`${url}ping`);
      const answers = [];
      for (const payload of ["", "are you there?", "x".repeat(125)]) {
        socket.send(payload);
        answers.push((await socket.next("message")).data);
      }
      return answers;
    }, url);
    assert.deepEqual(answers, ["pong ", "pong are you there?", `pong ${"x".repeat(125)}`]);
  });

  test(`${compression}: close codes and reasons of the browser`, async (t) => {
    const { server, page, url } = await open(t, compression);
    for (const [number, [args, code, line]] of [
      [[], 1005, "without a code"],
      [[1000], 1000, 'with 1000 ""'],
      [[3000, "bye"], 3000, 'with 3000 "bye"'],
      [[4999, "ü".repeat(61)], 4999, `with 4999 "${"ü".repeat(61)}"`],
    ].entries()) {
      const ended = await page.evaluate(
        async ({ url, args }) => {
          const socket = await connect(url);
          socket.close(...args);
          return socket.ended();
        },
        { url: `${url}?${number}`, args },
      );
      // The code is echoed, its reason is not.
      assert.deepEqual(ended, { code, reason: "", wasClean: true });
      await server.line(new RegExp(`^/\\?${number} closed ${line}$`));
    }
  });

  test(`${compression}: close codes and reasons of the server`, async (t) => {
    const { page, url } = await open(t, compression);
    for (const [wish, code, reason] of [
      ["none", 1005, ""],
      ["1000", 1000, ""],
      ["1001 away", 1001, "away"],
      ["1008 tschüß", 1008, "tschüß"],
      ["1011", 1011, ""],
      ["1013 later", 1013, "later"],
      ["3000", 3000, ""],
      [`4999 ${"x".repeat(123)}`, 4999, "x".repeat(123)],
    ]) {
      const ended = await page.evaluate(
        async ({ url, wish }) => {
          const socket = await connect(`${url}close`);
          socket.send(wish);
          return socket.ended();
        },
        { url, wish },
      );
      assert.deepEqual(ended, { code, reason, wasClean: true });
    }
  });

  test(`${compression}: what is on the wire`, async (t) => {
    const { page, url } = await open(t, compression);
    const { bytes, url: through } = await count(t, url);
    const length = await page.evaluate(async (url) => {
      const socket = await connect(url);
      const document = JSON.stringify(Array.from({ length: 2000 }, (_, fish) => ({ fish })));
      for (let time = 0; time < 5; time++) {
        socket.send(document);
        if ((await socket.next("message")).data !== document) throw new Error("another");
      }
      return 5 * document.length;
    }, through);
    for (const [direction, onWire] of Object.entries(bytes)) {
      const share = onWire / length;
      assert.ok(compression === "plain" ? share > 1 : share < 0.4, `${direction}: ${share}`);
    }
  });
}

test("subprotocols: the first of the browser's that the server speaks, or no connection", async (t) => {
  const { page, url } = await open(t, "plain");
  const chosen = await page.evaluate(async (url) => {
    const chosen = [];
    for (const protocols of ["v1", ["v9", "v1", "v2"], []]) {
      chosen.push((await connect(url, { protocols })).protocol);
    }
    const refused = await connect(url, { protocols: ["v9"], opens: false });
    await refused.next("error");
    return [...chosen, (await refused.ended()).code];
  }, url);
  assert.deepEqual(chosen, ["v1", "v1", "", 1006]);
});

test("pages of other origins are refused, and told nothing", async (t) => {
  const { server, url } = await open(t, "plain");
  const page = await browser.newPage();
  t.after(() => page.close());
  await page.addInitScript(helpers);
  // Of this machine too: others may not even ask.
  await page.goto(url.replace("ws://127.0.0.1", "http://localhost"));
  const ended = await page.evaluate(async (url) => {
    const socket = await connect(url, { opens: false });
    await socket.next("error");
    return socket.ended();
  }, url);
  assert.deepEqual(ended, { code: 1006, reason: "", wasClean: false });
  await server.line(/^not accepted: refused with status 403 Forbidden: the origin is not allowed$/);
});

test("who opens the address in a browser reads what is wrong", async (t) => {
  const { page } = await open(t, "plain");
  assert.equal(await page.evaluate(() => document.contentType), "text/plain");
  assert.equal(await page.textContent("body"), "only WebSocket connections are served here");
});

test("a page that is left says goodbye, a server that is killed does not", async (t) => {
  const { server, page, url } = await open(t, "alone");
  const leaving = await browser.newPage();
  await leaving.addInitScript(helpers);
  await leaving.goto(url.replace("ws:", "http:"));
  await leaving.evaluate(async (url) => void (await connect(url)), `${url}?leaving`);
  await leaving.close();
  await server.line(/^\/\?leaving closed with 1001 ""$/);

  await page.evaluate(async (url) => {
    const socket = await connect(url);
    window.ended = new Promise((resolve) => {
      socket.onclose = ({ code, wasClean }) => resolve({ code, wasClean });
    });
  }, url);
  await server.stop();
  assert.deepEqual(await page.evaluate(() => window.ended), { code: 1006, wasClean: false });
});
