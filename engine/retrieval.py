"""Encoded queries -> candidates: grouped so that each filter is planned once, and each group searched in one call.

The group of a query is its filter and its k, so an answer never depends on what else was asked in the same moment.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from engine.collection import Candidate, Collection
from engine.datatypes import Query
from engine.documents import key_of
from engine.errors import SemblanceError
from engine.queries import EncodedQuery


@dataclass(frozen=True, slots=True)
class Retrieved:
    """What one query found: candidates best first, and how many documents its filter admits."""

    candidates: list[Candidate]
    total: int


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
    for where, numbers in _groups(good):
        try:
            found |= zip(numbers, _search_group(collection, where, [good[number] for number in numbers]), strict=True)
        except SemblanceError as error:
            found |= dict.fromkeys(numbers, error)
    return found


def _groups(queries: Mapping[int, tuple[Query, EncodedQuery]]) -> Iterator[tuple[str | None, list[int]]]:
    def group_of(number: int) -> tuple[bool, str, int]:
        query, encoded = queries[number]
        return query.where is not None, query.where or "", query.k + len(encoded.exclude)

    for (given, where, _), numbers in groupby(sorted(queries, key=group_of), key=group_of):
        yield (where if given else None), list(numbers)


def _search_group(collection: Collection, where: str | None, group: Sequence[tuple[Query, EncodedQuery]]) -> list[Retrieved]:
    vectors = np.stack([encoded.vector for _, encoded in group])
    weights = np.array([encoded.weights for _, encoded in group], np.float32)
    first_query, first = group[0]
    results = collection.search(vectors, first_query.k + len(first.exclude), weights=weights, where=where)
    total = collection.count(where)
    return [
        Retrieved(_without(found, encoded.exclude)[: query.k], total)
        for found, (query, encoded) in zip(results, group, strict=True)
    ]


def _without(candidates: list[Candidate], ids: frozenset[str]) -> list[Candidate]:
    keys = {key_of(id) for id in ids}
    return [candidate for candidate in candidates if candidate.key not in keys]
