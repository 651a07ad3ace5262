// The page: signs in, keeps the connection, and shows rooms. Text is only ever set as text.

import { io } from "./vendor/socket.io.esm.min.js";
import * as api from "./api.js";

const $ = (id) => document.getElementById(id);
const rooms = new Map(); // name -> { messages: Map(id -> message), lines, members, unread, pending, typing }
let current = null;
let socket = null;
let sessionId = null;

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function avatar(name) {
  const hue = [...name].reduce((sum, c) => (sum * 31 + c.codePointAt(0)) >>> 0, 7) % 8;
  const made = element("span", `avatar hue${hue}`, name.slice(0, 2).toUpperCase());
  made.setAttribute("aria-hidden", "true");
  return made;
}

function room(name) {
  if (!rooms.has(name)) {
    rooms.set(name, { messages: new Map(), lines: [], members: new Set(), unread: 0, pending: [], typing: new Map() });
  }
  return rooms.get(name);
}

// ---- signing in

async function submit(path) {
  $("sign-in-error").textContent = "";
  try {
    await api.signIn(path, $("username").value.trim(), $("password").value);
    $("password").value = "";
    enter();
  } catch (error) {
    $("sign-in-error").textContent = error.message;
    $("username").focus();
  }
}

function showSignIn() {
  $("chat").hidden = true;
  $("sign-in").hidden = false;
  $("username").focus();
}

function enter() {
  $("sign-in").hidden = true;
  $("chat").hidden = false;
  $("me").textContent = api.user().username;
  connect();
  show();
  // Where the rooms are a drawer it is open until there is one.
  $("side").classList.add("open");
  $("join-name").focus();
}

// ---- the connection

function state(text, kind = "") {
  $("state").textContent = text;
  $("state").className = kind;
}

function connect() {
  state("connecting…");
  socket = io({
    auth: (give) => api.token().then((token) => give({ token }), () => give({})),
    reconnectionDelay: 300,
    reconnectionDelayMax: 3000,
  });
  socket.on("connect", onConnect);
  socket.on("disconnect", (reason) => {
    state("reconnecting…");
    if (reason === "io server disconnect") socket.connect();
  });
  socket.on("connect_error", onConnectError);
  socket.io.on("reconnect_attempt", (attempt) => state(`reconnecting, attempt ${attempt}…`));
  socket.on("session:created", (session) => {
    sessionId = session.sessionId;
  });
  socket.on("chat:history", ({ room: name, messages }) => messages.forEach((message) => receive(name, message, true)));
  socket.on("chat:message", (message) => receive(message.room, message, false));
  socket.on("chat:userJoined", ({ username, room: name }) => presence(name, username, true));
  socket.on("chat:userLeft", ({ username, room: name }) => presence(name, username, false));
  socket.on("chat:typing", ({ username, room: name }) => {
    clearTimeout(room(name).typing.get(username));
    room(name).typing.set(username, setTimeout(() => stopTyping(name, username), 3000));
    showTyping();
  });
}

async function onConnect() {
  state("online", "online");
  const names = [...rooms.keys()];
  const earlier = sessionId;
  if (earlier && names.length) socket.emit("session:restore", earlier);
  // Joining again brings the history, which fills what was missed; each message has an id.
  for (const name of names) await join(name);
  for (const name of names) resend(name);
}

async function onConnectError(error) {
  if (error.data?.code === "token_expired") {
    api.expire();
    setTimeout(() => socket.connect(), 100);
    return;
  }
  if (error.data?.code) {
    leaveAll("Please sign in again.");
    return;
  }
  state(navigator.onLine ? "reconnecting…" : "offline", navigator.onLine ? "" : "offline");
}

function leaveAll(why) {
  socket?.disconnect();
  socket = null;
  sessionId = null;
  rooms.clear();
  current = null;
  $("sign-in-error").textContent = why;
  showSignIn();
}

