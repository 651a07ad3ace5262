// What a room shows, in its order: messages by their ids, and lines (who came, who went) where they
// came. Knows neither the connection nor the page.

export class Timeline {
  // Each is { message } or { line }.
  entries = [];
  #ids = new Set();

  has(id) {
    return this.#ids.has(id);
  }

  get size() {
    return this.#ids.size;
  }

  // Adds a message where it belongs and returns its index, or -1 if it is there. Most go to the
  // end; after an interruption some belong before what has come live.
  add(message) {
    if (this.#ids.has(message.id)) return -1;
    this.#ids.add(message.id);
    let index = this.entries.length;
    for (let i = index - 1; i >= 0; i -= 1) {
      const other = this.entries[i].message;
      if (!other) continue;
      if (Number(other.id) < Number(message.id)) break;
      index = i;
    }
    this.entries.splice(index, 0, { message });
    return index;
  }

  // The id of the newest message, or null.
  get newest() {
    return this.entries.findLast((entry) => entry.message)?.message.id ?? null;
  }

  // Adds a line at the end, or before the messages that are newer than `after`.
  addLine(line, after = Infinity) {
    const newer = this.entries.findIndex(({ message }) => Number(message?.id) > Number(after));
    const index = newer < 0 ? this.entries.length : newer;
    this.entries.splice(index, 0, { line });
    return index;
  }

  // Takes the last line away again, if it is one that `matches`. Returns its index, or -1.
  undoLine(matches) {
    const last = this.entries.length - 1;
    const line = this.entries[last]?.line;
    if (!line || !matches(line)) return -1;
    this.entries.pop();
    return last;
  }

  // Forgets the oldest entries and returns how many.
  trim(max) {
    const removed = this.entries.splice(0, Math.max(0, this.entries.length - max));
    for (const { message } of removed) if (message) this.#ids.delete(message.id);
    return removed.length;
  }
}
