// What narrows a search: chosen values, ranges of numbers, and an expression written by hand.
//
//   { values: { brand: ["Acme"] }, ranges: { price: { low: 10, high: null } }, where: "..." }

const PLAIN = /^[\p{L}_][\p{L}\p{N}_.-]*$/u;
const WORDS = new Set(["and", "or", "not", "in", "contains", "exists", "true", "false"]);
const UNITS = new Set(["currency", "price_currency", "pricecurrency"]); // of a price, shown with it
const MOST_FACETS = 5;
const MOST_RANGES = 2;

export const nothingChosen = () => ({ values: {}, ranges: {} });

// The filter expression for the server; `except` leaves the conditions on one attribute out.
export function expression(narrowed, except = null) {
  const parts = partsOf(narrowed).filter(({ name }) => name === null || name !== except);
  return parts.length === 1 && parts[0].name === null ? narrowed.where.trim() : parts.map(({ text }) => text).join(" and ");
}

// What to change in `narrowed` so that it does without what the server proposes; null where that is beyond a press of a button.
export function relaxation(narrowed, without) {
  const part = partsOf(narrowed).find(({ text }) => text === without);
  if (part?.name === null || expression(narrowed) === without) return { where: "", ...(part ? {} : { chosen: nothingChosen() }) };
  if (!part) return null;
  const { name, values, end } = part;
  const chosen = { values: narrowed.values, ranges: narrowed.ranges };
  if (values) return { chosen: { ...chosen, values: { ...chosen.values, [name]: [] } } };
  return { chosen: bounded(chosen, name, { ...chosen.ranges[name], [end]: null }) };
}

// Every condition as the server reads it: { name, text } and the values or the end of the range; the expression by hand has no name.
export function partsOf({ values, ranges, where }) {
  const own = where.trim() ? [{ name: null, text: `(${where.trim()})` }] : [];
  const chosen = Object.entries(values).filter(([, list]) => list.length);
  const ends = Object.entries(ranges).flatMap(([name, range]) => ["low", "high"].map((end) => ({ name, end, bound: range[end] })));
  return [
    ...own,
    ...chosen.map(([name, list]) => ({ name, values: list, text: `${written(name)} in (${list.map(literal).join(", ")})` })),
    ...ends.filter(({ bound }) => bound !== null).map((part) => ({ ...part, text: `${written(part.name)} ${part.end === "low" ? ">=" : "<="} ${part.bound}` })),
  ];
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
      if (name.includes("`") || UNITS.has(name.toLowerCase())) continue;
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
