// What the page looks like for a state. Titles and attributes are hostile text: they only ever go through lit-html's bindings.

import { html, nothing, svg } from "./vendor/lit-html/lit-html.js";
import { live } from "./vendor/lit-html/directives/live.js";
import { repeat } from "./vendor/lit-html/directives/repeat.js";
import { link } from "./address.js";
import { language, messages } from "./messages.js";

const EAGER = 8; // pictures likely to be on the first screen

const icon = (shape) => html`<svg class="icon" viewBox="0 0 24 24" aria-hidden="true" focusable="false">${shape}</svg>`;
const magnifier = svg`<circle cx="11" cy="11" r="6.5"/><path d="m16 16 4.5 4.5"/>`;
const camera = svg`<path d="M4 8h3l1.6-2.5h6.8L17 8h3v11H4z"/><circle cx="12" cy="13" r="3.5"/>`;
const frame = svg`<rect x="3.5" y="4.5" width="17" height="15" rx="2"/><circle cx="9" cy="10" r="1.6"/><path d="m4 17 5-4.5 3.5 3 3.5-3.5 4 4"/>`;
const cross = svg`<path d="m6.5 6.5 11 11m0-11-11 11"/>`;

export function page(state, actions) {
  return html`
    <div class=${state.landing ? "shell landing" : "shell"}>
      ${header(state, actions)}
      <main id="results" aria-busy=${state.loading ? "true" : "false"}>
        <div class="progress" ?hidden=${!state.slow}></div>
        ${body(state, actions)}
      </main>
      <p class="visually-hidden" role="status" aria-live="polite">${state.announcement}</p>
      <div class="drop-overlay" ?hidden=${!state.dragging}><p>${icon(frame)}${messages.dropNow}</p></div>
    </div>
  `;
}

function header(state, actions) {
  return html`
    <header>
      <div class="top">
        <a class="brand" href=${link({ collection: state.collection })} @click=${actions.home}>
          <img src="/static/favicon.svg" alt="" width="28" height="28"><span>Semblance</span>
        </a>
        ${state.collections.length > 1 ? collectionSwitch(state, actions) : nothing}
      </div>
      <h1 class="tagline">${messages.tagline}</h1>
      <search>
        <form class="box" role="search" @submit=${actions.submit}>
          ${icon(magnifier)}
          ${chip(state, actions)}
          <input
            id="query" class="query" type="search" name="q" autocomplete="off" autocapitalize="off" spellcheck="false" enterkeyhint="search"
            maxlength="2000" aria-label=${messages.search}
            placeholder=${state.picture || state.like ? messages.addWords : messages.placeholder}
            .value=${live(state.query)} @input=${actions.type} @compositionend=${actions.type}
          >
          <button class="round" type="button" ?hidden=${!state.query} aria-label=${messages.clear} title=${messages.clear} @click=${actions.clear}>
            ${icon(cross)}
          </button>
          <button class="round picture-button" type="button" aria-label=${messages.searchByPicture} title=${messages.searchByPicture} @click=${actions.choose}>
            ${icon(camera)}
          </button>
        </form>
        <input id="picture-file" type="file" accept="image/*" hidden @change=${actions.chosen}>
        <input id="picture-camera" type="file" accept="image/*" capture="environment" hidden @change=${actions.chosen}>
        ${state.landing ? dropZone(actions) : nothing}
        ${filter(state, actions)}
        ${state.notice ? html`<p class="notice" role="alert">${state.notice}</p>` : nothing}
      </search>
    </header>
  `;
}

function collectionSwitch(state, actions) {
  return html`
    <label class="switch">
      <span class="visually-hidden">${messages.collection}</span>
      <select @change=${actions.switchCollection} .value=${live(state.collection)}>
        ${state.collections.map((item) => html`<option value=${item.name} ?selected=${item.name === state.collection}>${item.name}</option>`)}
      </select>
    </label>
  `;
}

function chip(state, actions) {
  if (state.picture) {
    return html`
      <span class="chip">
        <img src=${state.picture.address} alt=${messages.yourPicture}>
        <button type="button" aria-label=${messages.removePicture} title=${messages.removePicture} @click=${actions.removePicture}>${icon(cross)}</button>
      </span>
    `;
  }
  if (!state.like) return nothing;
  const title = messages.similarTo(state.like.title || messages.untitled);
  return html`
    <span class="chip" title=${title}>
      ${state.like.image ? html`<img src=${sized(state.like.image, 96)} alt=${title}>` : html`<span class="chip-text">${title}</span>`}
      <button type="button" aria-label=${messages.removeSimilar} title=${messages.removeSimilar} @click=${actions.removeLike}>${icon(cross)}</button>
    </span>
  `;
}

function dropZone(actions) {
  return html`
    <div class="drop-zone">
      ${icon(frame)}
      <p>${messages.dropHint}</p>
      <div class="drop-buttons">
        <button type="button" class="button" @click=${actions.choose}>${messages.choosePicture}</button>
        <button type="button" class="button phone-only" @click=${actions.photograph}>${messages.takePhoto}</button>
      </div>
    </div>
  `;
}

