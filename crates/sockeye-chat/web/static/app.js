// The page: signing in, the list of rooms, who is here, and what a person does. Text is only ever
// set as text.

import * as api from "./api.js";
import { Chat } from "./chat.js";
import { MessageList, avatar, element } from "./messages.js";
import * as storage from "./storage.js";

const $ = (id) => document.getElementById(id);
const TYPING_MS = 1500;
const SIGN_OUT_AGAIN_MS = 5000;
const TITLE = "Sockeye chat";
const STATES = {
  connecting: "Connecting…",
  online: "Online",
  reconnecting: "Reconnecting…",
  offline: "Offline",
};

let chat = null;
let current = null;
let typedAt = 0;
let frame = 0;

const messages = new MessageList({
  box: $("box"),
  list: $("messages"),
  pending: $("pending"),
  empty: $("empty"),
  jump: $("jump"),
  outgoing: () => chat.outgoing,
  edit: (text) => compose(text),
});

// ---- signing in

async function submit(path) {
  showErrors({});
  const busy = [$("login"), $("register")];
  for (const button of busy) button.disabled = true;
  try {
    await api.signIn(path, $("username").value.trim(), $("password").value);
    $("password").value = "";
    enter();
  } catch (error) {
    const isReached = error instanceof api.ApiError;
    showErrors(
      isReached ? error.fields : {},
      isReached ? error.message : "The server cannot be reached.",
    );
  } finally {
    for (const button of busy) button.disabled = false;
  }
}

// What is wrong, beside the field that it is wrong with.
function showErrors(fields, message = "") {
  let first = null;
  for (const name of ["username", "password"]) {
    $(`${name}-error`).textContent = fields[name] ?? "";
    $(name).setAttribute("aria-invalid", String(name in fields));
    if (name in fields) first ??= $(name);
  }
  $("sign-in-error").textContent = first ? "" : message;
  if (message) (first ?? $("username")).focus();
}

function showSignIn(why) {
  chat?.stop();
  chat = null;
  current = null;
  document.title = TITLE;
  $("chat").hidden = true;
  $("sign-in").hidden = false;
  showErrors({}, why);
  $("username").focus();
}

function enter() {
  $("sign-in").hidden = true;
  $("chat").hidden = false;
  $("me").textContent = api.user().username;
  $("text").value = "";
  chat = new Chat(listener);
  const { names, open } = remembered();
  chat.start(names);
  if (names.length) show(names.includes(open) ? open : names[0]);
  else show(null);
}

// ---- the rooms of the last time, as long as one is signed in

const memory = () => `sockeye-rooms-${api.user().id}`;

function remembered() {
  try {
    // Each window has rooms of its own; a new one begins with those of the last that changed. What
    // another window has forgotten is forgotten here.
    const shared = storage.local.getItem(memory());
    const { names, open } = JSON.parse(shared && (storage.session.getItem(memory()) ?? shared));
    return { names: names.filter((name) => typeof name === "string"), open };
  } catch {
    return { names: [] };
  }
}

function remember() {
  if (!chat || !api.user()) return;
  const rooms = JSON.stringify({ names: [...chat.rooms.keys()], open: current });
  for (const one of storage.all) one.setItem(memory(), rooms);
}

// ---- what the chat tells

const isCurrent = (room) => room.name === current;

const listener = {
  connection(state) {
    $("state").className = state;
    $("state").textContent = STATES[state];
    $("banner").hidden = state === "online" || state === "connecting";
    $("banner").textContent =
      state === "offline"
        ? "You are offline. What you write is sent when the network is back."
        : "The connection is lost; trying again. What you write is sent when it is back.";
  },
  rooms() {
    if (current && !chat.rooms.has(current)) show(chat.rooms.keys().next().value ?? null);
    else showRooms();
    remember();
  },
  // Where many come and go at once the list is made once a frame.
  members: (room) => isCurrent(room) && !frame && (frame = requestAnimationFrame(showMembers)),
  typing: (room) => isCurrent(room) && showTyping(),
  unread: () => showRooms(),
  pending: (room) => isCurrent(room) && messages.pending(),
  added: (room, index) => isCurrent(room) && messages.added(index),
  removed: (room, index) => isCurrent(room) && messages.removed(index),
  trimmed: (room, count) => isCurrent(room) && messages.trimmed(count),
  isSeen: (room) => isCurrent(room) && !document.hidden,
  ended: showSignIn,
};

