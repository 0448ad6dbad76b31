// Requests to the server the page came from, with the visitor's key where it asks for one.

const KEPT = "semblance.key";

let key = kept();

export class Problem extends Error {
  constructor({ status = 0, detail = "", column = null, kind = "" }) {
    super(detail);
    Object.assign(this, { status, column, kind });
  }
}

export function useKey(text) {
  key = text;
  try {
    sessionStorage.setItem(KEPT, text);
  } catch {
    // A browser that keeps nothing: the key lasts as long as the page.
  }
}

export function hasKey() {
  return key !== "";
}

export function get(address, signal) {
  return request(address, { signal });
}

export function post(address, body, signal) {
  return request(address, { signal, method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
}

export async function request(address, options = {}) {
  try {
    const response = await open(address, options);
    return response.status === 204 ? null : await response.json();
  } catch (error) {
    // Aborting can also hit while the body is read. What is no JSON did not come from this server: a proxy in front of it is ill.
    if (error instanceof Problem || error.name === "AbortError") throw error;
    throw new Problem({});
  }
}

// The answer itself, for what is read bit by bit.
export async function open(address, options = {}) {
  const headers = key ? { ...options.headers, Authorization: `Bearer ${key}` } : options.headers;
  const response = await fetch(address, { ...options, headers });
  if (response.ok) return response;
  const body = await response.json();
  throw new Problem({ status: response.status, detail: body.detail, column: body.column, kind: body.title });
}

function kept() {
  try {
    return sessionStorage.getItem(KEPT) ?? "";
  } catch {
    return "";
  }
}
