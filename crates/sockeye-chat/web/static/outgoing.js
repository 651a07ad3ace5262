// Messages on their way: sent one after the other, each until the server has acknowledged it.
// Knows neither the connection nor the page; `ask` sends, `changed` is told.
//
// Each message has a key of its own. Sent again with the same key, after an acknowledgement was
// lost, it is the same message to the server: none is lost, none is there twice.

// How long is waited where the server fails, at first and at last.
const AGAIN_MS = 250;
const AGAIN_MS_MAX = 5000;
// No server can be told to take more. Far beyond that a message would end the connection, and with
// it every one that it is sent over again.
const TEXT_CHARACTERS_MAX = 100_000;

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// How long to wait before something is asked again; null where the answer stands. A server that
// fails, as while its Redis is away, will be in order again.
export function againMs(answer, failures) {
  if (answer.code === "too_fast") return answer.data.retryAfterMs;
  if (answer.code === "internal") return Math.min(AGAIN_MS * 2 ** failures, AGAIN_MS_MAX);
  return null;
}

// Whether a text has more characters, as the server counts them.
export function isTooLong(text, max) {
  return text.length > max && (text.length > 2 * max || [...text].length > max);
}

export class Outgoing {
  #queue = [];
  #isSending = false;
  #failures = 0;

  // `ask(message)` gives the server's acknowledgement and throws where none came; `isReady(room)`
  // tells whether asking makes sense now.
  constructor({ ask, isReady, changed }) {
    Object.assign(this, { ask, isReady, changed });
  }

  get size() {
    return this.#queue.length;
  }

  // The messages of a room that are not there yet, oldest first.
  of(room) {
    return this.#queue.filter((one) => one.room === room && !one.isHere);
  }

  send(room, text) {
    this.#queue.push({ room, text, key: newKey(), error: null, isHere: false });
    this.changed(room);
    this.resume();
  }

  retry(one) {
    one.error = null;
    this.changed(one.room);
    this.resume();
  }

  discard(one) {
    this.#remove(one);
    this.changed(one.room);
  }

  // A room is left: what was not sent will not be.
  forget(room) {
    this.#queue = this.#queue.filter((one) => one.room !== room);
  }

  // One of our messages has arrived in the room, before its acknowledgement. It need not be shown
  // twice; should it be another with the same words, ours arrives later.
  arrived(room, text) {
    const one = this.#queue.find(
      (one) => one.room === room && one.text === text && !one.isHere && !one.error,
    );
    if (!one) return;
    one.isHere = true;
    this.changed(room);
  }

  // Goes on where there is something to send and a way to send it.
  async resume() {
    if (this.#isSending) return;
    this.#isSending = true;
    for (let one; (one = this.#next());) {
      if (!(await this.#deliver(one))) break;
    }
    this.#isSending = false;
  }

  #next() {
    return this.#queue.find((one) => !one.error && this.isReady(one.room));
  }

  // Whether to go on: where no answer came, the next connection does.
  async #deliver(one) {
    if (isTooLong(one.text, TEXT_CHARACTERS_MAX)) {
      one.error = "It is too long.";
      this.changed(one.room);
      return true;
    }
    let answer;
    try {
      answer = await this.ask({ room: one.room, text: one.text, key: one.key });
    } catch {
      return false;
    }
    const again = againMs(answer, this.#failures);
    this.#failures = again === null ? 0 : this.#failures + 1;
    if (again !== null) {
      await pause(again);
      return true;
    }
    if (answer.status === "ok") this.#remove(one);
    else Object.assign(one, { error: answer.message, isHere: false });
    this.changed(one.room);
    return true;
  }

  #remove(one) {
    this.#queue = this.#queue.filter((other) => other !== one);
  }
}

// 128 random bits; `crypto.randomUUID` is for secure contexts alone.
function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
