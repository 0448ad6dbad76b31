// The page's state and what changes it. Views are in views.js, the server's API in catalogue.js.

import { render } from "./vendor/lit-html/lit-html.js";
import * as address from "./address.js";
import { Problem, find, listCollections, readDocument } from "./catalogue.js";
import { language, messages } from "./messages.js";
import { carriesFiles, pictureIn, prepare } from "./pictures.js";
import { page } from "./views.js";

const TYPING_PAUSE = 140; // ms without a key before a search starts
const SLOW = 250; // ms before a search shows that it is under way
const PAGE = 24;
const MOST = 240;

const root = document.getElementById("page");
const pictures = new Map(); // pictures of this visit by number, for Back and Forward

const state = {
  collections: [], collection: "", query: "", where: "", like: null, picture: null, k: PAGE,
  result: null, applied: "", problem: null, filterProblem: null, notice: "", announcement: "",
  loading: true, slow: false, landing: true, browsing: true, more: false, filterOpen: false, dragging: false,
};

let running = null;
let typing = 0;

function show(changes) {
  Object.assign(state, changes);
  render(page(state, actions), root);
}

function element(id) {
  return document.getElementById(id);
}

// Searching

function searchFor(changes, { push = true, focus = false } = {}) {
  clearTimeout(typing);
  show({ k: PAGE, notice: "", ...changes });
  if (!state.collections.length) return null; // still starting: the search comes with it
  remember(push);
  return run({ focus });
}

function remember(push) {
  const search = { collection: state.collection, query: state.query, like: state.like?.id ?? "", where: state.where };
  address.write(search, { push, picture: state.picture?.number ?? null });
  const words = state.query.trim() || (state.like ? messages.similarTo(state.like.title || messages.untitled) : "");
  document.title = words ? `${words} – Semblance` : "Semblance";
}

// The last search wins: an older one is aborted, and what it still answers is dropped.
async function run({ focus = false } = {}) {
  running?.abort();
  const own = (running = new AbortController());
  const browsing = !state.query.trim() && !state.picture && !state.like;
  const slow = setTimeout(() => show({ slow: true }), SLOW);
  show({ loading: true, landing: browsing && !state.where.trim() });
  const outcome = await attempt(own, browsing);
  clearTimeout(slow);
  if (own !== running) return;
  show({ loading: false, slow: false, ...outcome });
  pointAtFilterProblem();
  if (focus) element("verdict")?.focus({ preventScroll: true });
}

async function attempt(own, browsing) {
  const search = { collection: state.collection, query: state.query, picture: state.picture?.blob ?? null, like: state.like?.id ?? "", where: state.where, k: state.k };
  try {
    const result = await find(search, own.signal);
    const more = result.hits.length === state.k && state.k < MOST && result.admitted > result.hits.length;
    return { result, applied: search.where.trim(), browsing, more, problem: null, filterProblem: null, announcement: browsing ? "" : messages.found(result.hits.length) };
  } catch (error) {
    return error.name === "AbortError" ? {} : failed(error, browsing);
  }
}

function failed(error, browsing) {
  if (!(error instanceof Problem)) throw error;
  if (error.kind === "Invalid filter") {
    return { filterProblem: { column: error.column, message: error.message }, filterOpen: true, announcement: error.message };
  }
  if (browsing && error.status === 422) return { result: { hits: [], total: 0, admitted: 0, decision: "abstain", confidence: 0 }, problem: null };
  const missing = error.status === 404 && !state.collections.some((item) => item.name === state.collection);
  const title = missing ? messages.unknownCollection(state.collection) : messages.failed;
  const detail = missing ? "" : error.message || messages.offline;
  return { result: null, problem: { title, detail, again: !missing }, announcement: title };
}

function pointAtFilterProblem() {
  const input = element("where");
  if (!state.filterProblem?.column || document.activeElement !== input) return;
  input.setSelectionRange(state.filterProblem.column - 1, input.value.length);
}

// Pictures

async function takePicture(file) {
  if (!file) return;
  let prepared;
  try {
    prepared = await prepare(file);
  } catch {
    show({ notice: messages.notAPicture });
    return;
  }
  const picture = { ...prepared, number: pictures.size + 1 };
  pictures.set(picture.number, picture);
  scrollTo({ top: 0 });
  await searchFor({ picture, like: null, query: "" }, { focus: true });
}

// What a visitor does

