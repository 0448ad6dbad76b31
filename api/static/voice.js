// Searching by voice: the browser records, the server listens, and the words it heard are searched for.

import { messages } from "./messages.js";
import { failed, searchFor } from "./searching.js";
import { request } from "./server.js";
import { show, state } from "./state.js";

const LONGEST = 15_000; // ms

let recorder = null;

export function canRecord() {
  return Boolean(navigator.mediaDevices?.getUserMedia && globalThis.MediaRecorder);
}

// Begins to listen; called again, ends it.
export async function listen() {
  if (recorder) {
    recorder.stop();
    return;
  }
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ audio: true });
  } catch {
    show({ notice: messages.noMicrophone });
    return;
  }
  const parts = [];
  recorder = new MediaRecorder(stream);
  recorder.ondataavailable = ({ data }) => parts.push(data);
  recorder.onstop = () => {
    stream.getTracks().forEach((track) => track.stop());
    const kind = recorder.mimeType;
    recorder = null;
    understand(new Blob(parts, { type: kind }));
  };
  recorder.start();
  setTimeout((own) => own === recorder && recorder?.stop(), LONGEST, recorder);
  show({ listening: "now", notice: "", announcement: messages.listening });
}

async function understand(recording) {
  show({ listening: "after", announcement: messages.understanding });
  const fields = new FormData();
  fields.set("audio", recording, "question");
  fields.set("k", "1");
  fields.set("fallback", "never");
  try {
    const address = `/v1/collections/${encodeURIComponent(state.collection)}/search/voice`;
    const { transcript } = await request(address, { method: "POST", body: fields });
    show({ listening: "" });
    await searchFor({ query: transcript }, { focus: true });
  } catch (error) {
    const outcome = failed(error, false);
    if (outcome.locked) show({ listening: "", ...outcome });
    else show({ listening: "", notice: error.message || messages.offline });
  }
}