// ---- showing

function show(name) {
  if (current && chat.rooms.has(current)) chat.rooms.get(current).draft = $("text").value;
  current = name;
  const room = chat.rooms.get(name);
  $("room-title").textContent = name ?? TITLE;
  $("room-title").classList.toggle("is-room", Boolean(room));
  $("empty-title").textContent = room ? "No messages yet" : "Join a room to begin";
  $("empty-text").textContent = room
    ? "Say hello: whoever joins later sees it too."
    : "Rooms are made by joining them. Others find you there by the same name.";
  $("suggestion").hidden = Boolean(room);
  $("compose").hidden = !room;
  $("text").value = room?.draft ?? "";
  $("join-error").textContent = "";
  messages.show(room, api.user().username);
  if (room) Object.assign(room, { unread: 0, firstUnread: null });
  showRooms();
  showMembers();
  showTyping();
  remember();
  // Where the rooms are a drawer it is open until there is a room.
  drawer(!room);
  if (!room) $("join-name").focus();
  // Without a keyboard the focus would bring one up over half the screen.
  else if (matchMedia("(hover: hover)").matches) $("text").focus();
}

const items = new Map();

// One item per room, kept as long as the room is: the focus stays where it is.
function showRooms() {
  for (const [name, item] of items) {
    if (chat.rooms.has(name)) continue;
    item.remove();
    items.delete(name);
  }
  for (const room of chat.rooms.values()) {
    const item = items.get(room.name) ?? roomItem(room.name);
    const [button] = item.children;
    button.setAttribute("aria-current", String(isCurrent(room)));
    button.querySelector(".unread")?.remove();
    if (!room.unread) continue;
    const mark = element("span", "unread", room.unread > 99 ? "99+" : String(room.unread));
    mark.ariaLabel = `${room.unread} unread`;
    button.append(mark);
  }
  const unread = [...chat.rooms.values()].reduce((sum, room) => sum + room.unread, 0);
  document.title = `${unread ? `(${unread}) ` : ""}${current ? `${current} – ` : ""}${TITLE}`;
}

function roomItem(name) {
  const item = element("li");
  const button = element("button", "room");
  const label = element("span", "name", name);
  label.dir = "auto";
  button.append(label);
  button.title = name;
  button.addEventListener("click", () => show(name));
  const away = element("button", "leave", "×");
  away.setAttribute("aria-label", `Leave ${name}`);
  away.title = `Leave ${name}`;
  away.addEventListener("click", () => chat.leave(name));
  item.append(button, away);
  items.set(name, item);
  $("rooms").append(item);
  return item;
}

function showMembers() {
  frame = 0;
  if (!chat) return;
  const names = [...(chat.rooms.get(current)?.members ?? [])].sort((a, b) => a.localeCompare(b));
  $("here").hidden = !current;
  $("member-count").textContent = names.length ? `· ${names.length}` : "";
  const { username } = api.user();
  $("members").replaceChildren(
    ...names.map((name) => {
      const item = element("li", name === username ? "me" : "");
      item.append(avatar(name), element("span", "name", name));
      if (name === username) item.append(element("span", "you", "(you)"));
      return item;
    }),
  );
}

function showTyping() {
  const names = [...(chat.rooms.get(current)?.typing.keys() ?? [])];
  const who = names.length > 3 ? `${names.length} people` : names.join(", ");
  $("typing").textContent = names.length ? `${who} ${names.length > 1 ? "are" : "is"} typing…` : "";
}

