// A drawing: offered where nothing fits, shown while it is made, and never without the words that say it is no product.

import { html, nothing } from "./vendor/lit-html/lit-html.js";
import { messages } from "./messages.js";
import { hasEnded } from "./jobs.js";
import { brush, icon } from "./view-parts.js";

// `grid` lays out products; it is given, because the grid's own view shows drawings too.
export function drawing(state, actions, grid) {
  if (state.browsing || !state.query.trim() || !["generate", "abstain"].includes(state.result.decision)) return nothing;
  if (!state.drawing) return state.result.decision === "generate" && state.abilities.draws ? offer(actions) : nothing;
  const { job, problem } = state.drawing;
  if (problem || job?.state === "failed") return html`<section class="drawing"><p class="wrong" role="alert">${problem || job.message || messages.drawingFailed}</p></section>`;
  if (job && hasEnded(job) && job.result?.drawing) return finished(job.result, state, actions, grid);
  return underWay(state.drawing);
}

function offer(actions) {
  return html`
    <section class="drawing">
      <div class="drawing-words"><h3>${messages.drawOffer}</h3><p>${messages.drawHint}</p></div>
      <button class="button strong" type="button" @click=${actions.draw}>${icon(brush)} ${messages.drawNow}</button>
    </section>
  `;
}

function underWay({ job, preview }) {
  const { done, total } = job?.progress ?? {};
  return html`
    <section class="drawing" aria-busy="true">
      <figure class="drawn">${preview ? html`<img src=${preview} alt=${messages.drawnPicture} width="220" height="220">` : html`<span class="canvas"></span>`}${badge()}</figure>
      <div class="drawing-words">
        <h3>${messages.drawingNow}</h3>
        ${total ? html`<progress max=${total} value=${done} aria-label=${messages.drawingNow}></progress>` : html`<progress aria-label=${messages.drawingNow}></progress>`}
      </div>
    </section>
  `;
}

function finished({ drawing: made, closest }, state, actions, grid) {
  return html`
    <section class="drawing">
      <figure class="drawn"><img src=${made.image} alt=${messages.drawnPicture} width="220" height="220">${badge()}</figure>
      <div class="drawing-words">
        <h3 id="drawing-title" tabindex="-1">${messages.drawnTitle}</h3>
        <p>${messages.drawnBy(made.model)}</p>
      </div>
      ${closest?.length ? html`<div class="drawing-closest"><h4>${messages.drawnClosest}</h4>${grid(closest, state, actions)}</div>` : nothing}
    </section>
  `;
}

function badge() {
  return html`<figcaption class="synthetic">${messages.synthetic}</figcaption>`;
}
