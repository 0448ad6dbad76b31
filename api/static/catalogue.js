// Collections and searches, as the page asks for them.

import { get, post, request } from "./server.js";

const SAMPLE = 100;

// { collections, unusable: { name: reason } }
export function listCollections() {
  return get("/v1/collections");
}

// What this server can do beside searching: { draws, listens, fetches }
export function readAbilities() {
  return get("/static/abilities.json");
}

export async function readDocument(collection, id, signal) {
  return get(`/v1/collections/${encodeURIComponent(collection)}/documents/${encodeURIComponent(id)}`, signal);
}

// Some products of all kinds.
export async function sample(collection, signal) {
  return (await post(`${of(collection)}`, { terms: [{ vector: anywhere() }], k: SAMPLE, fallback: "never" }, signal)).hits;
}

// search: { collection, query, picture: { blob } | { url } | null, like: id | "", weights, where, k, facets, sort, cursor }
export async function find(search, signal) {
  const options = optionsOf(search);
  const query = search.query.trim();
  const { picture } = search;
  if (picture?.blob && !query) return request(`${of(search.collection)}/image`, { signal, method: "POST", body: form(picture.blob, options) });
  if (query && !picture && !search.like) return post(`${of(search.collection)}/text`, { query, ...options }, signal);
  return post(of(search.collection), { terms: await terms(search, query), ...options }, signal);
}

function of(collection) {
  return `/v1/collections/${encodeURIComponent(collection)}/search`;
}

function optionsOf({ k, where, facets, sort, cursor }) {
  const options = { k, fallback: "never" }; // a drawing is begun by the visitor, not by each letter typed
  if (where) options.where = where;
  if (facets?.length) options.facets = facets.map(({ name }) => name);
  if (sort) options.sort = [sort];
  if (cursor) options.cursor = cursor;
  return options;
}

async function terms({ picture, like, weights }, query) {
  const both = query !== "" && (picture || like);
  const given = [];
  const shown = both ? { weight: weights.shown } : {};
  if (picture) given.push(picture.url ? { image_url: picture.url, ...shown } : { image: await base64(picture.blob), ...shown });
  if (like) given.push({ id: like, ...shown });
  if (query) given.push(both ? { text: query, weight: weights.words } : { text: query });
  const telling = given.filter((term) => term.weight !== 0);
  return telling.length ? telling : [{ vector: anywhere() }];
}

// A direction with nothing to do with the catalogue: it shows products of all kinds, the same ones each time.
function anywhere() {
  let seed = 7;
  return Array.from({ length: 256 }, () => (seed = (seed * 16807) % 2147483647) / 2147483647 - 0.5);
}

function form(blob, options) {
  const fields = new FormData();
  fields.set("image", blob, "picture");
  for (const [name, value] of Object.entries(options)) fields.set(name, Array.isArray(value) ? value.join(",") : String(value));
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
