// Page `compression`: what is sent over long-polling, small and large.

import assert from "node:assert/strict";
import { request } from "node:http";
import { test } from "node:test";
import { gunzipSync } from "node:zlib";
import { connect, serve } from "./lib/page.mjs";

const REPORT = "all is well\n".repeat(1_000);

test("the official client gets what it asks for, over each transport", async (t) => {
  const page = await serve(t, "compression");
  for (const transports of [["polling"], ["websocket"]]) {
    const socket = await connect(t, page, { transports });
    assert.equal(await socket.emitWithAck("report", 1_000), REPORT);
  }
});

test("large responses are compressed for who accepts that, small ones are not", async (t) => {
  const page = await serve(t, "compression");
  const open = await get(page, "");
  assert.equal(open.encoding, undefined, "the open packet is small");
  const session = `&sid=${JSON.parse(open.body.toString().slice(1)).sid}`;
  await post(page, session, "40");
  assert.match((await get(page, session)).body.toString(), /^40\{/);

  await post(page, session, '420["report",1000]');
  const large = await get(page, session);
  assert.equal(large.encoding, "gzip");
  assert.equal(gunzipSync(large.body).toString(), `430${JSON.stringify([REPORT])}`);
  assert(large.body.length < REPORT.length / 20, `${large.body.length} bytes`);
  await post(page, session, '421["report",1]');
  assert.equal((await get(page, session)).encoding, undefined);
});

const URL_PATH = "/socket.io/?EIO=4&transport=polling";

function get(page, session) {
  const headers = { "accept-encoding": "gzip" };
  return new Promise((resolve, reject) => {
    const sent = request(page.url + URL_PATH + session, { headers }, async (response) => {
      const chunks = [];
      for await (const chunk of response) chunks.push(chunk);
      resolve({ body: Buffer.concat(chunks), encoding: response.headers["content-encoding"] });
    });
    sent.once("error", reject).end();
  });
}

async function post(page, session, body) {
  const response = await fetch(page.url + URL_PATH + session, { method: "POST", body });
  assert.equal(response.status, 200);
}
