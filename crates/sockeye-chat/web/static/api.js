// Accounts over HTTP: what the page knows of its sign-in, and a fresh access token when it is asked.

let session = null;

export class ApiError extends Error {
  constructor(status, error) {
    const fields = Object.values(error?.fields ?? {});
    super([error?.message ?? `The server answered ${status}.`, ...fields].join("\n"));
    this.status = status;
  }
}

async function post(path, body) {
  const response = await fetch(path, {
    method: "POST",
    headers: body ? { "content-type": "application/json" } : {},
    body: body && JSON.stringify(body),
  });
  const answer = response.status === 204 ? null : await response.json().catch(() => null);
  if (!response.ok) throw new ApiError(response.status, answer?.error);
  return answer;
}

export const user = () => session?.user;

export async function signIn(path, username, password) {
  session = await post(path, { username, password });
}

export async function signOut() {
  session = null;
  await post("/api/logout");
}

// One refresh at a time, over all windows: the server takes each refresh token once, and a second use as theft.
export async function refresh() {
  const renew = async () => {
    session = await post("/api/refresh");
  };
  if (navigator.locks) await navigator.locks.request("sockeye-refresh", renew);
  else await renew();
}

// A token that is good for a while yet.
export async function token() {
  if (!session || session.expiresAt < Date.now() + 2000) await refresh();
  return session.accessToken;
}

export function expire() {
  if (session) session.expiresAt = 0;
}
