"""How candidates are found: the filter's documents are counted exactly, then each part is scanned or searched.

Few admitted documents -> an exact scan of just those. Many -> the approximate index with a selector, more effort the less the
filter keeps, and more candidates than asked for. Whatever comes back short or undecided at the edge -> exact. The candidates of all
parts and views, and the documents that have the words of the query, are scored exactly and fused. Storage and filters do not
belong here.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Bool, Float32, Int64

from engine.datatypes import VIEWS, Vectors, View
from engine.index.delta import Delta
from engine.index.matches import check_vectors, contenders
from engine.index.nearest import Near, Wanted, nearest_documents, scanned_documents
from engine.index.segment import Segment
from engine.index.snapshot import Selection, Snapshot
from engine.index.wording import Wording
from engine.ranking import fuse, lifted

EXACT_DOCUMENTS = 4_000  # scanning so many costs as much processor time as searching inverted lists with a selector, 4 ms
SCAN_GAIN = 5  # so many times as many where one view decides: FAISS scans them without widening them first
SCAN_CELLS = 4_000_000  # scores held at a time during a scan, 16 MB per view

Weights = Float32[np.ndarray, "q 2"]


ViewSearch: TypeAlias = Callable[[Selection, View, Wanted], Near]


class Pairs(NamedTuple):
    """Query `owners[i]` may be answered by document `documents[i]` of a part; owners ascend."""

    owners: Int64[np.ndarray, " n"]
    documents: Int64[np.ndarray, " n"]


@dataclass(frozen=True, slots=True)
class Depth:
    """How many documents are wanted of each query, by which shares of (image, title)."""

    weights: Weights
    k: int


@dataclass(frozen=True, slots=True)
class Candidate:
    """A document that may be a hit: its score, the cosine of each view it has, and the share of the query's words it holds."""

    key: int
    score: float
    image: float | None
    title: float | None
    words: float = 0.0


@dataclass(frozen=True, slots=True)
class Found:
    """What one query found, best first: struct of arrays. `image` and `title` are NaN where a document lacks the view.

    `words` are the shares of the query's information that documents hold, `lifts` how far that moved their cosines towards 1.
    """

    keys: Int64[np.ndarray, " n"]
    scores: Float32[np.ndarray, " n"]
    image: Float32[np.ndarray, " n"]
    title: Float32[np.ndarray, " n"]
    words: Float32[np.ndarray, " n"]
    lifts: Float32[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.keys)

    def take(self, places: np.ndarray) -> "Found":
        """Keep the documents at `places`, in that order."""
        return Found(*(getattr(self, field.name)[places] for field in fields(self)))

    def candidates(self) -> list[Candidate]:
        """Lay out one object a document."""
        columns = (column.tolist() for column in (self.keys, self.scores, self.image, self.title, self.words))
        return [Candidate(key, score, _cosine(i), _cosine(t), words) for key, score, i, t, words in zip(*columns, strict=True)]


def find(snapshot: Snapshot, vectors: Vectors, weights: Weights, k: int, where: str | None) -> list[list[Candidate]]:
    """Find the `k` best documents per query by their vectors alone, ties by ascending key; raises `InvalidFilter`."""
    return [found.candidates() for found in find_by_vectors(snapshot, vectors, Depth(weights, k), where)]


def find_by_vectors(snapshot: Snapshot, vectors: Vectors, depth: Depth, where: str | None) -> list[Found]:
    """Find the best documents per query by their vectors alone, best first, ties by ascending key; raises `InvalidFilter`."""
    return find_with_words(snapshot, vectors, depth, where, [None] * len(vectors))[0]


def find_with_words(
    snapshot: Snapshot,
    vectors: Vectors,
    depth: Depth,
    where: str | None,
    wordings: Sequence[Wording | None],
    plain: Depth | None = None,
) -> tuple[list[Found], list[Found]]:
    """Find the best documents per query, best first, ties by ascending key; raises `InvalidFilter`.

    A query with a `Wording` also finds the documents that have its words. `plain` asks beside that for the best by the vectors
    alone, weighed in its own way: the same documents are looked at, so it costs next to nothing.
    """
    check_vectors(vectors)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    wordless = all(wording is None for wording in wordings)
    asked = _Asked(vectors / np.where(lengths > 0, lengths, 1), depth, plain, None if wordless else wordings, snapshot.probes)
    selections = (selection for selection in snapshot.select(where) if len(selection))
    parts = [_scored(selection.part, asked, _contenders(selection, asked)) for selection in selections]
    found = _ranked([(owners, own) for owners, own, _ in parts], len(vectors), depth.k)
    return found, _ranked([(owners, own) for owners, _, own in parts if own], len(vectors), plain.k) if plain else []


