// What the search page looks like for a state. Titles and attributes are hostile text: they only ever go through lit-html's bindings.

import { html, nothing } from "./vendor/lit-html/lit-html.js";
import { live } from "./vendor/lit-html/directives/live.js";
import { link } from "./address.js";
import { language, languages, messages } from "./messages.js";
import { narrowing } from "./view-narrow.js";
import { camera, cross, frame, icon, magnifier, microphone, sized } from "./view-parts.js";
import { results } from "./view-results.js";
import { canRecord } from "./voice.js";

export function page(state, actions) {
  const narrow = !state.landing && !state.problem && !state.locked;
  return html`
    <div class=${state.landing ? "shell landing" : "shell"}>
      ${header(state, actions)}
      <div class=${narrow ? "columns" : ""}>
        ${narrow ? narrowing(state, actions) : nothing}
        <main id="results" aria-busy=${state.loading ? "true" : "false"}>
          <div class="progress" ?hidden=${!state.slow}></div>
          ${results(state, actions)}
        </main>
      </div>
      <footer><a href="/admin">${messages.admin}</a> <a href="/docs">API</a></footer>
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
        <div class="switches">
          ${state.collections.length > 1 ? collectionSwitch(state, actions) : nothing} ${languageSwitch(actions)}
        </div>
      </div>
      <h1 class="tagline">${messages.tagline}</h1>
      <search>
        ${box(state, actions)}
        <input id="picture-file" type="file" accept="image/*" hidden @change=${actions.chosen}>
        <input id="picture-camera" type="file" accept="image/*" capture="environment" hidden @change=${actions.chosen}>
        ${state.landing ? dropZone(state, actions) : nothing} ${weighing(state, actions)}
        ${state.notice ? html`<p class="notice" role="alert">${state.notice}</p>` : nothing}
      </search>
    </header>
  `;
}

function box(state, actions) {
  return html`
    <form class="box" role="search" @submit=${actions.submit}>
      ${icon(magnifier)} ${shown(state, actions)}
      <input
        id="query" class="query" type="search" name="q" autocomplete="off" autocapitalize="off" spellcheck="false" enterkeyhint="search"
        maxlength="2000" aria-label=${messages.search}
        placeholder=${hint(state)}
        .value=${live(state.query)} @input=${actions.type} @compositionend=${actions.type}
      >
      <button class="round" type="button" ?hidden=${!state.query} aria-label=${messages.clear} title=${messages.clear} @click=${actions.clear}>
        ${icon(cross)}
      </button>
      ${canRecord() && state.abilities.listens && !state.query ? microphoneButton(state, actions) : nothing}
      <button class="round picture-button" type="button" aria-label=${messages.searchByPicture} title=${messages.searchByPicture} @click=${actions.choose}>
        ${icon(camera)}
      </button>
    </form>
  `;
}

function hint({ listening, picture, like }) {
  if (listening) return listening === "now" ? messages.listening : messages.understanding;
  return picture || like ? messages.addWords : messages.placeholder;
}

function microphoneButton({ listening }, actions) {
  const label = listening === "now" ? messages.stopListening : messages.speak;
  return html`
    <button class="round microphone ${listening}" type="button" aria-label=${label} title=${label} aria-pressed=${listening === "now" ? "true" : "false"}
      ?disabled=${listening === "after"} @click=${actions.listen}>
      ${icon(microphone)}
    </button>
  `;
}

function collectionSwitch(state, actions) {
  return html`
    <label class="select">
      <span class="visually-hidden">${messages.collection}</span>
      <select @change=${actions.switchCollection} .value=${live(state.collection)}>
        ${state.collections.map((item) => html`<option value=${item.name} ?selected=${item.name === state.collection}>${item.name}</option>`)}
      </select>
    </label>
  `;
}

export function languageSwitch(actions) {
  return html`
    <label class="select">
      <span class="visually-hidden">${messages.language}</span>
      <select @change=${actions.switchLanguage} .value=${live(language)}>
        ${Object.entries(languages).map(([tag, words]) => html`<option value=${tag} lang=${tag} ?selected=${tag === language}>${words.languageName}</option>`)}
      </select>
    </label>
  `;
}

// What is shown to the search: a picture of the visitor's, one at an address, or a product.
function shown(state, actions) {
  if (state.picture) {
    const { address, url } = state.picture;
    const face = url ? html`<span class="chip-text">${messages.pictureFrom(hostOf(url))}</span>` : html`<img src=${address} alt=${messages.yourPicture}>`;
    return chip(face, url ?? messages.yourPicture, messages.removePicture, actions);
  }
  if (!state.like) return nothing;
  const title = messages.similarTo(state.like.title || messages.untitled);
  const face = state.like.image ? html`<img src=${sized(state.like.image, 96)} alt=${title}>` : html`<span class="chip-text">${title}</span>`;
  return chip(face, title, messages.removeSimilar, actions);
}

function chip(face, title, remove, actions) {
  return html`
    <span class="chip" title=${title}>
      ${face}
      <button type="button" aria-label=${remove} title=${remove} @click=${actions.removeShown}>${icon(cross)}</button>
    </span>
  `;
}

function dropZone({ abilities }, actions) {
  return html`
    <div class="drop-zone">
      ${icon(frame)}
      <p>${messages.dropHint}${abilities.fetches ? html`<small>${messages.linkHint}</small>` : nothing}</p>
      <div class="drop-buttons">
        <button type="button" class="button" @click=${actions.choose}>${messages.choosePicture}</button>
        <button type="button" class="button phone-only" @click=${actions.photograph}>${messages.takePhoto}</button>
      </div>
    </div>
  `;
}

// "This, but red": once there are a picture or a product and words, the visitor says how much each counts.
function weighing(state, actions) {
  if (!state.query.trim() || !(state.picture || state.like)) return nothing;
  const { weights } = state;
  return html`
    <fieldset class="weights">
      <legend class="visually-hidden">${messages.compose}</legend>
      ${weight("shown", state.picture ? messages.thePicture : messages.theProduct, 0, state, actions)}
      ${weight("words", messages.theWords, -1, state, actions)}
      <button class="plain" type="button" ?hidden=${weights.shown === 1 && weights.words === 1} @click=${actions.weighEvenly}>${messages.reset}</button>
    </fieldset>
  `;
}

function weight(part, label, least, { weights }, actions) {
  const value = weights[part];
  return html`
    <label class="weight">
      <span>${label}</span>
      <input type="range" min=${least} max="2" step="0.1" aria-valuetext=${inWords(value)} .value=${live(String(value))} @input=${(event) => actions.weigh(part, event)}>
      <output>${inWords(value)}</output>
    </label>
  `;
}

function inWords(value) {
  if (value < 0) return messages.less;
  if (value === 0) return messages.ignored;
  return value > 1 ? messages.much : value < 1 ? messages.little : messages.normal;
}

function hostOf(url) {
  try {
    return new URL(url).host;
  } catch {
    return url;
  }
}
