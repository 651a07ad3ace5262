// What the browser keeps for the page, and its locks. Where it keeps nothing, as with site data
// blocked, the window does while it is open.

class Memory {
  #items = new Map();

  getItem(name) {
    return this.#items.get(name) ?? null;
  }

  setItem(name, text) {
    this.#items.set(name, text);
  }

  removeItem(name) {
    this.#items.delete(name);
  }

  clear() {
    this.#items.clear();
  }
}

function storage(name) {
  try {
    return window[name];
  } catch {
    return new Memory();
  }
}

export const local = storage("localStorage");
export const session = storage("sessionStorage");
export const all = [local, session];

// Locks are for secure contexts alone, and for pages that may keep something.
export const hasLocks = Boolean(navigator.locks) && !(local instanceof Memory);
