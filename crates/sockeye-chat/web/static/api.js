// Accounts over HTTP: what the page knows of its sign-in, and a fresh access token when it is
// asked. Windows of one browser share the refresh token's cookie, so they tell each other who signs
// in and out.

import * as storage from "./storage.js";

const LEASE = "sockeye-refreshing";
const LEASE_MS = 5000;
// How long another window may take to see who has it, or to write that itself, without locks.
const CLAIM_MS = 250;
// There while the server has not been told of a sign-out: until then its cookie is good.
const SIGNING_OUT = "sockeye-signing-out";
const ANSWER_MS = 15_000;

let session = null;
const windows = new BroadcastChannel("sockeye-chat");

export class ApiError extends Error {
  constructor(status, error) {
    super(error?.message ?? `The server answered ${status}.`);
    this.status = status;
    this.fields = error?.fields ?? {};
  }
}

async function post(path, body) {
  const answered = fetch(path, {
    method: "POST",
    headers: body ? { "content-type": "application/json" } : {},
    body: body && JSON.stringify(body),
    // The cookie of a page that is left in the middle is kept all the same; with a signal to abort
    // it would not be.
    keepalive: true,
  });
  const late = new Promise((_, reject) =>
    setTimeout(reject, ANSWER_MS, new TypeError("no answer")),
  );
  const response = await Promise.race([answered, late]);
  const answer = response.status === 204 ? null : await response.json().catch(() => null);
  if (!response.ok) throw new ApiError(response.status, answer?.error);
  return answer;
}

export const user = () => session?.user;

// Calls `ended(why)` when another window of this browser signs out, or in as somebody else.
export function onEnded(ended) {
  windows.addEventListener("message", ({ data }) => {
    if (!session || data.id === session.user.id) return;
    const { username } = data;
    session = null;
    ended(
      username
        ? `You have signed in as ${username} in another window.`
        : "You have signed out in another window.",
    );
  });
}

export async function signIn(path, username, password) {
  // The cookie of the other sign-in is about to go: nobody could end it any more.
  await finishSignOut();
  session = await post(path, { username, password });
  windows.postMessage(session.user);
}

export async function signOut() {
  session = null;
  storage.local.setItem(SIGNING_OUT, "");
  windows.postMessage({});
  await finishSignOut();
}

export const isSigningOut = () => storage.local.getItem(SIGNING_OUT) !== null;

// Tells the server of a sign-out that it has not heard of; throws where it cannot be told.
export async function finishSignOut() {
  if (!isSigningOut()) return;
  // The answer takes the cookie away: it must not be that of somebody who signs in meanwhile.
  if (storage.hasLocks) await navigator.locks.request(SIGNING_OUT, tellSignOut);
  else await tellSignOut();
}

async function tellSignOut() {
  if (!isSigningOut()) return;
  await post("/api/logout");
  storage.local.removeItem(SIGNING_OUT);
}

// One refresh at a time, over all windows: the server takes each refresh token once, and a second
// use as theft.
export async function refresh() {
  // Without locks the lease is all there is.
  if (storage.hasLocks) await navigator.locks.request(LEASE, renew);
  else await renew();
}

async function renew() {
  if (isSigningOut()) throw new ApiError(401, { message: "You have signed out." });
  await takeLease();
  // A window that is there keeps it for as long as it waits.
  const keeping = setInterval(writeLease, LEASE_MS / 4);
  const before = session?.user.id;
  try {
    session = await post("/api/refresh");
  } catch (error) {
    // Without an answer, as when the page is being left, it may still come.
    if (error instanceof ApiError) storage.local.removeItem(LEASE);
    throw error;
  } finally {
    clearInterval(keeping);
  }
  storage.local.removeItem(LEASE);
  if (before && before !== session.user.id) {
    session = null;
    throw new ApiError(401, { message: "Somebody else has signed in in this browser." });
  }
}

// A page that was left in the middle of a refresh lets go of its lock, but its request goes on: the
// cookie that this page has may be the old one yet.
async function takeLease() {
  for (;;) {
    const age = Date.now() - Number(storage.local.getItem(LEASE)?.split(" ")[0] ?? 0);
    if (age < 0 || age > LEASE_MS) {
      const mine = writeLease();
      // Two windows may have seen that it was free; the last one has it.
      if (!storage.hasLocks) await pause(CLAIM_MS);
      if (storage.local.getItem(LEASE) === mine) return;
    }
    await pause();
  }
}

function writeLease() {
  const lease = `${Date.now()} ${Math.random()}`;
  storage.local.setItem(LEASE, lease);
  return lease;
}

const pause = (ms = 50) => new Promise((resolve) => setTimeout(resolve, ms));

// A token that is good for a while yet.
export async function token() {
  if (!session || session.expiresAt < Date.now() + 2000) await refresh();
  return session.accessToken;
}

export function expire() {
  if (session) session.expiresAt = 0;
}