const actions = {
  submit(event) {
    event.preventDefault();
    searchFor({ query: element("query").value });
  },
  type(event) {
    if (event.isComposing) return;
    const fresh = state.landing;
    show({ query: event.target.value });
    clearTimeout(typing);
    typing = setTimeout(() => searchFor({}, { push: fresh }), TYPING_PAUSE);
  },
  clear() {
    searchFor({ query: "" });
    element("query").focus();
  },
  home(event) {
    if (opensElsewhere(event)) return;
    event.preventDefault();
    searchFor({ query: "", where: "", like: null, picture: null, filterProblem: null, filterOpen: false });
    element("query").focus();
  },
  switchCollection(event) {
    searchFor({ collection: event.target.value, like: null, result: null });
  },
  choose() {
    element("picture-file").click();
  },
  photograph() {
    element("picture-camera").click();
  },
  chosen(event) {
    const file = event.target.files[0];
    event.target.value = ""; // so that the same file can be chosen again
    takePicture(file);
  },
  removePicture() {
    searchFor({ picture: null });
    element("query").focus();
  },
  removeLike() {
    searchFor({ like: null });
    element("query").focus();
  },
  toggleFilter(event) {
    if (event.target.open !== state.filterOpen) show({ filterOpen: event.target.open });
  },
  typeFilter(event) {
    show({ where: event.target.value, filterProblem: null });
  },
  applyFilter(event) {
    event.preventDefault();
    searchFor({ where: element("where").value });
  },
  similar(event, hit) {
    if (opensElsewhere(event)) return;
    event.preventDefault();
    scrollTo({ top: 0 });
    searchFor({ like: { id: hit.id, title: hit.title, image: hit.image }, query: "", picture: null }, { focus: true });
  },
  async more() {
    const known = state.result.hits.length;
    show({ k: Math.min(state.k + PAGE, MOST) });
    await run();
    document.querySelectorAll(".card")[known]?.focus();
  },
  retry() {
    if (state.collections.length) run();
    else start();
  },
  roam(event) {
    const cards = [...event.currentTarget.querySelectorAll(".card")];
    const next = neighbour(cards, cards.indexOf(event.target.closest(".card")), event.key);
    if (next === null) return;
    event.preventDefault();
    cards[next].focus();
  },
};

function opensElsewhere(event) {
  return event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey;
}

function neighbour(cards, index, key) {
  const columns = cards.filter((card) => card.offsetTop === cards[0].offsetTop).length;
  const rightwards = getComputedStyle(document.documentElement).direction === "rtl" ? -1 : 1;
  const step = { ArrowRight: rightwards, ArrowLeft: -rightwards, ArrowDown: columns, ArrowUp: -columns, Home: -index, End: cards.length - 1 - index }[key];
  if (index < 0 || step === undefined) return null;
  return index + step in cards ? index + step : null;
}

// The window

addEventListener("keydown", (event) => {
  const writing = event.target.closest?.("input, textarea, select");
  if (event.key === "/" && !writing && !event.ctrlKey && !event.metaKey) {
    event.preventDefault();
    element("query").focus();
    element("query").select();
  }
});

addEventListener("paste", (event) => {
  const file = pictureIn(event.clipboardData);
  if (!file) return;
  event.preventDefault();
  takePicture(file);
});

addEventListener("dragover", (event) => {
  if (!carriesFiles(event.dataTransfer)) return;
  event.preventDefault();
  if (!state.dragging) show({ dragging: true });
});

addEventListener("dragleave", (event) => {
  if (event.relatedTarget === null) show({ dragging: false });
});

addEventListener("drop", (event) => {
  if (!carriesFiles(event.dataTransfer)) return;
  event.preventDefault();
  show({ dragging: false });
  const file = pictureIn(event.dataTransfer);
  if (file) takePicture(file);
  else show({ notice: messages.notAPicture });
});

addEventListener("popstate", () => openAddress());

async function openAddress(early = {}) {
  const { collection, query, like, where } = address.read();
  const number = history.state?.picture ?? null;
  const picture = pictures.get(number) ?? null;
  const notice = number !== null && !picture && !early.picture ? messages.pictureGone : "";
  const shown = state.result?.hits.find((hit) => hit.id === like);
  show({ collection: collection || preferred(), query, where, picture, like: like ? shown ?? { id: like, title: "", image: null } : null });
  show({ filterOpen: where !== "", filterProblem: null, notice, k: PAGE, ...early });
  remember(false);
  if (like && !shown) introduce(like);
  await run();
}

// A link names a product by its id: find out what it is called and looks like.
async function introduce(id) {
  const product = await readDocument(state.collection, id).catch(() => ({ title: id, image: null }));
  if (state.like?.id !== id) return;
  show({ like: { id, title: product.title, image: product.image } });
  remember(false);
}

// The quickstart's catalogue is named "shop": where there is one, visitors begin there.
function preferred() {
  return (state.collections.find((item) => item.name === "shop") ?? state.collections[0]).name;
}

async function start() {
  document.documentElement.lang = language;
  const { query, like, where } = address.read();
  show({ problem: null, loading: true, query, where, landing: !query && !like && !where });
  try {
    show({ collections: await listCollections() });
  } catch (error) {
    show({ loading: false, problem: { title: messages.failed, detail: error.message || messages.offline, again: true } });
    return;
  }
  if (!state.collections.length) {
    show({ loading: false, problem: { title: messages.noCollections, detail: messages.noCollectionsHint, again: true } });
    return;
  }
  const early = state.query !== query || state.picture; // the visitor was quicker than the server
  await openAddress(early ? { query: state.query, picture: state.picture } : {});
}

start();
