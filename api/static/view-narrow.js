// The column that narrows a search: facets with counts, ranges of numbers, an expression of one's own; and chips of what is chosen.

import { html, nothing, svg } from "./vendor/lit-html/lit-html.js";
import { live } from "./vendor/lit-html/directives/live.js";
import { messages, nameOf } from "./messages.js";
import { conditions } from "./narrowing.js";
import { cross, icon, number, sliders } from "./view-parts.js";

const FEW = 6; // values of a facet that are shown at first
const BARS = 8;

export function narrowing(state, actions) {
  const chosen = conditions(state.chosen).length;
  return html`
    <aside class="narrow" aria-label=${messages.narrow}>
      <button class="button narrow-button" type="button" aria-expanded=${state.narrowOpen ? "true" : "false"} aria-controls="narrow-body" @click=${actions.openNarrowing}>
        ${icon(sliders)} ${messages.narrow} ${chosen ? html`<span class="badge">${chosen}</span>` : nothing}
      </button>
      <div id="narrow-body" class=${state.narrowOpen ? "narrow-body open" : "narrow-body"}>
        ${state.result || state.filterProblem ? [state.facets.map((facet) => section(facet, state, actions)), ownFilter(state, actions)] : nothing}
      </div>
    </aside>
  `;
}

export function chips({ chosen }, actions) {
  const all = conditions(chosen);
  if (!all.length) return nothing;
  return html`
    <ul class="chips">
      ${all.map(({ name, value, range }) => chip(name, range ? span(range) : shown(value), () => (range ? actions.between(name, null, null) : actions.toggle(name, value))))}
      ${all.length > 1 ? html`<li><button class="plain" type="button" @click=${actions.widen}>${messages.clearAll}</button></li>` : nothing}
    </ul>
  `;
}

function chip(name, what, remove) {
  return html`
    <li>
      <button class="tag" type="button" aria-label=${messages.remove(`${nameOf(name)} ${what}`)} @click=${remove}>
        <span class="tag-name">${nameOf(name)}</span> <span dir="auto">${what}</span> ${icon(cross)}
      </button>
    </li>
  `;
}

function section(facet, state, actions) {
  const found = (state.result?.facets ?? []).find(({ name }) => name === facet.name);
  return facet.kind === "numbers" ? between(facet.name, found, state, actions) : values(facet.name, found, state, actions);
}

function values(name, found, state, actions) {
  const chosen = state.chosen.values[name] ?? [];
  const counted = found?.values ?? [];
  const absent = chosen.filter((value) => !counted.some((item) => item.value === value)).map((value) => ({ value, count: 0 }));
  const all = [...counted, ...absent];
  if (!all.length) return nothing;
  const open = state.unfolded.has(name);
  const listed = open ? all : all.filter(({ value }, index) => index < FEW || chosen.includes(value));
  return html`
    <fieldset class="facet">
      <legend>${nameOf(name)}</legend>
      ${listed.map(
        ({ value, count }) => html`
          <label class="check">
            <input type="checkbox" .checked=${live(chosen.includes(value))} @change=${() => actions.toggle(name, value)}>
            <span class="check-name" dir="auto">${shown(value)}</span><span class="count">${number(count)}</span>
          </label>
        `,
      )}
      ${all.length > FEW
        ? html`<button class="plain" type="button" aria-expanded=${open ? "true" : "false"} @click=${() => actions.unfold(name)}>
            ${open ? messages.fewerValues : messages.moreValues(all.length - listed.length)}
          </button>`
        : nothing}
    </fieldset>
  `;
}

