// Plain HTTP requests on a fresh connection each, as bytes as they can be had from node:http.
// Knows nothing of sessions: polling.mjs does.

import { request as httpRequest } from "node:http";
import { within } from "./wait.mjs";

export const PATH = "/socket.io/";

/**
 * Starts a request and leaves it to the caller when to look at the answer.
 * Returns `{sent, answer, abort}`; `answer` is `{status, headers, body, bytes}`.
 */
export function start(server, { method = "GET", path, query, headers = {}, body } = {}) {
  const target = path ?? `${PATH}?${new URLSearchParams(query)}`;
  // Without an agent every request has its own connection: overlapping ones overlap.
  const sent = httpRequest(server.url + target, { method, headers, agent: false });
  const answer = new Promise((resolve, reject) => {
    sent.once("error", reject);
    sent.once("response", (response) => collect(response).then(resolve, reject));
  });
  // Whoever aborts a request is not interested in its failure.
  answer.catch(() => {});
  if (body !== null) sent.end(body);
  return { sent, answer, abort: () => sent.destroy() };
}

/** A request and its whole answer. `body: null` in `start` leaves the body open; not here. */
export function request(server, options = {}) {
  const what = `an answer to ${options.method ?? "GET"} ${options.path ?? PATH}`;
  return within(what, start(server, options).answer);
}

async function collect(response) {
  const chunks = [];
  for await (const chunk of response) chunks.push(chunk);
  const bytes = Buffer.concat(chunks);
  const body = bytes.toString("utf8");
  return { status: response.statusCode, headers: response.headers, bytes, body };
}
