// The page of those who look after the catalogue: its state and what changes it. Views are in admin-views.js.

import { render } from "./vendor/lit-html/lit-html.js";
import { adminPage } from "./admin-views.js";
import { listCollections } from "./catalogue.js";
import * as jobs from "./jobs.js";
import { language, messages, speak } from "./messages.js";
import { Problem, useKey } from "./server.js";

const NAME = /^[a-z0-9][a-z0-9_-]{0,62}$/;

const root = document.getElementById("page");
const state = { collections: [], unusable: {}, jobs: [], rows: new Map(), file: null, collection: "", prune: false, sending: false, loading: true, locked: null, problem: "", announcement: "" };
const followed = new Set();

function show(changes = {}) {
  Object.assign(state, changes);
  document.title = `Semblance – ${messages.admin}`;
  render(adminPage(state, actions), root);
}

function told(error) {
  if (!(error instanceof Problem)) throw error;
  if (error.status === 401 || error.status === 403) return { locked: error };
  return { problem: error.message || messages.offline };
}

async function start() {
  document.documentElement.lang = language;
  show({ loading: true, locked: null, problem: "" });
  try {
    const [{ collections, unusable }, imports] = await Promise.all([listCollections(), jobs.newest("import")]);
    show({ collections, unusable, jobs: imports, collection: state.collection || preferred(collections), loading: false });
    imports.forEach(follow);
  } catch (error) {
    show({ loading: false, ...told(error) });
  }
}

// As on the search page: "shop" is the catalogue of the quickstart.
function preferred(collections) {
  return collections.some(({ name }) => name === "shop") || !collections.length ? "shop" : collections[0].name;
}

function put(job) {
  const known = state.jobs.some(({ id }) => id === job.id);
  show({ jobs: known ? state.jobs.map((other) => (other.id === job.id ? job : other)) : [job, ...state.jobs] });
}

async function follow(job) {
  if (jobs.hasEnded(job) || followed.has(job.id)) return;
  followed.add(job.id);
  try {
    await jobs.follow(job.id, (event, data) => event !== "preview" && put(data));
    const ended = state.jobs.find(({ id }) => id === job.id);
    show({ ...(await listCollections()), announcement: messages.jobStates[ended.state] });
    if (refused(ended)) await readRows(ended);
  } catch (error) {
    show(told(error));
  } finally {
    followed.delete(job.id);
  }
}

function refused(job) {
  return Math.max(job.result?.refused ?? job.progress.refused ?? 0, 0) + (job.result?.remarks ?? 0);
}

async function readRows(job) {
  const before = state.rows.get(job.id)?.rows ?? [];
  const { errors, next } = await jobs.refusedRows(job, before.length);
  state.rows.set(job.id, { rows: [...before, ...errors], next });
  show();
}

async function attempt(work) {
  show({ problem: "" });
  try {
    await work();
  } catch (error) {
    show(told(error));
  }
}

const actions = {
  switchLanguage(event) {
    speak(event.target.value);
    show();
  },
  enterKey(event) {
    event.preventDefault();
    useKey(document.getElementById("key").value.trim());
    start();
  },
  name: (event) => show({ collection: event.target.value.trim() }),
  prune: (event) => show({ prune: event.target.checked }),
  choose: (event) => show({ file: event.target.files[0] ?? null, problem: "" }),
  drop(event) {
    event.preventDefault();
    const file = event.dataTransfer.files[0];
    if (file) show({ file, problem: "" });
  },
  hold: (event) => event.preventDefault(),
  async send(event) {
    event.preventDefault();
    if (!state.file || state.sending) return;
    if (!NAME.test(state.collection)) {
      show({ problem: messages.badName });
      return;
    }
    show({ sending: true });
    await attempt(async () => {
      const job = await jobs.upload(state.collection, state.file, state);
      document.getElementById("catalogue").value = "";
      show({ file: null });
      put(job);
      follow(job);
    });
    show({ sending: false });
  },
  cancel: (job) => attempt(async () => put(await jobs.cancel(job.id))),
  retry: (job) =>
    attempt(async () => {
      const again = await jobs.retry(job);
      put(again);
      follow(again);
    }),
  showRows: (job) => attempt(() => readRows(job)),
  hideRows(job) {
    state.rows.delete(job.id);
    show();
  },
  fetchRows: (job) =>
    attempt(async () => {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(await jobs.refusedFile(job));
      link.download = `${job.collection}-errors.csv`;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
    }),
  retryStart: start,
};

start();
