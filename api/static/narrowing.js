// What narrows a search: chosen values, ranges of numbers, and an expression written by hand.
//
//   { values: { brand: ["Acme"] }, ranges: { price: { low: 10, high: null } }, where: "..." }

const PLAIN = /^[\p{L}_][\p{L}\p{N}_.-]*$/u;
const WORDS = new Set(["and", "or", "not", "in", "contains", "exists", "true", "false"]);
const MOST_FACETS = 5;
const MOST_RANGES = 2;

export const nothingChosen = () => ({ values: {}, ranges: {} });

// The filter expression for the server; `except` leaves the conditions on one attribute out.
export function expression({ values, ranges, where }, except = null) {
  const parts = where.trim() ? [`(${where.trim()})`] : [];
  for (const [name, chosen] of Object.entries(values)) {
    if (name !== except && chosen.length) parts.push(`${written(name)} in (${chosen.map(literal).join(", ")})`);
  }
  for (const [name, { low, high }] of Object.entries(ranges)) {
    if (name === except) continue;
    if (low !== null) parts.push(`${written(name)} >= ${low}`);
    if (high !== null) parts.push(`${written(name)} <= ${high}`);
  }
  return parts.length === 1 && where.trim() ? where.trim() : parts.join(" and ");
}

// Every condition by itself, for the chips above the results.
export function conditions({ values, ranges }) {
  const chosen = Object.entries(values).flatMap(([name, list]) => list.map((value) => ({ name, value })));
  const between = Object.entries(ranges).filter(([, { low, high }]) => low !== null || high !== null);
  return [...chosen, ...between.map(([name, range]) => ({ name, range }))];
}

export function toggled(chosen, name, value) {
  const before = chosen.values[name] ?? [];
  const after = before.includes(value) ? before.filter((item) => item !== value) : [...before, value];
  return { ...chosen, values: { ...chosen.values, [name]: after } };
}

export function bounded(chosen, name, range) {
  return { ...chosen, ranges: { ...chosen.ranges, [name]: range } };
}

// Which attributes are worth counting by, learnt from a sample of the catalogue: those that many products share the values of.
export function facetsOf(hits) {
  const kinds = [...gather(hits)].map(([name, values]) => ({ name, ...kindOf(values), shared: values.length }));
  const wanted = (kind, most) => kinds.filter((item) => item.kind === kind).sort((a, b) => b.shared - a.shared).slice(0, most);
  return [...wanted("values", MOST_FACETS), ...wanted("numbers", MOST_RANGES)].map(({ name, kind }) => ({ name, kind }));
}

function gather(hits) {
  const found = new Map();
  for (const { attributes } of hits) {
    for (const [name, value] of Object.entries(attributes)) {
      if (name.includes("`")) continue;
      found.set(name, [...(found.get(name) ?? []), ...[value].flat()]);
    }
  }
  return found;
}

function kindOf(values) {
  const distinct = new Set(values).size;
  if (distinct < 2) return { kind: "none" };
  if (values.every((value) => typeof value === "number")) return { kind: distinct > 3 ? "numbers" : "values" };
  const short = values.every((value) => String(value).length <= 40);
  return { kind: short && (distinct <= 12 || distinct <= values.length / 2) && distinct < values.length ? "values" : "none" };
}

function written(name) {
  return PLAIN.test(name) && !WORDS.has(name.toLowerCase()) ? name : `\`${name}\``;
}

function literal(value) {
  return typeof value === "string" ? `'${value.replaceAll("\\", "\\\\").replaceAll("'", "''")}'` : String(value);
}
