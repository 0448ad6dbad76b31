// Runs searches: the last one wins, pages follow one another, and facets are counted as if their own choice were not made.

import * as address from "./address.js";
import { find, sample } from "./catalogue.js";
import { messages } from "./messages.js";
import { expression, facetsOf } from "./narrowing.js";
import { Problem } from "./server.js";
import { element, show, state } from "./state.js";

const TYPING_PAUSE = 140; // ms without a key before a search starts
const SLOW = 250; // ms before a search shows that it is under way
const PAGE = 24;
const SHELF = 60; // products shown before anything is asked for
const FEW = 12; // a list shorter than this is followed by what comes next to it

const learnt = new Map(); // the facets of each collection
let running = null;
let typing = 0;

export function searchFor(changes, { push = true, focus = false } = {}) {
  clearTimeout(typing);
  show({ notice: "", ...changes });
  if (!state.collections.length) return null; // still starting: the search comes with it
  remember(push);
  return run({ focus });
}

export function searchSoon({ push }) {
  clearTimeout(typing);
  typing = setTimeout(() => searchFor({}, { push }), TYPING_PAUSE);
}

export function remember(push) {
  address.write(shared(), { push, picture: state.picture?.number ?? null });
  const words = state.query.trim() || (state.like ? messages.similarTo(state.like.title || messages.untitled) : "");
  document.title = words ? `${words} – Semblance` : "Semblance";
}

// What of the state belongs into an address.
export function shared() {
  const { collection, query, where, chosen, sort } = state;
  return { collection, query, where, chosen, sort, like: state.like?.id ?? "", url: state.picture?.url ?? "" };
}

// An older search is aborted, and what it still answers is dropped.
export async function run({ focus = false } = {}) {
  running?.abort();
  const own = (running = new AbortController());
  const browsing = !state.query.trim() && !state.picture && !state.like;
  const slow = setTimeout(() => show({ slow: true }), SLOW);
  show({ loading: true, turning: false, landing: browsing && !expression({ ...state.chosen, where: state.where }) && !state.sort });
  const outcome = await attempt(own.signal, browsing);
  clearTimeout(slow);
  if (own !== running) return;
  show({ loading: false, slow: false, ...outcome });
  pointAtFilterProblem();
  if (focus) element("verdict")?.focus({ preventScroll: true });
  if (outcome.result) await addFurther(own.signal);
}

// A page by page list holds what is relevant and nothing else. Where that is little, the products nearest to it follow below.
async function addFurther(signal) {
  const { result, browsing, sort } = state;
  if (browsing || sort || result.cursor || !result.hits.length || result.hits.length >= FEW) return;
  try {
    const { hits } = await find({ ...current(), facets: [], cursor: "" }, signal);
    const known = new Set(result.hits.map(({ id }) => id));
    if (state.result === result) show({ further: hits.filter(({ id }) => !known.has(id)) });
  } catch {
    // What was asked for is there; what would follow it can be missed.
  }
}

// The next page of the same list. Returns whether it came.
export async function turn() {
  if (!state.result?.cursor || state.turning || state.loading) return false;
  const { result } = state;
  show({ turning: true });
  try {
    const next = await find({ ...current(), facets: [], cursor: result.cursor }, running.signal);
    if (state.result !== result) return false;
    show({ turning: false, result: { ...result, hits: [...result.hits, ...next.hits], cursor: next.cursor }, announcement: messages.showing(result.hits.length + next.hits.length, result.total) });
    return true;
  } catch (error) {
    if (error.name !== "AbortError") show({ turning: false, ...failed(error, false) });
    return false;
  }
}

function current() {
  const { collection, query, picture, weights, sort } = state;
  return { collection, query, picture, weights, sort, like: state.like?.id ?? "", where: narrowed(), k: PAGE };
}

function narrowed(except = null) {
  return expression({ ...state.chosen, where: state.where }, except);
}

async function attempt(signal, browsing) {
  try {
    const facets = await learn(state.collection, signal);
    const search = browsing ? { ...current(), sort: "", k: SHELF } : { ...current(), facets, cursor: "*" };
    const [result, ...others] = await Promise.all([find(search, signal), ...counts(search, signal)]);
    result.facets = (result.facets ?? []).map((facet) => others.find(({ name }) => name === facet.name) ?? facet);
    return { facets, result, further: [], drawing: null, asked: search.where, browsing, problem: null, filterProblem: null, locked: null, announcement: announced(result, browsing) };
  } catch (error) {
    return error.name === "AbortError" ? {} : failed(error, browsing);
  }
}

// Where nothing fits, there is nothing to count and nothing nearer or further: only what is closest.
export function fits({ browsing, result, like, sort }) {
  return browsing || like || sort || ["answer", "broaden"].includes(result.decision);
}

function announced(result, browsing) {
  if (browsing) return "";
  return fits({ ...state, browsing, result }) ? messages.found(Math.max(result.total, result.hits.length)) : messages.none;
}

async function learn(collection, signal) {
  if (!learnt.has(collection)) learnt.set(collection, await sample(collection, signal).then(facetsOf, quiet));
  return learnt.get(collection);
}

// An empty or missing collection has no facets; what is wrong with it, the search itself says.
function quiet(error) {
  if (error instanceof Problem && [404, 409, 422].includes(error.status)) return [];
  throw error;
}

// For each facet with a choice: how the search would count without that choice, so that other values can be added to it.
function counts(search, signal) {
  const { values, ranges } = state.chosen;
  const chosen = (search.facets ?? []).filter(({ name }) => values[name]?.length || ranges[name]);
  return chosen.map(async (facet) => {
    const result = await find({ ...search, where: narrowed(facet.name), facets: [facet], sort: "", cursor: "", k: 1 }, signal);
    return result.facets?.[0] ?? { name: "" };
  });
}

export function failed(error, browsing) {
  if (!(error instanceof Problem)) throw error;
  if (error.status === 401 || error.status === 403) return { locked: error, problem: null, announcement: messages.keyTitle };
  if (error.kind === "Invalid filter") {
    return { filterProblem: { column: error.column, message: error.message }, filterOpen: true, announcement: error.message };
  }
  if (state.picture?.url && error.status === 422) return { notice: error.message, result: null, problem: null, announcement: error.message };
  if (browsing && error.status === 422) return { result: { hits: [], total: 0, admitted: 0, decision: "abstain", confidence: 0, facets: [] }, problem: null };
  const missing = error.status === 404 && !state.collections.some((item) => item.name === state.collection);
  const title = missing ? messages.unknownCollection(state.collection) : messages.failed;
  const detail = missing ? "" : error.message || messages.offline;
  return { result: null, problem: { title, detail, again: !missing }, announcement: title };
}

export function forgetWhatWasLearnt() {
  learnt.clear();
}

function pointAtFilterProblem() {
  const input = element("where");
  if (!state.filterProblem?.column || document.activeElement !== input) return;
  input.setSelectionRange(state.filterProblem.column - 1, input.value.length);
}
