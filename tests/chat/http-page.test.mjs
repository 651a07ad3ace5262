// The page's files and headers, health, and requests from other origins.

import assert from "node:assert/strict";
import { before, test } from "node:test";

import { Client } from "./lib/client.mjs";
import { Server, token, wholeFile } from "./lib/server.mjs";

const file = wholeFile();
let server;
before(async () => {
  server = await Server.start(file);
});

test("the page comes under a strict policy, with nothing inline and nothing from elsewhere", async () => {
  const response = await fetch(`${server.url}/`);
  assert.equal(response.status, 200);
  assert.equal(response.headers.get("content-type"), "text/html; charset=utf-8");
  const policy = new Map(
    response.headers
      .get("content-security-policy")
      .split("; ")
      .map((line) => {
        const [name, ...values] = line.split(" ");
        return [name, values.join(" ")];
      }),
  );
  assert.equal(policy.get("default-src"), "'none'");
  for (const name of ["script-src", "style-src", "img-src", "connect-src", "form-action"])
    assert.equal(policy.get(name), "'self'");
  assert.equal(policy.get("base-uri"), "'none'");
  assert.equal(policy.get("frame-ancestors"), "'none'");
  assert.equal(policy.get("require-trusted-types-for"), "'script'");
  assert.equal(response.headers.get("x-content-type-options"), "nosniff");
  assert.equal(response.headers.get("referrer-policy"), "no-referrer");
  const page = await response.text();
  assert.doesNotMatch(page, /<script(?![^>]*\ssrc=)|<style|\son\w+=|\sstyle=/i);
  const addresses = [...page.matchAll(/\s(?:src|href)="([^"]*)"/g)].map((match) => match[1]);
  assert.ok(addresses.length >= 3);
  for (const address of addresses) assert.doesNotMatch(address, /^(\w+:|\/\/)/);
});

test("every file of the page has its type and is asked for again by its entity tag", async () => {
  const paths = new Set([""]);
  // Adding to a set goes on with what is added.
  for (const path of paths) {
    const text = await (await fetch(`${server.url}/${path}`)).text();
    const linked = path === "" ? / (?:src|href)="([^"]*)"/g : / from "\.\/([^"]*)"/g;
    if (!path.startsWith("vendor/")) for (const [, name] of text.matchAll(linked)) paths.add(name);
  }
  assert.ok(paths.has("vendor/socket.io.esm.min.js"), "the official client");
  const types = {
    js: "text/javascript; charset=utf-8",
    css: "text/css; charset=utf-8",
    svg: "image/svg+xml",
  };
  for (const path of paths) {
    const response = await fetch(`${server.url}/${path}`);
    assert.equal(response.status, 200, path);
    assert.equal(
      response.headers.get("content-type"),
      types[path.split(".").pop()] ?? "text/html; charset=utf-8",
    );
    assert.ok(response.headers.get("content-security-policy"));
    const tag = response.headers.get("etag");
    for (const known of [tag, `W/${tag}`, `"other", ${tag}`, "*"]) {
      const again = await fetch(`${server.url}/${path}`, { headers: { "if-none-match": known } });
      assert.equal(again.status, 304, known);
      assert.equal(await again.text(), "");
    }
    const changed = await fetch(`${server.url}/${path}`, {
      headers: { "if-none-match": '"other"' },
    });
    assert.equal(changed.status, 200);
    await changed.text();
  }
});

test("what is not there is 404 in words, other methods 405", async () => {
  for (const path of [
    "/nothing",
    "/apinothing",
    "/..%2f..%2fCargo.toml",
    "//etc/passwd",
    "/static/index.html",
  ]) {
    const response = await fetch(server.url + path);
    assert.equal(response.status, 404, path);
    assert.match(response.headers.get("content-type"), /^text\/plain/);
    assert.equal(response.headers.get("x-content-type-options"), "nosniff");
  }
  const head = await fetch(`${server.url}/`, { method: "HEAD" });
  assert.equal(head.status, 200);
  const post = await fetch(`${server.url}/`, { method: "POST" });
  assert.equal(post.status, 405);
  assert.equal(post.headers.get("allow"), "GET, HEAD");
});

test("healthz and readyz say that it is well", async () => {
  for (const path of ["/healthz", "/readyz"])
    assert.equal((await fetch(server.url + path)).status, 200);
});

const polling = (at, origin) =>
  fetch(`${at.url}/socket.io/?EIO=4&transport=polling`, { headers: origin ? { origin } : {} });

test("a page of another origin does not reach Socket.IO, over polling or WebSocket", async (t) => {
  for (const origin of ["https://evil.example", "null", "http://127.0.0.1:1"]) {
    const response = await polling(server, origin);
    assert.equal(response.status, 403, origin);
    assert.equal(response.headers.get("access-control-allow-origin"), null);
    for (const transport of ["websocket", "polling"]) {
      const client = new Client(t, server, "ann", {
        transports: [transport],
        extraHeaders: { origin },
      });
      await client.next("connect_error");
      assert.equal(client.socket.connected, false);
    }
  }
  assert.equal((await polling(server)).status, 200, "what is no browser has no origin");
  assert.equal((await polling(server, server.url)).status, 200, "its own page");
});

test("an origin in --cors-origins does, and others still do not", async (t) => {
  const open = await Server.start(t, {
    flags: ["--cors-origins", "https://a.example,https://b.example:8443"],
  });
  for (const origin of ["https://a.example", "https://b.example:8443"]) {
    const response = await polling(open, origin);
    assert.equal(response.status, 200);
    assert.equal(response.headers.get("access-control-allow-origin"), origin);
    assert.equal(response.headers.get("access-control-allow-credentials"), "true");
    for (const transport of ["websocket", "polling"]) {
      const client = await Client.connect(t, open, "ann", {
        transports: [transport],
        extraHeaders: { origin },
        auth: { token: token("ann") },
      });
      assert.ok(client.session);
    }
  }
  for (const origin of [
    "https://b.example",
    "https://a.example.evil.example",
    "https://evil.example",
  ])
    assert.equal((await polling(open, origin)).status, 403);
});