@dataclass(frozen=True, slots=True)
class _Asked:
    """Queries of one search: unit vectors, what is wanted of them, and the words of those that have any."""

    vectors: Vectors
    depth: Depth
    plain: Depth | None
    wordings: Sequence[Wording | None] | None
    probes: int  # inverted lists visited, 0 to scan everything

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def weighed(self) -> Bool[np.ndarray, "q 2"]:
        """Which views have a say."""
        weighed: Bool[np.ndarray, "q 2"] = self.depth.weights > 0
        return weighed if self.plain is None else weighed | (self.plain.weights > 0)

    @property
    def alone(self) -> bool:
        """Whether one view decides everything."""
        return self.wordings is None and not self.weighed.all(axis=1).any()

    @property
    def wanted(self) -> Wanted:
        """What each view is asked for."""
        return Wanted(self.vectors, self.depth.k, self.alone, self.probes)

    def only(self, rows: Int64[np.ndarray, " r"]) -> "_Asked":
        """Keep some of the queries."""
        if len(rows) == len(self):
            return self
        wordings = None if self.wordings is None else [self.wordings[row] for row in rows]
        depth, plain = (one and Depth(one.weights[rows], one.k) for one in (self.depth, self.plain))
        return _Asked(self.vectors[rows], depth or self.depth, plain, wordings, self.probes)


def _contenders(selection: Selection, asked: _Asked) -> Pairs:
    """List the documents of one part that may be among the `k` best of each query."""
    part, left = selection.part, np.arange(len(asked))
    if isinstance(part, Delta) or (not asked.alone and all(part.rows(view).resident for view in VIEWS)):
        return _joined(_scan(selection, asked))
    found: list[Pairs] = []
    for way in _ways(selection, asked):
        pairs, undecided = _by_views(way, selection, asked.only(left))
        found.append(Pairs(left[pairs.owners], pairs.documents))
        left = left[undecided]
        if not len(left):
            return _distinct(found, len(part))
    scanned = _joined(_scan(selection, asked.only(left)))
    return _distinct([*found, Pairs(left[scanned.owners], scanned.documents)], len(part))


def _ways(selection: Selection, asked: _Asked) -> list[ViewSearch]:
    """List what is tried before every score is computed."""
    scans: list[ViewSearch] = [_scanned_view] if asked.alone else []
    if len(selection) <= EXACT_DOCUMENTS * (SCAN_GAIN if asked.alone else 1) or not asked.probes:
        return scans
    return [_searched_view, *scans]


def _by_views(search: ViewSearch, selection: Selection, asked: _Asked) -> tuple[Pairs, np.ndarray]:
    """Gather candidates view by view, and by words; tells which queries are undecided, which have none then."""
    found, undecided = (
        [] if asked.wordings is None else [_worded(selection, asked.wordings, asked.depth.k)],
        np.zeros(len(asked), bool),
    )
    for column, view in enumerate(VIEWS):
        asking = np.flatnonzero(asked.weighed[:, column] & ~undecided)
        if len(asking) and len(selection.part.rows(view)):
            near = search(selection, view, asked.only(asking).wanted)
            found.append(Pairs(asking[near.owners], near.documents))
            undecided[asking[near.undecided]] = True
    pairs = _distinct(found, len(selection.part))
    if not undecided.any():
        return pairs, undecided
    return Pairs(*(column[~undecided[pairs.owners]] for column in pairs)), undecided


def _searched_view(selection: Selection, view: View, wanted: Wanted) -> Near:
    assert isinstance(selection.part, Segment)  # noqa: S101  only those are searched
    index, allowed = selection.part.index(view), selection.rows(view)
    if index is None or (allowed is not None and not len(allowed)):
        return Near.none(len(wanted.vectors))
    return nearest_documents(selection.part.rows(view), index, wanted, allowed)


def _scanned_view(selection: Selection, view: View, wanted: Wanted) -> Near:
    return scanned_documents(selection.part.rows(view), selection.documents, wanted)


def _worded(selection: Selection, wordings: Sequence[Wording | None], k: int) -> Pairs:
    """List the admitted documents that have most of a query's words."""
    found = []
    for wording in wordings:
        found.append(np.zeros(0, np.int64) if wording is None else wording.best(selection.part, k, selection.mask))
    return _joined(found)


