// Starts the search page and listens to the window. State is in state.js, searches in searching.js, what a visitor does in actions.js.

import { render } from "./vendor/lit-html/lit-html.js";
import * as address from "./address.js";
import { actionsOf, pictures, takePicture } from "./actions.js";
import { listCollections, readAbilities, readDocument } from "./catalogue.js";
import { language, messages } from "./messages.js";
import { carriesFiles, pictureIn } from "./pictures.js";
import { failed, remember, run } from "./searching.js";
import { drawWith, element, show, state } from "./state.js";
import { page } from "./views.js";

const root = element("page");
const actions = actionsOf(start);
drawWith((now) => render(page(now, actions), root));

addEventListener("keydown", (event) => {
  const writing = event.target.closest?.("input, textarea, select");
  if (event.key === "/" && !writing && !event.ctrlKey && !event.metaKey) {
    event.preventDefault();
    element("query").focus();
    element("query").select();
  }
});

addEventListener("paste", (event) => {
  const file = pictureIn(event.clipboardData);
  if (!file) return;
  event.preventDefault();
  takePicture(file);
});

addEventListener("dragover", (event) => {
  if (!carriesFiles(event.dataTransfer)) return;
  event.preventDefault();
  if (!state.dragging) show({ dragging: true });
});

addEventListener("dragleave", (event) => {
  if (event.relatedTarget === null) show({ dragging: false });
});

addEventListener("drop", (event) => {
  if (!carriesFiles(event.dataTransfer)) return;
  event.preventDefault();
  show({ dragging: false });
  const file = pictureIn(event.dataTransfer);
  if (file) takePicture(file);
  else show({ notice: messages.notAPicture });
});

addEventListener("popstate", () => openAddress());

async function openAddress(early = {}) {
  const { collection, query, like, url, where, chosen, sort } = address.read();
  const number = history.state?.picture ?? null;
  const picture = url ? { url } : (pictures.get(number) ?? null);
  const notice = number !== null && !picture && !early.picture ? messages.pictureGone : "";
  const shown = state.result?.hits.find((hit) => hit.id === like);
  show({ collection: collection || preferred(), query, where, chosen, sort, picture, like: like ? (shown ?? { id: like, title: "", image: null }) : null });
  show({ filterOpen: where !== "", filterProblem: null, notice, ...early });
  remember(false);
  if (like && !shown) introduce(like);
  await run();
}

// A link names a product by its id: find out what it is called and looks like.
async function introduce(id) {
  const product = await readDocument(state.collection, id).catch(() => ({ title: id, image: null }));
  if (state.like?.id !== id) return;
  show({ like: { id, title: product.title, image: product.image } });
  remember(false);
}

// The quickstart's catalogue is named "shop": where there is one, visitors begin there.
function preferred() {
  return (state.collections.find((item) => item.name === "shop") ?? state.collections[0]).name;
}

async function start() {
  document.documentElement.lang = language;
  const { query, like, url, where, chosen, sort } = address.read();
  show({ problem: null, locked: null, loading: true, query, where, chosen, sort, landing: !query && !like && !url && !where && !sort });
  let unusable = {};
  try {
    const [found, abilities] = await Promise.all([listCollections(), readAbilities()]);
    unusable = found.unusable;
    show({ collections: found.collections, abilities });
  } catch (error) {
    show({ loading: false, ...failed(error, false) });
    return;
  }
  if (!state.collections.length) {
    const [reason] = Object.values(unusable);
    show({ loading: false, problem: { title: reason ? messages.unusable : messages.noCollections, detail: reason ?? messages.noCollectionsHint, again: true, empty: !reason } });
    return;
  }
  const early = state.query !== query || state.picture; // the visitor was quicker than the server
  await openAddress(early ? { query: state.query, picture: state.picture } : {});
}

start();