function between(name, found, state, actions) {
  const { low = null, high = null } = state.chosen.ranges[name] ?? {};
  const telling = found && found.low !== found.high;
  if (!telling && low === null && high === null) return nothing; // not counted yet, or the same for all
  const end = (which, value, limit, label) => html`
    <label class="end">
      <span>${messages[which]}</span>
      <input type="number" step="any" inputmode="decimal" aria-label=${label(nameOf(name))} placeholder=${limit === null || limit === undefined ? "" : Math.round(limit)}
        .value=${live(value === null ? "" : String(value))} @change=${(event) => actions.bound(name, which === "from" ? "low" : "high", event)}>
    </label>
  `;
  return html`
    <fieldset class="facet">
      <legend>${nameOf(name)}</legend>
      ${found ? bars(rangesOf(found), low, high) : nothing}
      <div class="ends">
        ${end("from", low, found?.low, messages.lowest)}${end("to", high, found?.high, messages.highest)}
      </div>
    </fieldset>
  `;
}

// Few different numbers come one by one: they are put into ranges of equal width.
function rangesOf({ ranges, values: counted, low, high }) {
  const numbers = counted.filter(({ value }) => typeof value === "number");
  if (ranges.length || numbers.length < 2) return ranges;
  const [least, most] = [low ?? Math.min(...numbers.map(({ value }) => value)), high ?? Math.max(...numbers.map(({ value }) => value))];
  const made = Array.from({ length: BARS }, (_, index) => ({ low: least + ((most - least) * index) / BARS, high: least + ((most - least) * (index + 1)) / BARS, count: 0 }));
  for (const { value, count } of numbers) made[Math.min(BARS - 1, Math.floor((BARS * (value - least)) / (most - least || 1)))].count += count;
  return made;
}

// How many products lie in each range: a picture of the counts, drawn in attributes because the page allows no inline styles.
function bars(ranges, low, high) {
  const most = Math.max(...ranges.map(({ count }) => count), 1);
  const inside = (range) => (high === null || (range.low ?? -Infinity) <= high) && (low === null || (range.high ?? Infinity) > low);
  if (!ranges.length) return nothing;
  return html`
    <svg class="bars" viewBox="0 0 ${ranges.length * 12} 32" preserveAspectRatio="none" aria-hidden="true" focusable="false">
      ${ranges.map((range, index) => {
        const height = range.count ? Math.max(2, (30 * range.count) / most) : 0;
        return svg`<rect class=${inside(range) ? "in" : "out"} x=${index * 12 + 0.75} y=${32 - height} width="10.5" height=${height}></rect>`;
      })}
    </svg>
  `;
}

function ownFilter(state, actions) {
  const problem = state.filterProblem;
  return html`
    <details class="own" ?open=${state.filterOpen} @toggle=${actions.openFilter}>
      <summary>${messages.ownFilter}${state.where.trim() ? html`<span class="dot" aria-hidden="true"></span>` : nothing}</summary>
      <form @submit=${actions.applyFilter}>
        <label for="where">${messages.filterLabel}</label>
        <input
          id="where" name="where" type="text" autocomplete="off" autocapitalize="off" spellcheck="false" maxlength="2000"
          aria-describedby="where-note" aria-invalid=${problem ? "true" : "false"} .value=${live(state.where)} @input=${actions.typeFilter}
        >
        <p id="where-note" class=${problem ? "note wrong" : "note"}>
          ${problem ? problem.message : html`${messages.filterHint} <code>price &lt; 50 and brand = 'Acme'</code>`}
        </p>
        <button class="button small">${messages.apply}</button>
      </form>
    </details>
  `;
}

// A condition in the visitor's words: "Price ≤ 50", "Brand Acme, Apex".
export function condition({ name, values, end, bound }) {
  return `${nameOf(name)} ${values ? values.map(shown).join(", ") : span({ low: null, high: null, [end]: bound })}`;
}

function shown(value) {
  if (typeof value === "boolean") return value ? messages.yes : messages.no;
  return String(value);
}

function span({ low, high }) {
  if (low === null) return `≤ ${number(high)}`;
  return high === null ? `≥ ${number(low)}` : `${number(low)} – ${number(high)}`;
}
