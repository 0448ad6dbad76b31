// What the page of those who look after the catalogue looks like for a state.

import { html, nothing } from "./vendor/lit-html/lit-html.js";
import { live } from "./vendor/lit-html/directives/live.js";
import { repeat } from "./vendor/lit-html/directives/repeat.js";
import { hasEnded } from "./jobs.js";
import { language, messages } from "./messages.js";
import { icon, number, sheet } from "./view-parts.js";
import { locked } from "./view-results.js";
import { languageSwitch } from "./views.js";

export function adminPage(state, actions) {
  return html`
    <div class="shell">
      <header class="top">
        <a class="brand" href="/"><img src="/static/favicon.svg" alt="" width="28" height="28"><span>Semblance</span></a>
        ${languageSwitch(actions)}
      </header>
      <main>
        <h1>${messages.admin}</h1>
        ${state.locked ? locked(state, actions) : [sending(state, actions), collections(state), imports(state, actions)]}
      </main>
      <p class="visually-hidden" role="status" aria-live="polite">${state.announcement}</p>
    </div>
  `;
}

function sending(state, actions) {
  return html`
    <section class="panel" aria-labelledby="send-title">
      <h2 id="send-title">${messages.importTitle}</h2>
      <p class="note">${messages.importHint}</p>
      <form class="send" @submit=${actions.send}>
        <label class="file" @dragover=${actions.hold} @drop=${actions.drop}>
          ${icon(sheet)}
          <span class="file-name" dir="auto">${state.file ? state.file.name : messages.chooseFile}</span>
          <input id="catalogue" class="visually-hidden" type="file" accept=".csv,.tsv,.json,.jsonl,.ndjson,.parquet,.xml" aria-label=${messages.chooseFile} @change=${actions.choose}>
        </label>
        <label class="into">
          <span>${messages.collection}</span>
          <input class="field" list="names" autocomplete="off" autocapitalize="off" spellcheck="false" maxlength="63" required .value=${live(state.collection)} @input=${actions.name}>
        </label>
        <datalist id="names">${state.collections.map(({ name }) => html`<option value=${name}></option>`)}</datalist>
        <label class="prune"><input type="checkbox" .checked=${live(state.prune)} @change=${actions.prune}> ${messages.prune}</label>
        <button class="button strong" ?disabled=${!state.file || state.sending}>${state.sending ? messages.sending : messages.importNow}</button>
      </form>
      ${state.problem ? html`<p class="notice wrong" role="alert">${state.problem}</p>` : nothing}
    </section>
  `;
}

function collections({ collections: all, unusable }) {
  const closed = Object.entries(unusable);
  if (!all.length && !closed.length) return nothing;
  return html`
    <section class="panel" aria-labelledby="collections-title">
      <h2 id="collections-title">${messages.collections}</h2>
      <div class="scroll" tabindex="0" role="group" aria-labelledby="collections-title">
        <table>
          <thead><tr><th scope="col">${messages.collection}</th><th scope="col" class="number">${messages.products}</th><th scope="col">${messages.encoder}</th></tr></thead>
          <tbody>
            ${all.map(({ name, documents, encoder }) => html`<tr><td><a href="/?c=${name}">${name}</a></td><td class="number">${number(documents)}</td><td><code>${encoder}</code></td></tr>`)}
            ${closed.map(([name, reason]) => html`<tr><td>${name}</td><td class="wrong" colspan="2">${reason}</td></tr>`)}
          </tbody>
        </table>
      </div>
    </section>
  `;
}

function imports(state, actions) {
  if (state.loading) return html`<p class="note">${messages.searching}</p>`;
  return html`
    <section aria-labelledby="imports-title">
      <h2 id="imports-title">${messages.imports}</h2>
      ${state.jobs.length ? repeat(state.jobs, (job) => job.id, (job) => one(job, state, actions)) : html`<p class="note">${messages.noImports}</p>`}
    </section>
  `;
}

function one(job, state, actions) {
  const counts = { ...job.progress, ...job.result };
  const ended = hasEnded(job);
  const wrong = (counts.refused ?? 0) + (counts.remarks ?? 0);
  const rows = state.rows.get(job.id);
  return html`
    <article class="panel job" aria-label="${messages.importOf(job.collection)}, ${when(job)}">
      <div class="job-head">
        <h3>${job.collection}</h3><span class="state ${job.state}">${job.cancel_requested && !ended ? messages.ending : messages.jobStates[job.state]}</span>
        <time datetime=${job.created_at}>${when(job)}</time>
      </div>
      ${ended ? nothing : bar(job, counts)}
      <dl class="counts">
        ${["read", "created", "updated", "unchanged", "pruned", "refused"].map((name) =>
          counts[name] ? html`<div class=${name}><dt>${messages.counts[name]}</dt><dd>${number(counts[name])}</dd></div>` : nothing,
        )}
      </dl>
      ${job.message && job.state !== "done" ? html`<p class=${job.state === "failed" ? "wrong" : "note"}>${job.message}</p>` : nothing}
      <div class="job-buttons">
        ${ended ? nothing : html`<button class="button small" type="button" ?disabled=${job.cancel_requested} @click=${() => actions.cancel(job)}>${messages.cancel}</button>`}
        ${wrong && !rows ? html`<button class="button small" type="button" @click=${() => actions.showRows(job)}>${messages.showRows(number(wrong))}</button>` : nothing}
        ${rows ? html`<button class="button small" type="button" @click=${() => actions.hideRows(job)}>${messages.hideRows}</button>` : nothing}
        ${ended && counts.refused ? html`<button class="button small" type="button" @click=${() => actions.retry(job)}>${messages.retryRows}</button>` : nothing}
        ${wrong ? html`<button class="plain" type="button" @click=${() => actions.fetchRows(job)}>${messages.fetchRows}</button>` : nothing}
      </div>
      ${rows ? table(job, rows, actions) : nothing}
    </article>
  `;
}

function bar(job, counts) {
  const label = messages.progressOf(number(counts.read ?? 0), counts.total ? number(counts.total) : null);
  return html`
    ${counts.total ? html`<progress max=${counts.total} value=${Math.min(counts.read ?? 0, counts.total)} aria-label=${label}></progress>` : html`<progress aria-label=${label}></progress>`}
    <p class="note">${label}</p>
  `;
}

function table(job, { rows, next }, actions) {
  return html`
    <div class="scroll" tabindex="0" role="group" aria-label=${messages.refusedRows}>
      <table class="rows">
        <caption class="visually-hidden">${messages.refusedRows}</caption>
        <thead><tr><th scope="col" class="number">${messages.row}</th><th scope="col">${messages.product}</th><th scope="col">${messages.reason}</th><th scope="col">${messages.code}</th></tr></thead>
        <tbody>
          ${rows.map(({ row, id, reason, code }) => html`<tr><td class="number">${number(row)}</td><td dir="auto">${id ?? "–"}</td><td dir="auto">${reason}</td><td><code>${code}</code></td></tr>`)}
        </tbody>
      </table>
    </div>
    ${next === null ? nothing : html`<button class="plain" type="button" @click=${() => actions.showRows(job)}>${messages.more}</button>`}
  `;
}

function when(job) {
  return new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "short" }).format(new Date(job.created_at));
}
