// The search in the address bar, so that it can be shared and Back works.

const FIELDS = { collection: "c", query: "q", like: "like", url: "picture", where: "where", sort: "sort" };
const VALUE = "f.";
const RANGE = "r.";

export function read() {
  const parameters = new URLSearchParams(location.search);
  const search = Object.fromEntries(Object.entries(FIELDS).map(([name, key]) => [name, parameters.get(key) ?? ""]));
  return { ...search, chosen: chosenIn(parameters) };
}

export function write(search, { push, picture = null }) {
  const target = link(search);
  if (push && (target !== location.pathname + location.search || picture !== (history.state?.picture ?? null))) {
    history.pushState({ picture }, "", target);
  } else {
    history.replaceState({ picture }, "", target);
  }
}

export function link(search) {
  const parameters = new URLSearchParams();
  for (const [name, key] of Object.entries(FIELDS)) {
    if (search[name]) parameters.set(key, search[name]);
  }
  for (const [name, values] of Object.entries(search.chosen?.values ?? {})) {
    for (const value of values) parameters.append(VALUE + name, coded(value));
  }
  for (const [name, { low, high }] of Object.entries(search.chosen?.ranges ?? {})) {
    if (low !== null || high !== null) parameters.set(RANGE + name, `${low ?? ""}..${high ?? ""}`);
  }
  const text = parameters.toString();
  return text ? `/?${text}` : "/";
}

function chosenIn(parameters) {
  const chosen = { values: {}, ranges: {} };
  for (const [key, text] of parameters) {
    if (key.startsWith(VALUE)) (chosen.values[key.slice(VALUE.length)] ??= []).push(decoded(text));
    const found = key.startsWith(RANGE) && /^(-?[\d.]*)\.\.(-?[\d.]*)$/.exec(text);
    if (found) chosen.ranges[key.slice(RANGE.length)] = { low: number(found[1]), high: number(found[2]) };
  }
  return chosen;
}

function number(text) {
  return text === "" || Number.isNaN(Number(text)) ? null : Number(text);
}

// Texts stand as they are; a number or a truth value, and a text that looks like one, follows a tilde.
function coded(value) {
  return typeof value === "string" && !value.startsWith("~") ? value : `~${JSON.stringify(value)}`;
}

function decoded(text) {
  if (!text.startsWith("~")) return text;
  try {
    return JSON.parse(text.slice(1));
  } catch {
    return text;
  }
}
