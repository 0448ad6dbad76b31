"""The order of a list of documents: boosted, sorted, with variants and duplicates behind the one that stands for them.

It takes and gives places in a list that is ordered by score. How scores come about is `engine.ranking`; which documents are
relevant is `engine.relevance`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float32

from engine.index.attributes import Scalar
from engine.index.instants import instant
from engine.listing import SCORE, Boost, Sort

SAME_PICTURE = 0.97  # cosine; measured in docs/decisions/0022

Values: TypeAlias = Callable[[str], Sequence[tuple[Scalar, ...]]]


@dataclass(frozen=True)
class Arranged:
    """Places in the order of the list; behind some of them others, by `variants` and `duplicates`, best first."""

    order: tuple[int, ...]
    variants: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    duplicates: Mapping[int, tuple[int, ...]] = field(default_factory=dict)


def lifts(boost: Boost, values: Sequence[tuple[Scalar, ...]]) -> Float32[np.ndarray, " n"]:
    """Tell by how much a boost raises each document."""
    numbers = np.array([max([0.0, *(float(v) for v in own if _is_number(v))]) for own in values])
    highest = np.log1p(numbers.max(initial=0.0))
    shares = np.log1p(numbers) / highest if highest > 0 else np.zeros(len(numbers))
    return (boost.weight * shares).astype(np.float32)


def sorted_places(sorts: Sequence[Sort], scores: Float32[np.ndarray, " n"], values: Values) -> list[int]:
    """Order places by the first sort, those equal in it by the second, and so on; what is left by falling score, then as given."""
    places = sorted(range(len(scores)), key=lambda place: -float(scores[place]))
    for sort in reversed(sorts):
        if sort.by == SCORE:
            places.sort(key=lambda place: float(scores[place]), reverse=sort.descending)
            continue
        keys = [_key(own, sort.descending) for own in values(sort.by)]
        having = sorted((p for p in places if keys[p] is not None), key=lambda place: keys[place], reverse=sort.descending)  # type: ignore[arg-type,return-value]
        places = having + [place for place in places if keys[place] is None]
    return places


def _key(own: Sequence[Scalar], descending: bool) -> tuple[int, float, str] | None:
    """Make values of all kinds comparable: numbers, then dates, then texts; of a list the first in the order wanted."""
    keys = [_comparable(value) for value in own]
    return (max if descending else min)(keys) if keys else None


def _comparable(value: Scalar) -> tuple[int, float, str]:
    if not isinstance(value, str):
        return 0, float(value), ""
    moment = instant(value)
    return (2, 0.0, value) if moment is None else (1, moment, "")


def _is_number(value: Scalar) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def grouped(order: Sequence[int], values: Sequence[tuple[Scalar, ...]]) -> tuple[list[int], dict[int, tuple[int, ...]]]:
    """Keep the first document of each value and put the others behind it; one without the attribute stands for itself."""
    first: dict[tuple[tuple[bool, Scalar], ...], int] = {}
    behind: dict[int, list[int]] = {}
    kept = []
    for place in order:
        value = tuple((isinstance(item, bool), item) for item in values[place])
        leader = first.setdefault(value, place) if value else place
        if leader == place:
            kept.append(place)
        else:
            behind.setdefault(leader, []).append(place)
    return kept, {leader: tuple(places) for leader, places in behind.items()}


def without_duplicates(
    order: Sequence[int], vectors: Float32[np.ndarray, "n 256"], has: Bool[np.ndarray, " n"]
) -> tuple[list[int], dict[int, tuple[int, ...]]]:
    """Keep the first of documents whose pictures are nearly the same and put the others behind it.

    A document is compared with those kept, not with the duplicates of those, so a chain of small differences does not collapse.
    """
    alike = (vectors @ vectors.T >= SAME_PICTURE) & has & has[:, None]
    kept: list[int] = []
    standing = np.zeros(len(vectors), bool)
    rank = np.argsort(np.array([*order, *np.setdiff1d(np.arange(len(vectors)), order)]))
    behind: dict[int, list[int]] = {}
    for place in order:
        same = np.flatnonzero(alike[place] & standing)
        if len(same):
            behind.setdefault(int(same[np.argmin(rank[same])]), []).append(place)
        else:
            kept.append(place)
            standing[place] = True
    return kept, {leader: tuple(places) for leader, places in behind.items()}