const ask = (event, ...args) => socket.timeout(10_000).emitWithAck(event, ...args);

// ---- rooms

async function join(name) {
  try {
    const answer = await ask("chat:join", name);
    if (answer.status !== "ok") throw new Error(answer.message);
    room(name).members = new Set(answer.members);
    show();
    return true;
  } catch (error) {
    if (socket?.connected) line(room(name), error.message);
    return false;
  }
}

async function leave(name) {
  await ask("chat:leave", name).catch(() => null);
  rooms.delete(name);
  if (current === name) current = rooms.keys().next().value ?? null;
  show();
}

function open(name) {
  current = name;
  room(name).unread = 0;
  $("side").classList.remove("open");
  $("menu").setAttribute("aria-expanded", "false");
  show();
  $("text").focus();
}

function presence(name, username, here) {
  const at = room(name);
  if (here) at.members.add(username);
  else at.members.delete(username);
  stopTyping(name, username);
  line(at, `${username} ${here ? "joined" : "left"}`);
}

function line(at, text) {
  const last = [...at.messages.keys()].at(-1) ?? "0";
  at.lines.push({ after: Number(last), text });
  show();
}

function stopTyping(name, username) {
  clearTimeout(rooms.get(name)?.typing.get(username));
  rooms.get(name)?.typing.delete(username);
  showTyping();
}

// ---- messages

function receive(name, message, old) {
  if (!rooms.has(name)) return;
  const at = room(name);
  if (at.messages.has(message.id)) return;
  at.messages.set(message.id, message);
  if (old) at.messages = new Map([...at.messages].sort(([a], [b]) => a - b));
  settle(at, message);
  stopTyping(name, message.username);
  if (!old && (name !== current || document.hidden)) at.unread += 1;
  show();
}

// A message of ours that came back is no longer pending, even if its acknowledgement was lost.
function settle(at, message) {
  if (message.username !== api.user()?.username) return;
  const index = at.pending.findIndex((one) => one.id === message.id || (!one.id && one.text === message.text));
  if (index >= 0) at.pending.splice(index, 1);
}

function send(text) {
  const one = { text, id: null, error: null };
  room(current).pending.push(one);
  show();
  deliver(current, one);
}

async function deliver(name, one) {
  if (!socket.connected) return; // sent again after the next connect
  one.error = null;
  try {
    const answer = await ask("chat:message", { room: name, text: one.text });
    if (answer.status === "ok") {
      one.id = answer.id;
      const at = rooms.get(name);
      if (at?.messages.has(answer.id)) at.pending = at.pending.filter((other) => other !== one);
    } else {
      one.error = answer.message;
    }
  } catch {
    if (socket.connected) one.error = "No answer from the server.";
  }
  show();
}

// History has come: what was delivered before the connection broke is there and settled.
function resend(name) {
  for (const one of rooms.get(name)?.pending ?? []) if (!one.id && !one.error) deliver(name, one);
}

// ---- showing

function show() {
  const at = current && rooms.get(current);
  $("room-title").textContent = current ?? "Sockeye chat";
  $("text").disabled = $("send").disabled = !at;
  $("rooms").replaceChildren(...[...rooms].map(([name, one]) => roomItem(name, one)));
  const members = at ? [...at.members].sort() : [];
  $("members").replaceChildren(...members.map((name) => {
    const item = element("li");
    item.append(avatar(name), element("span", "", name));
    return item;
  }));
  showMessages(at);
  showTyping();
  const unread = [...rooms.values()].reduce((sum, one) => sum + one.unread, 0);
  document.title = unread ? `(${unread}) Sockeye chat` : "Sockeye chat";
}