function drawer(isOpen) {
  $("side").classList.toggle("open", isOpen);
  $("menu").setAttribute("aria-expanded", String(isOpen));
}

// ---- what a person does

$("sign-in-form").addEventListener("submit", (event) => {
  event.preventDefault();
  submit("/api/login");
});
$("register").addEventListener("click", () => submit("/api/register"));
$("logout").addEventListener("click", () => {
  for (const one of storage.all) one.removeItem(memory());
  const signingOut = api.signOut();
  showSignIn("");
  finishSignOut(signingOut);
});

let signOutTimer = 0;

// Until the server knows of it, whoever has this browser could come back in: it is told by itself
// as soon as it can be, and at once where somebody asks for that.
async function finishSignOut(signingOut = api.finishSignOut()) {
  clearTimeout(signOutTimer);
  const isTold = await signingOut.then(
    () => true,
    () => false,
  );
  $("signing-out").textContent = isTold
    ? ""
    : "The server could not be told yet that you have signed out. Leave this page open: it tries again.";
  if (isTold && document.activeElement === $("sign-out-again")) $("username").focus();
  $("sign-out-again").hidden = isTold;
  if (!isTold) signOutTimer = setTimeout(finishSignOut, SIGN_OUT_AGAIN_MS);
}

$("sign-out-again").addEventListener("click", () => {
  $("signing-out").textContent = "Telling the server that you have signed out…";
  finishSignOut();
});
addEventListener("online", () => api.isSigningOut() && finishSignOut());

async function join(name) {
  $("join-error").textContent = "";
  if (!name) return;
  try {
    await chat.join(name);
    $("join-name").value = "";
    show(name);
  } catch (error) {
    $("join-error").textContent = error.message;
    $("join-name").focus();
  }
}

$("join-form").addEventListener("submit", (event) => {
  event.preventDefault();
  // What looks the same is the same room, however a keyboard composes it.
  join($("join-name").value.trim().normalize("NFC"));
});
$("suggestion").addEventListener("click", () => join("lobby"));
$("menu").addEventListener("click", () => drawer(!$("side").classList.contains("open")));
$("conversation").addEventListener("click", () => current && drawer(false));

function compose(text) {
  const before = $("text").value;
  $("text").value = before ? `${text}\n${before}` : text;
  $("text").focus();
}

function send() {
  const text = $("text").value;
  if (!text.trim() || !current) return;
  $("text").value = "";
  typedAt = 0;
  messages.toEnd();
  chat.send(current, text);
}

$("compose").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
  $("text").focus();
});
$("text").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  send();
});
$("text").addEventListener("input", () => {
  if (!$("text").value || Date.now() - typedAt < TYPING_MS) return;
  typedAt = Date.now();
  chat.type(current);
});

document.addEventListener("keydown", (event) => {
  if (!chat) return;
  if (event.key === "Escape" && current) {
    drawer(false);
    $("text").focus();
  }
  const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
  if (!event.altKey || !step || !chat.rooms.size) return;
  event.preventDefault();
  const names = [...chat.rooms.keys()];
  show(names[(names.indexOf(current) + step + names.length) % names.length]);
});
document.addEventListener("visibilitychange", () => {
  const room = chat?.rooms.get(current);
  if (document.hidden || !room?.unread) return;
  // They came while nobody looked: where they begin is shown, as when the room is opened.
  messages.show(room, api.user().username);
  Object.assign(room, { unread: 0, firstUnread: null });
  showRooms();
});
addEventListener("beforeunload", (event) => {
  if (chat?.outgoing.size) event.preventDefault();
});

api.onEnded((why) => {
  storage.session.clear();
  showSignIn(why);
});
if (api.isSigningOut()) finishSignOut().then(() => showSignIn(""));
else
  api
    .refresh()
    .then(enter, (error) =>
      showSignIn(error.status === 401 ? "" : "The server cannot be reached."),
    );
