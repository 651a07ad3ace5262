// The list of a room's messages: what is on the screen is changed one message at a time.
// Knows a room's timeline; does not know where it comes from.

const FOLLOWS_MS = 300_000;
// So near the end counts as the end.
const END_PIXELS = 60;

export function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

export function avatar(name) {
  // FNV-1a: names that differ a little have other colours.
  const hash =
    [...name].reduce((sum, c) => Math.imul(sum ^ c.codePointAt(0), 0x01000193), 0x811c9dc5) >>> 0;
  const made = element("span", `avatar hue${hash % 8}`, name.slice(0, 2).toUpperCase());
  made.setAttribute("aria-hidden", "true");
  return made;
}

const dayOf = (timestamp) => new Date(timestamp).toDateString();
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const calendar = new Intl.DateTimeFormat(undefined, {
  weekday: "long",
  day: "numeric",
  month: "long",
});

export class MessageList {
  #room = null;
  #me = "";
  #isAtEnd = true;
  #missed = 0;

  // `box` scrolls, `list` and `pending` are in it, `jump` brings back to the end; `outgoing()` and
  // `edit(text)` are for what was not sent.
  constructor({ box, list, pending, empty, jump, outgoing, edit }) {
    Object.assign(this, { box, list, pendingList: pending, empty, jump, outgoing, edit });
    box.addEventListener("scroll", () => this.#scrolled());
    jump.addEventListener("click", () => this.toEnd());
    // Whatever grows or shrinks: who was at the end stays there.
    const follow = new ResizeObserver(() => this.#isAtEnd && this.toEnd());
    for (const one of [box, list, pending]) follow.observe(one);
  }

  // Shows a room (or none), from the first unread message, where it was, or from the end.
  show(room, me) {
    if (this.#room) this.#room.scrolled = this.#isAtEnd ? null : this.box.scrollTop;
    this.#room = room;
    this.#me = me;
    this.box.setAttribute("aria-busy", "true");
    const entries = room?.timeline.entries ?? [];
    this.list.replaceChildren(...entries.map((entry) => this.#item(entry)));
    for (let i = 0; i < entries.length; i += 1) this.#decorate(i);
    this.pending();
    this.#missed = 0;
    this.#isAtEnd = false;
    const unread = this.list.querySelector(".unread-from");
    if (unread) unread.scrollIntoView({ block: "center" });
    else if (room?.scrolled != null) this.box.scrollTop = room.scrolled;
    else this.toEnd();
    this.#scrolled();
    this.box.setAttribute("aria-busy", "false");
  }

  added(index) {
    const { entries } = this.#room.timeline;
    this.list.insertBefore(this.#item(entries[index]), this.list.children[index] ?? null);
    this.#decorate(index);
    if (index + 1 < entries.length) this.#decorate(index + 1);
    if (!this.#isAtEnd && entries[index].message) this.#missed += 1;
    this.#update();
  }

  removed(index) {
    this.list.children[index].remove();
    this.#update();
  }

  trimmed(count) {
    for (let i = 0; i < count; i += 1) this.list.firstElementChild.remove();
    if (this.list.children.length) this.#decorate(0);
  }

  pending() {
    const waiting = this.#room ? this.outgoing().of(this.#room.name) : [];
    this.pendingList.replaceChildren(...waiting.map((one) => this.#pendingItem(one)));
    this.#update();
  }

  toEnd() {
    this.box.scrollTop = this.box.scrollHeight;
    this.#isAtEnd = true;
    this.#missed = 0;
    this.#update();
  }

  get isAtEnd() {
    return this.#isAtEnd;
  }

  #scrolled() {
    this.#isAtEnd = this.box.scrollHeight - this.box.scrollTop - this.box.clientHeight < END_PIXELS;
    if (this.#isAtEnd) this.#missed = 0;
    this.#update();
  }

  #update() {
    const isEmpty = !this.list.childElementCount && !this.pendingList.childElementCount;
    this.empty.hidden = !isEmpty;
    this.jump.hidden = this.#isAtEnd || isEmpty;
    this.jump.textContent = this.#missed ? `↓ ${this.#missed} new` : "↓ To the end";
  }

  #item({ message, line }) {
    if (line) return element("li", "line", line.text);
    const isMine = message.username === this.#me;
    const item = element("li", isMine ? "message mine" : "message");
    item.dataset.id = message.id;
    const author = element("span", "author", message.username);
    const when = new Date(message.timestamp);
    const time = element("time", "", clock.format(when));
    time.dateTime = when.toISOString();
    time.title = when.toLocaleString();
    const body = element("span", "body", message.text);
    body.dir = "auto";
    item.append(avatar(message.username), author, time, body);
    return item;
  }

  // What a message looks like behind the one before it: whether it goes on, another day begins, or
  // what is unread.
  #decorate(index) {
    const { entries } = this.#room.timeline;
    const { message } = entries[index];
    const item = this.list.children[index];
    if (!message) return;
    const before = entries[index - 1]?.message;
    const isUnread = this.#room.firstUnread === message.id;
    const isNewDay = this.#dayBefore(index) !== dayOf(message.timestamp);
    const isSoon =
      before?.username === message.username && message.timestamp - before.timestamp < FOLLOWS_MS;
    item.classList.toggle("follows", isSoon && !isNewDay && !isUnread);
    item.classList.toggle("unread-from", isUnread);
    this.#mark(item, "new", isUnread && "New");
    this.#mark(item, "day", isNewDay && calendar.format(message.timestamp));
  }

  // Lines may stand between.
  #dayBefore(index) {
    const { entries } = this.#room.timeline;
    for (let i = index - 1; i >= 0; i -= 1)
      if (entries[i].message) return dayOf(entries[i].message.timestamp);
    return null;
  }

  #mark(item, className, text) {
    const mark = item.querySelector(`:scope > .${className}`);
    if (!text) mark?.remove();
    else if (!mark) item.prepend(element("span", className, text));
  }

  #pendingItem(one) {
    const item = element("li", one.error ? "message mine pending failed" : "message mine pending");
    const body = element("span", "body", one.text);
    body.dir = "auto";
    item.append(body);
    if (!one.error) {
      item.append(element("span", "note", "Not sent yet"));
      return item;
    }
    const note = element("span", "note", `Not sent: ${one.error} `);
    note.setAttribute("role", "alert");
    const button = (text, act) => {
      const made = element("button", "plain small", text);
      made.type = "button";
      made.addEventListener("click", act);
      return made;
    };
    const edit = () => {
      this.outgoing().discard(one);
      this.edit(one.text);
    };
    note.append(
      button("Try again", () => this.outgoing().retry(one)),
      " ",
      button("Edit", edit),
    );
    item.append(note);
    return item;
  }
}
