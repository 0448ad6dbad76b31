"""Encoded queries -> lists of documents: found, weighed, counted and arranged in one state of the collection.

Queries are grouped so that each filter is planned once, and each group searched in one call. The group of a query is its filter and
its depth, so an answer never depends on what else was asked in the same moment.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
from jaxtyping import Float32

from engine import facets, relevance
from engine.arrange import Arranged, Values, grouped, lifts, sorted_places, without_duplicates
from engine.collection import Collection
from engine.datatypes import Evidence, Query
from engine.documents import key_of
from engine.errors import SemblanceError
from engine.evidence import JUDGED
from engine.index.planner import Depth, Found, find_with_words
from engine.index.snapshot import Snapshot
from engine.index.values import pictures_of, values_of, words_in
from engine.index.wording import Wording
from engine.listing import FacetResult
from engine.paging import START, Entry
from engine.queries import EncodedQuery
from engine.ranking import Weighing, view_weights


@dataclass(frozen=True, slots=True)
class Retrieved:
    """What one query found, at `version`: the list in its order, and what was counted over the relevant documents.

    `lift` is how far the words of the query moved the best document towards 1. `views` and `explained` go with `entries`. `judged`
    are the documents found by vectors alone, from which is told how sure the answer is, however many hits were asked for.
    """

    entries: tuple[Entry, ...]
    views: tuple[Mapping[str, float], ...]
    explained: tuple[Mapping[str, Evidence], ...] | None
    total: int
    admitted: int
    facets: tuple[FacetResult, ...]
    lift: float
    version: int
    judged: Found


@dataclass(frozen=True, slots=True)
class _Weighed:
    """A query with the weights it has in this state of the collection."""

    query: Query
    encoded: EncodedQuery
    weights: tuple[float, float]
    wording: Wording | None


def retrieve(
    collection: Collection, queries: Mapping[int, tuple[Query, EncodedQuery | SemblanceError]]
) -> dict[int, Retrieved | SemblanceError]:
    """Search for every query that could be encoded; a bad filter fails only the queries that have it."""
    found: dict[int, Retrieved | SemblanceError] = {}
    good: dict[int, tuple[Query, EncodedQuery]] = {}
    for number, (query, encoded) in queries.items():
        if isinstance(encoded, SemblanceError):
            found[number] = encoded
        else:
            good[number] = (query, encoded)
    snapshot = collection.snapshot() if good else None
    for where, numbers in _groups(good):
        try:
            group = [weighed(snapshot, *good[number]) for number in numbers]  # type: ignore[arg-type]
            found |= zip(numbers, _search_group(snapshot, where, group), strict=True)  # type: ignore[arg-type]
        except SemblanceError as error:
            found |= dict.fromkeys(numbers, error)
    return found


def _groups(queries: Mapping[int, tuple[Query, EncodedQuery]]) -> Iterator[tuple[str | None, list[int]]]:
    def group_of(number: int) -> tuple[bool, str, int]:
        query, encoded = queries[number]
        return query.where is not None, query.where or "", len(encoded.exclude)

    for (given, where, _), numbers in groupby(sorted(queries, key=group_of), key=group_of):
        yield (where if given else None), list(numbers)


def weighed(snapshot: Snapshot, query: Query, encoded: EncodedQuery) -> _Weighed:
    """Decide what titles and words weigh in a query, by what its words say in this state of the collection."""
    if query.target != "any" or not encoded.texts:
        return _Weighed(query, encoded, encoded.weights, None)
    wording, model = snapshot.statistics.wording(encoded.texts), Weighing.load()
    described = model.describe(wording.words, wording.information, snapshot.statistics.coverage(wording))
    title, lift = model.weigh(described)
    weights = view_weights(encoded.kinds, encoded.term_weights, query.target, title)
    return _Weighed(query, encoded, weights, replace(wording, weight=lift * encoded.worded))


def _search_group(snapshot: Snapshot, where: str | None, group: Sequence[_Weighed]) -> list[Retrieved]:
    vectors = np.stack([one.encoded.vector for one in group])
    weights = np.array([one.weights for one in group], np.float32)
    spare = len(group[0].encoded.exclude)
    plain = Depth(np.array([one.encoded.weights for one in group], np.float32), JUDGED + spare)
    wordings = [one.wording for one in group]
    found = find_with_words(snapshot, vectors, Depth(weights, relevance.DEPTH + spare), where, wordings, plain)
    admitted = snapshot.count(where)
    return [
        _listed(snapshot, one, _kept(one, own, relevance.DEPTH), _kept(one, judged, JUDGED), admitted)
        for own, judged, one in zip(*found, group, strict=True)
    ]


def _kept(one: _Weighed, found: Found, most: int) -> Found:
    return without(found, one.encoded.exclude, most)


def without(found: Found, ids: frozenset[str], most: int) -> Found:
    """Leave out the documents of some ids, and keep the first of the others."""
    if ids:
        found = found.take(np.flatnonzero(~np.isin(found.keys, [key_of(id) for id in ids])))
    return found if len(found) <= most else found.take(np.arange(most))


def _listed(snapshot: Snapshot, one: _Weighed, found: Found, judged: Found, admitted: int) -> Retrieved:
    query, relevant = one.query, _relevant(snapshot, one, found)
    values: Values = functools.cache(functools.partial(values_of, snapshot, found.keys))
    boosts = {boost.by: lifts(boost, values(boost.by)[:relevant]) for boost in query.boosts}
    scores = (found.scores[:relevant] + sum(boosts.values())).astype(np.float32)
    order = sorted_places(query.sort, scores, values) if query.sort or query.boosts else list(range(relevant))
    if not query.sort and query.cursor is None:
        order += range(relevant, len(found))  # what is less relevant fills up the answer, and is never counted
    arranged = _arranged(snapshot, query, found, order, values)
    counted = tuple(facets.count(facet, values(facet.name)[:relevant]) for facet in query.facets)
    shown = arranged.order if query.cursor == START else arranged.order[: query.k]
    return Retrieved(
        tuple(_entry(found, place, arranged) for place in shown),
        tuple(_views(found, place) for place in shown[: query.k]),
        tuple(_explained(snapshot, one, found, boosts, place) for place in shown[: query.k]) if query.explain else None,
        relevant,
        admitted,
        counted,
        float(found.lifts[0]) if len(found) else 0.0,
        snapshot.version,
        judged,
    )


def _relevant(snapshot: Snapshot, one: _Weighed, found: Found) -> int:
    """Count the relevant documents; they are the first of the list."""
    if not len(found):
        return 0
    mean = relevance.background(snapshot, one.encoded.vector, np.array(one.weights, np.float32))
    return int((found.scores >= relevance.bound(float(found.scores[0]), mean)).sum())


def _arranged(snapshot: Snapshot, query: Query, found: Found, order: list[int], values: Values) -> Arranged:
    variants: dict[int, tuple[int, ...]] = {}
    duplicates: dict[int, tuple[int, ...]] = {}
    if query.group_by is not None:
        order, variants = grouped(order, values(query.group_by))
    if query.dedup:
        order, duplicates = without_duplicates(order, *pictures_of(snapshot, found.keys))
    return Arranged(tuple(order), variants, duplicates)


def _entry(found: Found, place: int, arranged: Arranged) -> Entry:
    behind = (arranged.variants.get(place, ()), arranged.duplicates.get(place, ()))
    return Entry(
        int(found.keys[place]), float(found.scores[place]), *(tuple(int(found.keys[p]) for p in places) for places in behind)
    )


def _views(found: Found, place: int) -> dict[str, float]:
    views = {"image": float(found.image[place]), "title": float(found.title[place])}
    present = {name: cosine for name, cosine in views.items() if not np.isnan(cosine)}
    return present | ({"lexical": float(found.words[place])} if found.words[place] > 0 else {})


def _explained(
    snapshot: Snapshot, one: _Weighed, found: Found, boosts: Mapping[str, Float32[np.ndarray, " n"]], place: int
) -> dict[str, Evidence]:
    """Lay out the evidence of one hit, view by view."""
    wording, held = one.wording, float(found.words[place])
    lexical = float(found.lifts[place]) / held if held else wording.weight if wording else 0.0
    columns = {"image": (found.image, one.weights[0]), "title": (found.title, one.weights[1])}
    columns |= {"lexical": (found.words, lexical)} if wording else {}
    for name, values in boosts.items():
        columns[f"boost:{name}"] = np.concatenate([values, np.zeros(len(found) - len(values), np.float32)]), 1.0
    evidence = {}
    for name, (column, weight) in columns.items():
        if not np.isnan(column[place]):
            words = words_in(snapshot, int(found.keys[place]), wording) if name == "lexical" and wording else ()
            rank = int((column > column[place]).sum()) + 1
            evidence[name] = Evidence(float(column[place]), rank, float(weight), words)
    return evidence