function roomItem(name, one) {
  const item = element("li");
  const button = element("button", "room", `# ${name}`);
  button.setAttribute("aria-current", String(name === current));
  if (one.unread) {
    const mark = element("span", "unread", String(one.unread));
    mark.setAttribute("aria-label", `${one.unread} unread`);
    button.append(mark);
  }
  button.addEventListener("click", () => open(name));
  const away = element("button", "leave", "×");
  away.setAttribute("aria-label", `Leave ${name}`);
  away.addEventListener("click", () => leave(name));
  item.append(button, away);
  return item;
}

function showMessages(at) {
  const list = $("messages");
  const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 80;
  if (!at || (!at.messages.size && !at.pending.length && !at.lines.length)) {
    list.replaceChildren(element("li", "empty", at ? "Nobody has said anything yet." : "Join a room to begin."));
    return;
  }
  const items = [];
  let lines = [...at.lines];
  let before = null;
  const addLines = (until) => {
    for (const one of lines.filter((one) => one.after < until)) {
      items.push(element("li", "line", one.text));
      before = null;
    }
    lines = lines.filter((one) => one.after >= until);
  };
  for (const message of at.messages.values()) {
    addLines(Number(message.id));
    items.push(messageItem(message, before));
    before = message;
  }
  addLines(Infinity);
  for (const one of at.pending) items.push(pendingItem(one));
  list.replaceChildren(...items);
  if (atEnd) list.scrollTop = list.scrollHeight;
}

function messageItem(message, before) {
  const follows = before?.username === message.username && message.timestamp - before.timestamp < 300_000;
  const mine = message.username === api.user()?.username ? " mine" : "";
  const item = element("li", `message${mine}${follows ? " follows" : ""}`);
  item.dataset.id = message.id;
  const author = element("span", "author", message.username);
  const time = element("time", "", new Date(message.timestamp).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }));
  author.append(time);
  item.append(avatar(message.username), author, element("span", "body", message.text));
  return item;
}

function pendingItem(one) {
  const item = element("li", "message mine pending follows");
  item.append(element("span", "body", one.text));
  if (one.error) {
    const failed = element("span", "failed", `${one.error} `);
    const again = element("button", "plain", "Try again");
    const name = current;
    again.addEventListener("click", () => deliver(name, one));
    failed.append(again);
    item.append(failed);
  }
  return item;
}

function showTyping() {
  const names = [...(rooms.get(current)?.typing.keys() ?? [])];
  $("typing").textContent = names.length ? `${names.join(", ")} ${names.length > 1 ? "are" : "is"} typing…` : "";
}

// ---- what a person does

$("sign-in-form").addEventListener("submit", (event) => {
  event.preventDefault();
  submit("/api/login");
});
$("register").addEventListener("click", () => submit("/api/register"));
$("logout").addEventListener("click", async () => {
  await api.signOut().catch(() => null);
  leaveAll("");
});
$("join-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const name = $("join-name").value.trim();
  if (!name) return;
  $("join-name").value = "";
  room(name);
  if (await join(name)) open(name);
});
$("menu").addEventListener("click", () => {
  $("menu").setAttribute("aria-expanded", String($("side").classList.toggle("open")));
});
function submitText() {
  const text = $("text").value;
  if (!text.trim() || !current) return;
  $("text").value = "";
  send(text);
}
$("compose").addEventListener("submit", (event) => {
  event.preventDefault();
  submitText();
});
let typedAt = 0;
$("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    submitText();
  } else if (current && socket?.connected && Date.now() - typedAt > 1500) {
    typedAt = Date.now();
    socket.emit("chat:typing", current);
  }
});
document.addEventListener("keydown", (event) => {
  if (!event.altKey || !["ArrowUp", "ArrowDown"].includes(event.key) || !rooms.size) return;
  event.preventDefault();
  const names = [...rooms.keys()];
  const step = event.key === "ArrowDown" ? 1 : names.length - 1;
  open(names[(names.indexOf(current) + step) % names.length]);
});
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && current) {
    room(current).unread = 0;
    show();
  }
});

api.refresh().then(enter, showSignIn);
