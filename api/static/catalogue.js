// Talks to the HTTP API of the server the page came from.

export class Problem extends Error {
  constructor({ status = 0, detail = "", column = null, kind = "" }) {
    super(detail);
    Object.assign(this, { status, column, kind });
  }
}

export async function listCollections() {
  return (await request("/v1/collections")).collections;
}

export async function readDocument(collection, id, signal) {
  return request(`/v1/collections/${encodeURIComponent(collection)}/documents/${encodeURIComponent(id)}`, { signal });
}

// search: { collection, query, picture: Blob | null, like: id | "", where, k }
export async function find(search, signal) {
  const address = `/v1/collections/${encodeURIComponent(search.collection)}/search`;
  const options = { k: search.k, where: search.where.trim() || null };
  const query = search.query.trim();
  if (search.picture && !query) return request(`${address}/image`, { signal, method: "POST", body: form(search.picture, options) });
  if (query && !search.picture && !search.like) return post(`${address}/text`, { query, ...options }, signal);
  return post(address, { terms: await terms(search, query), ...options }, signal);
}

async function terms(search, query) {
  const given = [];
  if (search.picture) given.push({ image: await base64(search.picture) });
  if (search.like) given.push({ id: search.like });
  if (query) given.push({ text: query });
  return given.length ? given : [{ vector: anywhere() }];
}

// A direction with nothing to do with the catalogue: it shows products of all kinds, the same ones each time.
function anywhere() {
  let seed = 7;
  return Array.from({ length: 256 }, () => (seed = (seed * 16807) % 2147483647) / 2147483647 - 0.5);
}

function form(picture, { k, where }) {
  const fields = new FormData();
  fields.set("image", picture, "picture");
  fields.set("k", String(k));
  if (where) fields.set("where", where);
  return fields;
}

function base64(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}

function post(address, body, signal) {
  return request(address, { signal, method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
}

async function request(address, options = {}) {
  try {
    const response = await fetch(address, options);
    const body = await response.json();
    if (response.ok) return body;
    throw new Problem({ status: response.status, detail: body.detail, column: body.column, kind: body.title });
  } catch (error) {
    // Aborting can also hit while the body is read. What is no JSON did not come from this server: a proxy in front of it is ill.
    if (error instanceof Problem || error.name === "AbortError") throw error;
    throw new Problem({});
  }
}
