"""Printing what a search found: a table of hits, and one for whatever else was asked for."""

from collections.abc import Iterator

from cli.output import note, say_table
from engine.datatypes import Evidence, Hit, SearchResult
from engine.listing import FacetResult


def show(result: SearchResult) -> None:
    """Print the hits, the evidence, what stands behind them and the counts; the cursor goes to stderr."""
    say_table(("score", "id", "title", "image"), [(f"{hit.score:.3f}", hit.id, hit.title, hit.image or "") for hit in result.hits])
    tables = (
        (("id", "view", "score", "rank", "weight", "words"), [line for hit in result.hits for line in _evidence(hit)]),
        (("id", "behind it", "ids"), [line for hit in result.hits for line in _behind(hit)]),
        (("facet", "value", "count"), [line for facet in result.facets for line in _counts(facet)]),
    )
    for heading, rows in tables:
        if rows:
            say_table(heading, rows)
    if result.cursor:
        note(f"next page: --cursor {result.cursor}")
    found = f"{len(result.hits)} hits, {result.total} relevant among {result.admitted} documents"
    note(f"{found}; {result.decision}, {result.timings_ms['total']:.0f} ms")


def _evidence(hit: Hit) -> Iterator[tuple[str, ...]]:
    for name, part in (hit.explain or {}).items():
        yield hit.id, name, *_figures(part), " ".join(part.words)


def _figures(part: Evidence) -> tuple[str, str, str]:
    return f"{part.score:.3f}", str(part.rank), f"{part.weight:.3f}"


def _behind(hit: Hit) -> Iterator[tuple[str, str, str]]:
    for kind, ids in (("variants", hit.variants), ("duplicates", hit.duplicates)):
        if ids:
            yield hit.id, kind, " ".join(ids)


def _counts(facet: FacetResult) -> Iterator[tuple[str, str, str]]:
    for value in facet.values:
        yield facet.name, str(value.value), str(value.count)
    for span in facet.ranges:
        low, high = ("" if end is None else f"{end:g}" for end in (span.low, span.high))
        yield facet.name, f"{low}..{high}", str(span.count)
