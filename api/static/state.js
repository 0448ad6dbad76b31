// The state of the search page: one object, changed only by `show`, which draws the page again.

import { nothingChosen } from "./narrowing.js";

export const state = {
  collections: [], collection: "", facets: [], query: "", where: "", chosen: nothingChosen(), sort: "", like: null, picture: null,
  weights: { shown: 1, words: 1 }, result: null, further: [], drawing: null, asked: "", problem: null, filterProblem: null, notice: "", announcement: "", locked: null,
  loading: true, slow: false, landing: true, browsing: true, turning: false, filterOpen: false, narrowOpen: false, dragging: false, listening: "", abilities: {}, unfolded: new Set(),
};

let draw = null;

export function drawWith(view) {
  draw = view;
}

export function show(changes = {}) {
  Object.assign(state, changes);
  draw(state);
}

export function element(id) {
  return document.getElementById(id);
}