function filter(state, actions) {
  const problem = state.filterProblem;
  return html`
    <details class="filter" ?open=${state.filterOpen} @toggle=${actions.toggleFilter}>
      <summary>${messages.filter}${state.where.trim() ? html`<span class="dot" aria-hidden="true"></span>` : nothing}</summary>
      <form @submit=${actions.applyFilter}>
        <label for="where">${messages.filterLabel}</label>
        <div class="filter-row">
          <input
            id="where" name="where" type="text" autocomplete="off" autocapitalize="off" spellcheck="false" maxlength="2000"
            aria-describedby="where-note" aria-invalid=${problem ? "true" : "false"} .value=${live(state.where)} @input=${actions.typeFilter}
          >
          <button class="button">${messages.apply}</button>
        </div>
        <p id="where-note" class=${problem ? "note wrong" : "note"}>
          ${problem
            ? problem.message
            : html`${messages.filterHint} <code>price &lt; 50 and brand = 'Acme'</code>`}
        </p>
      </form>
    </details>
  `;
}

function body(state, actions) {
  if (state.problem) return failure(state, actions);
  if (!state.result) return state.loading ? skeleton() : nothing;
  const { hits } = state.result;
  if (!hits.length) return empty(state);
  return html`
    <div class="verdict">
      <h2 id="verdict" tabindex="-1">${verdict(state)}</h2>
      ${state.browsing ? nothing : html`<p>${facts(state.result, state.applied)}</p>`}
    </div>
    <ul class=${state.slow ? "grid stale" : "grid"} @keydown=${actions.roam}>
      ${repeat(hits, (hit) => hit.id, (hit, index) => card(hit, index, state, actions))}
    </ul>
    ${state.more ? html`<p class="more"><button class="button" type="button" @click=${actions.more}>${messages.more}</button></p>` : nothing}
  `;
}

function verdict({ browsing, result, like, query, picture }) {
  if (browsing) return messages.browse;
  if (like && !query && !picture) return messages.similarTo(like.title || messages.untitled);
  if (result.decision === "answer") return result.confidence === null ? messages.closest : messages.good;
  return result.decision === "broaden" ? messages.broaden : messages.none;
}

function facts(result, applied) {
  const parts = [messages.found(result.hits.length)];
  if (result.confidence !== null && result.decision === "answer") parts.push(messages.sure(percent(result.confidence)));
  if (applied) parts.push(messages.admitted(result.admitted));
  return parts.join(" · ");
}

function card(hit, index, state, actions) {
  const title = hit.title || messages.untitled;
  const price = priceOf(hit.attributes);
  const score = scoreOf(hit.score);
  const label = [title, price, state.browsing ? "" : messages.score(score)].filter(Boolean).join(", ");
  return html`
    <li>
      <a class="card" href=${link({ collection: state.collection, like: hit.id, where: state.where })} draggable="false"
        aria-label="${label}. ${messages.showSimilar}" @click=${(event) => actions.similar(event, hit)}>
        <span class="photo">
          ${hit.image
            ? html`<img src=${sized(hit.image, 400)} alt=${messages.photoOf(title)} loading=${index < EAGER ? "eager" : "lazy"} decoding="async"
                width="400" height="400" draggable="false" @error=${broken}>`
            : html`<span class="no-photo">${icon(frame)}</span>`}
        </span>
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

function empty({ applied }) {
  return html`
    <div class="message">
      <h2 id="verdict" tabindex="-1">${messages.nothing}</h2>
      <p>${applied ? messages.nothingFilter : messages.nothingEmpty}</p>
    </div>
  `;
}

function failure({ problem }, actions) {
  return html`
    <div class="message">
      <h2 id="verdict" tabindex="-1">${problem.title}</h2>
      <p>${problem.detail}</p>
      ${problem.again ? html`<button class="button" type="button" @click=${actions.retry}>${messages.again}</button>` : nothing}
    </div>
  `;
}

function skeleton() {
  return html`
    <div class="verdict"><p>${messages.searching}</p></div>
    <ul class="grid" aria-hidden="true">
      ${Array.from({ length: 12 }, () => html`<li><span class="card ghost"><span class="photo"></span><span class="title"></span></span></li>`)}
    </ul>
  `;
}

function sized(address, side) {
  return address.startsWith("/v1/") ? `${address}${address.includes("?") ? "&" : "?"}size=${side}` : address;
}

function scoreOf(score) {
  return new Intl.NumberFormat(language, { minimumFractionDigits: 2, maximumFractionDigits: 2 }).format(score);
}

function percent(share) {
  return new Intl.NumberFormat(language, { style: "percent", maximumFractionDigits: 0 }).format(Math.min(share, 0.99));
}

const SYMBOLS = { "€": "EUR", $: "USD", "£": "GBP", "¥": "JPY", "₹": "INR", "₩": "KRW" };

// A currency is an attribute of its own: a code, or the sign that stood before the number in the feed.
function priceOf(attributes) {
  if (typeof attributes.price !== "number") return "";
  const given = attributes.currency ?? attributes.price_currency ?? attributes.priceCurrency;
  const currency = SYMBOLS[given] ?? given;
  if (typeof currency === "string" && /^[A-Za-z]{3}$/.test(currency)) {
    return new Intl.NumberFormat(language, { style: "currency", currency, currencyDisplay: "narrowSymbol" }).format(attributes.price);
  }
  return new Intl.NumberFormat(language, { minimumFractionDigits: 2, maximumFractionDigits: 2 }).format(attributes.price);
}
