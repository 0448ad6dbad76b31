"""Lists of documents -> answers: a page of hits read from the documents, and the cursor for the next one.

How a list came about stands in `engine.retrieval`, what a cursor is in `engine.paging`.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

from engine.collection import Collection
from engine.datatypes import Decision, Document, Hit, Query, SearchResult
from engine.documents import key_of
from engine.paging import START, Entry, Frozen
from engine.retrieval import Retrieved

BEHIND = 20  # so many variants and duplicates are named at most
ASSURED = 0.5  # words that carry a document so far towards 1 make it an answer, whatever the cosines say


Read: TypeAlias = Callable[[Sequence[int]], list[Document | None]]
"""Reads documents by key, in input order, None for one that is gone."""


def read_ahead(collection: Collection, pages: Sequence[tuple[Sequence[Entry], int]]) -> Read:
    """Read the first `k` entries of several lists at once; what the reader given back is asked beyond them it reads then."""
    keys = list(dict.fromkeys(key for entries, k in pages for key in _keys(entries[:k])))
    held = dict(zip(keys, collection.hydrate(keys) if keys else (), strict=True))

    def read(asked: Sequence[int]) -> list[Document | None]:
        missing = [key for key in asked if key not in held]
        held.update(zip(missing, collection.hydrate(missing) if missing else (), strict=True))
        return [held[key] for key in asked]

    return read


def hits_of(read: Read, entries: Sequence[Entry], k: int) -> tuple[tuple[Hit, ...], int]:
    """Make hits of the first `k` entries that still exist; also tells how many entries that took.

    A document deleted since the list was made is passed over.
    """
    hits: list[Hit] = []
    taken = 0
    while len(hits) < k and taken < len(entries):
        batch = entries[taken : taken + k - len(hits)]
        taken += len(batch)
        keys = _keys(batch)
        documents = dict(zip(keys, read(keys), strict=True))
        hits += [_hit(entry, document, documents) for entry in batch if (document := documents[entry.key]) is not None]
    return tuple(hits), taken


def described(hits: Sequence[Hit], found: Retrieved) -> tuple[Hit, ...]:
    """Add to hits what each view gave, and how their scores came about when that was asked for."""
    places = {entry.key: place for place, entry in enumerate(found.entries[: len(found.views)])}
    shown = [(hit, places.get(key_of(hit.id))) for hit in hits]
    explained = found.explained
    return tuple(
        hit if place is None else replace(hit, views=found.views[place], explain=explained[place] if explained else None)
        for hit, place in shown
    )


def _keys(entries: Sequence[Entry]) -> list[int]:
    return [key for entry in entries for key in (entry.key, *_behind(entry))]


def _behind(entry: Entry) -> list[int]:
    return [*entry.variants[:BEHIND], *entry.duplicates[:BEHIND]]


def _hit(entry: Entry, document: Document, documents: dict[int, Document | None]) -> Hit:
    variants, duplicates = (
        tuple(other.id for key in keys[:BEHIND] if (other := documents[key]) is not None)
        for keys in (entry.variants, entry.duplicates)
    )
    image = document.images[0] if document.images else None
    return Hit(document.id, entry.score, document.title, image, document.attributes, {}, variants, duplicates)


def assured(confidence: float | None, decision: Decision, lift: float) -> tuple[float | None, Decision]:
    """Let the words of a query speak for its answer: they lift a confidence as they lift a score."""
    sure = None if confidence is None else confidence + lift * (1.0 - confidence)
    return sure, "answer" if lift >= ASSURED else decision


def frozen(asked: str, query: Query, found: Retrieved, result: SearchResult, taken: int) -> str | None:
    """Write the cursor for what comes after the first `taken` entries; None when no pages were asked for or nothing is left."""
    if query.cursor != START:
        return None
    whole = Frozen(asked, found.version, found.total, found.admitted, result.confidence, result.decision, found.entries)
    rest = whole.after(taken)
    return rest.text() if rest else None


def turned(collection: Collection, query: Query, list_: Frozen) -> SearchResult:
    """Answer with the next page of a list made before."""
    hits, taken = hits_of(collection.hydrate, list_.left, query.k)
    rest = list_.after(taken)
    return SearchResult(
        hits,
        list_.confidence,
        list_.decision,
        list_.total,
        {},
        list_.version,
        admitted=list_.admitted,
        cursor=rest.text() if rest else None,
    )
