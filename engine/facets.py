"""Counting the relevant documents by the values of an attribute.

Which documents are relevant is decided in `engine.relevance`; what may be asked for stands in `engine.listing`.
"""

import itertools
from collections import Counter
from collections.abc import Sequence

import numpy as np

from engine.index.attributes import Scalar
from engine.listing import Counted, CountedRange, Facet, FacetResult

RANGES = 5


def count(facet: Facet, values: Sequence[tuple[Scalar, ...]]) -> FacetResult:
    """Count documents, given the values each has of the facet's attribute; one with several counts for each of them."""
    missing = sum(not own for own in values)
    numbers = [float(value) for own in values for value in own if isinstance(value, int | float) and not isinstance(value, bool)]
    low, high = (min(numbers), max(numbers)) if numbers else (None, None)
    edges = facet.edges or _edges(numbers, facet.limit)
    if edges:
        ranges = _ranges(numbers, edges)
        other = sum(bool(own) for own in values) - sum(one.count for one in ranges)
        return FacetResult(facet.name, (), ranges, max(other, 0), missing, low, high)
    counted = Counter((isinstance(value, bool), value) for own in values for value in own)
    ordered = sorted(counted.items(), key=lambda item: (-item[1], isinstance(item[0][1], str), *item[0]))
    listed = tuple(Counted(value, number) for (_, value), number in ordered[: facet.limit])
    beyond = {value for value, _ in ordered[facet.limit :]}
    other = sum(any((isinstance(value, bool), value) in beyond for value in own) for own in values) if beyond else 0
    return FacetResult(facet.name, listed, (), other, missing, low, high)


def _edges(numbers: Sequence[float], limit: int) -> tuple[float, ...]:
    """Choose round edges that part many distinct numbers into ranges of about the same count; none for few numbers."""
    if len(set(numbers)) <= limit:
        return ()
    wanted = np.quantile(numbers, np.linspace(0, 1, RANGES + 1)[1:-1])
    edges = sorted({_rounded(float(edge)) for edge in wanted})
    return tuple(edge for edge in edges if min(numbers) < edge <= max(numbers))


def _rounded(value: float) -> float:
    """Round to two digits that people like to read."""
    return float(f"{value:.1e}")


def _ranges(numbers: Sequence[float], edges: Sequence[float]) -> tuple[CountedRange, ...]:
    places = Counter(np.searchsorted(edges, numbers, side="right").tolist()) if numbers else Counter[int]()
    bounds = [None, *edges, None]
    return tuple(CountedRange(low, high, places[n]) for n, (low, high) in enumerate(itertools.pairwise(bounds)))