def _scan(selection: Selection, asked: _Asked) -> list[np.ndarray]:
    """Score every admitted document of a part under every view and keep those that may be among the `k` best."""
    picks: list[np.ndarray] = []
    step = max(1, SCAN_CELLS // len(selection))
    documents = np.arange(len(selection.part)) if selection.documents is None else selection.documents
    for start in range(0, len(asked), step):
        block = asked.only(np.arange(start, min(start + step, len(asked))))
        cosines = [
            selection.part.rows(view).scan(block.vectors, selection.documents)
            if block.weighed[:, column].any()
            else np.full((len(block), len(selection)), np.nan, np.float32)
            for column, view in enumerate(VIEWS)
        ]
        for row in range(len(block)):
            image, title = cosines[0][row], cosines[1][row]
            scores = fuse(image, title, block.depth.weights[row])
            if block.wordings is not None and (wording := block.wordings[row]) is not None:
                scores = lifted(scores, wording.at(selection.part, documents)[1])
            pick = contenders(scores, asked.depth.k)
            if block.plain is not None and len(pick) < len(scores):
                pick = np.union1d(pick, contenders(fuse(image, title, block.plain.weights[row]), block.plain.k))
            picks.append(pick)
    return picks if selection.documents is None else [selection.documents[pick] for pick in picks]


def _scored(part: Segment | Delta, asked: _Asked, pairs: Pairs) -> tuple[np.ndarray, Found, Found | None]:
    """Score pairs from the stored vectors and words; gives the queries they belong to, and the documents as each depth has them."""
    owners, documents = pairs
    image, title = (
        np.clip(part.rows(view).rescore_pairs(asked.vectors, owners, documents), -1.0, 1.0) for view in VIEWS
    )  # fp16 rounds past 1
    none, keys = np.zeros(len(documents), np.float32), part.keys[documents]
    at: int | np.ndarray = 0 if len(asked) == 1 else owners
    cosines = fuse(image, title, asked.depth.weights[at])
    beside = None if asked.plain is None else Found(keys, fuse(image, title, asked.plain.weights[at]), image, title, none, none)
    if asked.wordings is None:
        return owners, Found(keys, cosines, image, title, none, none), beside
    words, lifts = np.zeros((2, len(documents)), np.float32)
    for number, wording in enumerate(asked.wordings):
        if wording is not None:
            own = slice(*np.searchsorted(owners, (number, number + 1)))
            words[own], lifts[own] = wording.at(part, documents[own])
    return owners, Found(keys, lifted(cosines, lifts), image, title, words, lifts), beside


def _ranked(parts: Sequence[tuple[np.ndarray, Found]], queries: int, k: int) -> list[Found]:
    """Join what the parts found and give each query its `k` best."""
    none = Found(np.zeros(0, np.int64), *(np.zeros(0, np.float32) for _ in range(5)))
    owners = np.concatenate([np.zeros(0, np.int64), *(owners for owners, _ in parts)])
    columns = [[getattr(found, field.name) for found in (none, *(found for _, found in parts))] for field in fields(Found)]
    joined = [np.concatenate(column) if len(column) != 2 else column[1] for column in columns]
    keys, scores = joined[:2]
    order = np.lexsort((keys, -scores) if queries == 1 else (keys, -scores, owners))
    order = order[scores[order] > -np.inf]
    joined = [column[order] for column in joined]
    starts = np.searchsorted(owners[order], np.arange(queries + 1)).tolist()
    return [Found(*(column[start : min(end, start + k)] for column in joined)) for start, end in itertools.pairwise(starts)]


def _cosine(value: float) -> float | None:
    return None if value != value else value  # NaN  # noqa: PLR0124


def _joined(documents: Sequence[np.ndarray]) -> Pairs:
    """Lay the documents of each query one after another."""
    owners = np.repeat(np.arange(len(documents)), [len(own) for own in documents])
    return Pairs(owners, np.concatenate([np.zeros(0, np.int64), *documents]).astype(np.int64, copy=False))


def _distinct(found: Sequence[Pairs], documents: int) -> Pairs:
    """Join pairs, each once, ascending; `documents` is how many the part has."""
    filled = [pairs for pairs in found if len(pairs.owners)]
    if len(filled) == 1:
        return filled[0]
    codes = np.unique(np.concatenate([np.zeros(0, np.int64), *(pairs.owners * documents + pairs.documents for pairs in filled)]))
    return Pairs(*np.divmod(codes, documents))
