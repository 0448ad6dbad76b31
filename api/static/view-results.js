// What a search found: how sure it is, in words; the products; and the states in which there are none.

import { html, nothing } from "./vendor/lit-html/lit-html.js";
import { live } from "./vendor/lit-html/directives/live.js";
import { repeat } from "./vendor/lit-html/directives/repeat.js";
import { link } from "./address.js";
import { messages, nameOf } from "./messages.js";
import { fits } from "./searching.js";
import { drawing } from "./view-drawing.js";
import { partsOf, relaxation } from "./narrowing.js";
import { chips, condition } from "./view-narrow.js";
import { frame, icon, number, padlock, percent, priceOf, sized } from "./view-parts.js";

const SHOWN = /^(the picture|document )/; // how the server names a term that is no words
const EAGER = 8; // pictures likely to be on the first screen

export function results(state, actions) {
  if (state.locked) return locked(state, actions);
  if (state.problem) return failure(state, actions);
  if (!state.result) return state.loading ? skeleton(state) : nothing;
  const { hits } = state.result;
  return html`
    ${bar(state, actions)} ${chips(state, actions)}
    ${relaxing(state, actions)} ${drawing(state, actions, grid)}
    ${hits.length ? grid(fits(state) ? hits : [...hits, ...state.further], state, actions) : empty(state)}
    ${state.further.length && fits(state) ? html`<h3 class="further">${messages.further}</h3>${grid(state.further, state, actions)}` : nothing}
    ${state.result.cursor && hits.length
      ? html`<p class="more">
          <button class="button" type="button" aria-disabled=${state.turning ? "true" : "false"} @click=${actions.more}>${messages.more}</button>
          <span class="note">${messages.showing(number(hits.length), number(state.result.total))}</span>
        </p>`
      : nothing}
  `;
}

function bar(state, actions) {
  const { result, browsing } = state;
  if (!result.hits.length) return nothing;
  return html`
    <div class="bar">
      <div class="verdict">
        ${browsing ? nothing : meter(result)}
        <h2 id="verdict" tabindex="-1">${verdict(state)}</h2>
        ${browsing && !state.asked ? nothing : html`<p>${facts(state)}</p>`}
      </div>
      ${browsing ? nothing : sorting(state, actions)}
    </div>
  `;
}

// One to three strokes: a glance tells how sure the answer is; the words beside it say it too.
function meter({ decision, confidence }) {
  if (confidence === null) return nothing;
  const level = { answer: 3, broaden: 2 }[decision] ?? 1;
  return html`<span class="meter level-${level}" aria-hidden="true"><i></i><i></i><i></i></span>`;
}

function verdict({ browsing, result, like, query, picture }) {
  if (browsing) return messages.browse;
  if (like && !query && !picture) return messages.similarTo(like.title || messages.untitled);
  if (result.decision === "answer") return result.confidence === null ? messages.closest : messages.good;
  return result.decision === "broaden" ? messages.broaden : messages.none;
}

// What the query could do without, when it has no answer and something less would: one press away.
function relaxing(state, actions) {
  const { result, browsing } = state;
  const proposed = browsing ? [] : (result.broaden ?? []).map((item) => ({ ...item, changes: relaxed(item, state) })).filter(({ changes }) => changes);
  if (!proposed.length) return nothing;
  return html`
    <p class="relaxing">
      <span>${messages.relax}</span>
      ${proposed.map(({ changes, matches, ...item }) => html`<button class="tag" type="button" @click=${() => actions.relax(changes)}>${without(item, state)} <span class="count">${number(matches)}</span></button>`)}
    </p>
  `;
}

function relaxed({ kind, without }, state) {
  if (kind === "filter") return relaxation({ ...state.chosen, where: state.where }, without);
  return SHOWN.test(without) ? { picture: null, like: null } : { query: "" };
}

function without(item, state) {
  const part = item.kind === "filter" && partsOf({ ...state.chosen, where: state.where }).find(({ text }) => text === item.without);
  if (part?.name) return condition(part);
  if (item.kind === "filter") return messages.theFilter;
  return SHOWN.test(item.without) ? (state.picture ? messages.thePicture : messages.theProduct) : `“${item.without}”`;
}

function facts(state) {
  const { result, asked, browsing } = state;
  const parts = browsing || !fits(state) ? [] : [messages.found(Math.max(result.total, result.hits.length))];
  if (result.confidence !== null && result.decision === "answer") parts.push(messages.sure(percent(result.confidence)));
  if (asked) parts.push(messages.admitted(result.admitted));
  return parts.join(" · ");
}

