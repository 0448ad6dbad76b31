// Jobs of the server: imports and drawings. Followed by server-sent events, read by fetch because an EventSource can send no key.

import { get, open, request } from "./server.js";

export async function newest(kind, collection) {
  const parameters = new URLSearchParams({ kind, ...(collection ? { collection } : {}) });
  return (await get(`/v1/jobs?${parameters}`)).jobs;
}

export function upload(collection, file, { prune }) {
  const fields = new FormData();
  fields.set("file", file, file.name);
  return request(`${of(collection)}?prune=${prune}`, { method: "POST", body: fields });
}

export function cancel(id) {
  return request(`/v1/jobs/${id}`, { method: "DELETE" });
}

export function retry(job) {
  return request(`${of(job.collection)}/${job.id}/retry`, { method: "POST" });
}

export function refusedRows(job, offset) {
  return get(`${of(job.collection)}/${job.id}/errors?offset=${offset}`);
}

export async function refusedFile(job) {
  return (await open(`${of(job.collection)}/${job.id}/errors.csv`)).blob();
}

export function hasEnded(job) {
  return ["done", "failed", "cancelled"].includes(job.state);
}

// Calls `tell(event, data)` for every event until the job has ended; begins again when the connection was cut off.
export async function follow(id, tell, signal) {
  for (let attempt = 0; attempt < 20; attempt += 1) {
    const ended = await read(id, tell, signal).catch((error) => {
      if (error.name === "AbortError" || error.status >= 400) throw error;
      return false; // cut off
    });
    if (ended) return;
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}

async function read(id, tell, signal) {
  const response = await open(`/v1/jobs/${id}/events`, { signal });
  let rest = "";
  for await (const text of pieces(response.body.pipeThrough(new TextDecoderStream()))) {
    const events = (rest + text).split("\n\n");
    rest = events.pop();
    for (const { event, data } of events.map(parsed)) {
      if (data === null) continue;
      tell(event, data);
      if (["done", "failed", "cancelled"].includes(event)) return true;
    }
  }
  return false;
}

// Not every browser lets a stream be iterated.
async function* pieces(stream) {
  const reader = stream.getReader();
  try {
    for (let part = await reader.read(); !part.done; part = await reader.read()) yield part.value;
  } finally {
    await reader.cancel().catch(() => {});
  }
}

function parsed(text) {
  const lines = Object.fromEntries(text.split("\n").map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 1).trim()]));
  return { event: lines.event ?? "message", data: lines.data ? JSON.parse(lines.data) : null };
}

function of(collection) {
  return `/v1/collections/${encodeURIComponent(collection)}/imports`;
}
