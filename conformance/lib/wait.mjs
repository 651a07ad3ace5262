// Waiting on conditions with a bound; the suite has no fixed sleeps.
// Knows nothing of servers or protocols.

import { setTimeout as sleep } from "node:timers/promises";

/** Generous: a shared, noisy machine must not fail a test that would have passed. */
export const PATIENCE = 20_000;
const POLL_INTERVAL = 10;

/** Waits until `condition` holds (a truthy value, which is returned). */
export async function until(what, condition, timeout = PATIENCE) {
  const deadline = Date.now() + timeout;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > deadline) throw new Error(`waited ${timeout} ms in vain: ${what}`);
    await sleep(POLL_INTERVAL);
  }
}

/** The promise's outcome, or an error that says what was waited for. */
export function within(what, promise, timeout = PATIENCE) {
  let timer;
  const expired = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited ${timeout} ms in vain: ${what}`)), timeout);
  });
  return Promise.race([promise, expired]).finally(() => clearTimeout(timer));
}

/** Lets a deadline of the server pass: waits until the clock says `ms` after `since`. */
export function elapsed(ms, since = Date.now()) {
  return until(`${ms} ms to pass`, () => Date.now() - since >= ms, ms + PATIENCE);
}

/** A queue whose reader may wait for what has not come yet. */
export class Inbox {
  #items = [];
  #waiting = [];
  #ended;

  push(item) {
    const waiter = this.#waiting.shift();
    if (waiter) waiter.resolve(item);
    else this.#items.push(item);
  }

  /** After the last item every `next` is rejected with `error`. */
  end(error) {
    this.#ended = error;
    for (const waiter of this.#waiting.splice(0)) waiter.reject(error);
  }

  next(what = "the next item") {
    if (this.#items.length > 0) return Promise.resolve(this.#items.shift());
    if (this.#ended) return Promise.reject(this.#ended);
    const promise = new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
    return within(what, promise);
  }

  get size() {
    return this.#items.length;
  }
}

/** Runs `task(0..count)` with at most `limit` of them at once. */
export async function inParallel(count, limit, task) {
  let started = 0;
  const worker = async () => {
    while (started < count) await task(started++);
  };
  await Promise.all(Array.from({ length: Math.min(limit, count) }, worker));
}
