// Raw HTTP: the official client's files, served beside Engine.IO. FEATURES B1 (serveClient), A4, H 71.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { brotliDecompressSync, gunzipSync, inflateSync } from "node:zlib";
import { PATH, request } from "../lib/http.mjs";
import { serverFor, sockeyeOnly, useServer } from "../lib/server.mjs";

const ORIGIN = "http://allowed.example";
const SOURCES = ["socket.io", "socket.io.min", "socket.io.esm.min", "socket.io.msgpack.min"];
const DECODE = { br: brotliDecompressSync, gzip: gunzipSync, deflate: inflateSync };
const PACKAGE = new URL("../node_modules/socket.io/", import.meta.url);

const { version } = JSON.parse(await readFile(new URL("package.json", PACKAGE)));
const etag = `"${version}"`;
const server = await useServer({ serveClient: true, cors: { origin: ORIGIN } });

test("B1 each file comes as it is, and in each coding", async () => {
  for (const name of SOURCES.flatMap((source) => [`${source}.js`, `${source}.js.map`])) {
    const file = await readFile(new URL(`client-dist/${name}`, PACKAGE));
    for (const coding of [undefined, "br", "gzip", "deflate", "zstd"]) {
      const headers = coding ? { "Accept-Encoding": coding } : {};
      const { status, headers: got, bytes } = await get(name, { headers });
      assert.equal(status, 200);
      const kind = name.endsWith(".map") ? "json" : "javascript";
      assert.equal(got["content-type"], `application/${kind}; charset=utf-8`);
      assert.equal(got["cache-control"], "public, max-age=0");
      assert.equal(got.etag, etag);
      const encoded = coding in DECODE;
      assert.equal(got["content-encoding"], encoded ? coding : undefined);
      assert(file.equals(encoded ? DECODE[coding](bytes) : bytes), `${name} in ${coding}`);
      assert(!encoded || bytes.length < file.length / 2);
    }
  }
});

test("B1 the coding that the client likes best is taken", async () => {
  for (const [accepted, coding] of [
    ["gzip;q=0.5, br;q=0.8", "br"],
    ["br;q=0, gzip", "gzip"],
    ["br;q=0.1, deflate", "deflate"],
    ["identity", undefined],
  ]) {
    const { headers } = await get("socket.io.min.js", { headers: { "Accept-Encoding": accepted } });
    assert.equal(headers["content-encoding"], coding, accepted);
  }
});

test("H71 a client that has this version is told so, whatever the query", async () => {
  const name = "socket.io.js?v=1&sid=x";
  for (const tag of [etag, `W/${etag}`]) {
    const { status, bytes, headers } = await get(name, { headers: { "If-None-Match": tag } });
    assert.deepEqual([status, bytes.length], [304, 0]);
    assert.equal(headers["content-type"], undefined);
  }
  for (const tag of ['"4.0.0"', version, "W/"]) {
    const { status } = await get(name, { headers: { "If-None-Match": tag } });
    assert.equal(status, 200);
  }
});

test("H71 one of several tags is enough, and caches are told what the answer depends on",
  sockeyeOnly("Node compares the whole header, and says no Vary"), async () => {
    for (const tags of [`"x", ${etag}`, `"x",W/${etag}`, "*"]) {
      const { status, headers } = await get("socket.io.js", { headers: { "If-None-Match": tags } });
      assert.equal(status, 304, tags);
      assert.equal(headers.etag, etag);
    }
    assert.match((await get("socket.io.js")).headers.vary, /Accept-Encoding/);
  });

test("H71 unknown files, and all of them where they are not served, are Engine.IO's", async (t) => {
  const without = await serverFor(t);
  for (const [at, name] of [
    [server, "socket.io.foo.js"],
    [server, "socket.io.js/"],
    [server, "sub/socket.io.js"],
    [server, "package.json"],
    [without, "socket.io.js"],
  ]) {
    const { status, body } = await request(at, { path: PATH + name });
    assert.deepEqual([status, JSON.parse(body).code], [400, 0], name);
  }
});

test("A4 CORS headers go with the files too", async () => {
  for (const headers of [{}, { "If-None-Match": etag }]) {
    const answer = await get("socket.io.js", { headers: { ...headers, Origin: ORIGIN } });
    assert.equal(answer.headers["access-control-allow-origin"], ORIGIN);
    assert.match(answer.headers.vary, /Origin/);
  }
  const preflight = { method: "OPTIONS", headers: { Origin: ORIGIN } };
  assert.equal((await get("socket.io.js", preflight)).status, 204);
});

test("B1 HEAD has the headers alone", async () => {
  const { status, headers, bytes } = await get("socket.io.js", { method: "HEAD" });
  assert.deepEqual([status, headers.etag, bytes.length], [200, etag, 0]);
});

test("B1 other methods are not served", sockeyeOnly("Node serves files by any method"), async () => {
  for (const method of ["POST", "PUT", "DELETE", "OPTIONS"]) {
    const { status, headers } = await get("socket.io.js", { method });
    assert.deepEqual([status, headers.allow], [405, "GET, HEAD"]);
  }
});

test("B1 the files do not keep sessions from being served", async () => {
  const query = { EIO: "4", transport: "polling" };
  assert.equal((await request(server, { query })).status, 200);
});

function get(name, options = {}) {
  return request(server, { path: PATH + name, ...options });
}
