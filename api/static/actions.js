// What a visitor does on the search page.

import { draw } from "./drawing.js";
import { messages, speak } from "./messages.js";
import { bounded, nothingChosen, toggled } from "./narrowing.js";
import { prepare } from "./pictures.js";
import { forgetWhatWasLearnt, remember, run, searchFor, searchSoon, shared, turn } from "./searching.js";
import { useKey } from "./server.js";
import { element, show, state } from "./state.js";
import { listen } from "./voice.js";

const ADDRESS = /^https?:\/\/\S+$/i;
const EVEN = { shown: 1, words: 1 };

export const pictures = new Map(); // pictures of this visit by number, for Back and Forward

// `start` opens the page again, with all it asks the server for.
export function actionsOf(start) {
  return {
    submit(event) {
      event.preventDefault();
      const query = element("query").value;
      if (ADDRESS.test(query.trim())) searchByAddress(query.trim());
      else searchFor({ query });
    },
    type(event) {
      if (event.isComposing) return;
      const fresh = state.landing;
      show({ query: event.target.value });
      if (!ADDRESS.test(state.query.trim())) searchSoon({ push: fresh });
    },
    clear() {
      searchFor({ query: "" });
      element("query").focus();
    },
    home(event) {
      if (opensElsewhere(event)) return;
      event.preventDefault();
      searchFor({ query: "", where: "", chosen: nothingChosen(), sort: "", like: null, picture: null, filterProblem: null, filterOpen: false });
      element("query").focus();
    },
    switchCollection(event) {
      searchFor({ collection: event.target.value, like: null, result: null, chosen: nothingChosen(), sort: "", where: "" });
    },
    switchLanguage(event) {
      speak(event.target.value);
      show();
      remember(false);
    },
    enterKey(event) {
      event.preventDefault();
      useKey(element("key").value.trim());
      forgetWhatWasLearnt();
      start();
    },
    choose: () => element("picture-file").click(),
    photograph: () => element("picture-camera").click(),
    chosen(event) {
      const file = event.target.files[0];
      event.target.value = ""; // so that the same file can be chosen again
      takePicture(file);
    },
    removeShown() {
      searchFor({ picture: null, like: null, weights: EVEN });
      element("query").focus();
    },
    weigh(part, event) {
      show({ weights: { ...state.weights, [part]: Number(event.target.value) } });
      searchSoon({ push: false });
    },
    weighEvenly: () => searchFor({ weights: EVEN }, { push: false }),
    openFilter(event) {
      if (event.target.open !== state.filterOpen) show({ filterOpen: event.target.open });
    },
    typeFilter: (event) => show({ where: event.target.value, filterProblem: null }),
    applyFilter(event) {
      event.preventDefault();
      searchFor({ where: element("where").value });
    },
    openNarrowing: () => show({ narrowOpen: !state.narrowOpen }),
    unfold(name) {
      const { unfolded } = state;
      if (!unfolded.delete(name)) unfolded.add(name);
      show();
    },
    toggle: (name, value) => searchFor({ chosen: toggled(state.chosen, name, value) }),
    bound(name, end, event) {
      const given = event.target.value.trim() === "" ? null : Number(event.target.value);
      const range = { low: null, high: null, ...state.chosen.ranges[name], [end]: Number.isFinite(given) ? given : null };
      searchFor({ chosen: bounded(state.chosen, name, range) });
    },
    between: (name, low, high) => searchFor({ chosen: bounded(state.chosen, name, { low, high }) }),
    relax: (changes) => searchFor(changes, { focus: true }),
    widen: () => searchFor({ chosen: nothingChosen() }),
    sort: (event) => searchFor({ sort: event.target.value }),
    similar(event, hit) {
      if (opensElsewhere(event)) return;
      event.preventDefault();
      scrollTo({ top: 0 });
      searchFor({ like: { id: hit.id, title: hit.title, image: hit.image }, query: "", picture: null, weights: EVEN }, { focus: true });
    },
    draw,
    listen,
    async more() {
      const known = state.result.hits.length;
      if (await turn()) document.querySelectorAll(".card")[known]?.focus();
    },
    retry: () => (state.collections.length ? run() : start()),
    roam(event) {
      const cards = [...event.currentTarget.querySelectorAll(".card")];
      const next = neighbour(cards, cards.indexOf(event.target.closest(".card")), event.key);
      if (next === null) return;
      event.preventDefault();
      cards[next].focus();
    },
    shared,
  };
}

export async function takePicture(file) {
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
  await searchFor({ picture, like: null, query: "", weights: EVEN }, { focus: true });
}

export function searchByAddress(url) {
  return searchFor({ picture: { url }, like: null, query: "", weights: EVEN }, { focus: true });
}

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
