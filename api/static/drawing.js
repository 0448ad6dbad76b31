// Drawings for what the catalogue does not have: asked for by the visitor, followed as a job, always shown as what they are.

import { failed } from "./searching.js";
import { follow } from "./jobs.js";
import { post } from "./server.js";
import { element, show, state } from "./state.js";
import { messages } from "./messages.js";

let following = null;

export async function draw() {
  following?.abort();
  const own = (following = new AbortController());
  const asked = state.result;
  show({ drawing: { job: null, preview: "", problem: "" } });
  const tell = (changes) => state.result === asked && !own.signal.aborted && show({ drawing: { ...state.drawing, ...changes } });
  try {
    const job = await post("/v1/generate", { prompt: state.query.trim(), collection: state.collection, k: 8, where: state.asked || null }, own.signal);
    tell({ job });
    await follow(job.id, (event, data) => tell(event === "preview" ? { preview: data.image } : { job: data }), own.signal);
    show({ announcement: messages.drawingDone });
    element("drawing-title")?.focus({ preventScroll: true });
  } catch (error) {
    if (error.name === "AbortError") return;
    const outcome = failed(error, false);
    if (outcome.locked) show(outcome);
    else tell({ problem: error.message || messages.offline });
  }
}
