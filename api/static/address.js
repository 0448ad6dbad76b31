// The search in the address bar, so that it can be shared and Back works.

const FIELDS = { collection: "c", query: "q", like: "like", where: "where" };

export function read() {
  const parameters = new URLSearchParams(location.search);
  return Object.fromEntries(Object.entries(FIELDS).map(([name, key]) => [name, parameters.get(key) ?? ""]));
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
  const text = parameters.toString();
  return text ? `/?${text}` : "/";
}