function sorting(state, actions) {
  const names = state.facets.filter(({ kind }) => kind === "numbers").map(({ name }) => name);
  const option = (value, text) => html`<option value=${value} ?selected=${state.sort === value}>${text}</option>`;
  return html`
    <label class="select">
      <span class="visually-hidden">${messages.sort}</span>
      <select .value=${live(state.sort)} @change=${actions.sort}>
        ${option("", messages.byRelevance)}
        ${names.flatMap((name) => [option(`${name}:asc`, messages.ascending(nameOf(name))), option(`${name}:desc`, messages.descending(nameOf(name)))])}
      </select>
    </label>
  `;
}

function grid(hits, state, actions) {
  return html`
    <ul class=${state.slow ? "grid stale" : "grid"} @keydown=${actions.roam}>
      ${repeat(hits, (hit) => hit.id, (hit, index) => card(hit, index, state, actions))}
    </ul>
  `;
}

function card(hit, index, state, actions) {
  const title = hit.title || messages.untitled;
  const price = priceOf(hit.attributes);
  const score = number(hit.score, 2);
  const brand = typeof hit.attributes.brand === "string" ? hit.attributes.brand : "";
  const label = [title, price, state.browsing ? "" : messages.score(score)].filter(Boolean).join(", ");
  return html`
    <li>
      <a class="card" href=${link({ ...actions.shared(), query: "", url: "", like: hit.id })} draggable="false"
        aria-label="${label}. ${messages.showSimilar}" @click=${(event) => actions.similar(event, hit)}>
        <span class="photo">
          ${hit.image
            ? html`<img src=${sized(hit.image, 400)} alt=${messages.photoOf(title)} loading=${index < EAGER ? "eager" : "lazy"} decoding="async"
                width="400" height="400" draggable="false" @error=${broken}>`
            : nothing}
          <span class="no-photo">${icon(frame)}</span>
          <span class="hover-hint" aria-hidden="true">${messages.showSimilar}</span>
        </span>
        ${brand ? html`<span class="brand-name" dir="auto">${brand}</span>` : nothing}
        <span class="title" dir="auto">${title}</span>
        <span class="meta">
          <span class="price">${price}</span>
          ${state.browsing ? nothing : html`<span class="score" title=${messages.score(score)}>${score}</span>`}
        </span>
      </a>
    </li>
  `;
}

function broken(event) {
  event.target.closest(".photo").classList.add("broken");
}

function empty({ asked }) {
  return html`
    <div class="message">
      ${icon(frame)}
      <h2 id="verdict" tabindex="-1">${messages.nothing}</h2>
      <p>${asked ? messages.nothingFilter : messages.nothingEmpty}</p>
      ${asked ? nothing : html`<a class="button" href="/admin">${messages.importTitle}</a>`}
    </div>
  `;
}

function failure({ problem }, actions) {
  return html`
    <div class="message">
      <h2 id="verdict" tabindex="-1">${problem.title}</h2>
      <p>${problem.detail}</p>
      ${problem.empty ? html`<a class="button strong" href="/admin">${messages.importTitle}</a>` : nothing}
      ${problem.again ? html`<button class="button" type="button" @click=${actions.retry}>${messages.again}</button>` : nothing}
    </div>
  `;
}

export function locked({ locked: problem }, actions) {
  const refused = problem.kind !== "Key required";
  return html`
    <form class="message locked" @submit=${actions.enterKey}>
      ${icon(padlock)}
      <h2 id="verdict" tabindex="-1">${messages.keyTitle}</h2>
      <p>${messages.keyHint}</p>
      ${refused ? html`<p class="wrong" role="alert">${messages.keyWrong}</p>` : nothing}
      <div class="row">
        <input id="key" type="password" autocomplete="off" spellcheck="false" required maxlength="200" placeholder="smb_…" aria-label=${messages.keyLabel}>
        <button class="button strong">${messages.keyUse}</button>
      </div>
    </form>
  `;
}

function skeleton({ landing }) {
  return html`
    <div class="bar"><div class="verdict"><p>${messages.searching}</p></div></div>
    <ul class="grid" aria-hidden="true">
      ${Array.from({ length: landing ? 10 : 12 }, () => html`<li><span class="card ghost"><span class="photo"></span><span class="title"></span><span class="meta"></span></span></li>`)}
    </ul>
  `;
}
