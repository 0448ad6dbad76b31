"""How candidates are found: the filter's documents are counted exactly, then each part is scanned or searched.

Few admitted documents -> an exact scan of just those. Many -> the approximate index with a selector, more effort the less the
filter keeps, and more candidates than asked for. Whatever comes back short or undecided at the edge -> exact. The candidates of all
parts and views, and the documents that have the words of the query, are scored exactly and fused. Storage and filters do not
belong here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Float32, Int64

from engine.datatypes import VIEWS, Vectors, View
from engine.index.delta import Delta
from engine.index.matches import check_vectors, contenders
from engine.index.segment import Segment, nearest_documents
from engine.index.snapshot import Selection, Snapshot
from engine.index.wording import Wording
from engine.ranking import fuse, lifted

EXACT_DOCUMENTS = 4_000  # scanning so many costs as much processor time as searching inverted lists with a selector, 4 ms
SCAN_CELLS = 4_000_000  # scores held at a time during a scan, 16 MB per view

Weights = Float32[np.ndarray, "q 2"]


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
        rows = zip(*(getattr(self, field.name).tolist() for field in fields(self)), strict=True)
        return [Candidate(key, score, _cosine(image), _cosine(title), words) for key, score, image, title, words, _ in rows]


def find(snapshot: Snapshot, vectors: Vectors, weights: Weights, k: int, where: str | None) -> list[list[Candidate]]:
    """Find the `k` best documents per query by their vectors alone, ties by ascending key; raises `InvalidFilter`."""
    return [found.candidates() for found in find_with_words(snapshot, vectors, weights, k, where, [None] * len(vectors))]


def find_with_words(
    snapshot: Snapshot, vectors: Vectors, weights: Weights, k: int, where: str | None, wordings: Sequence[Wording | None]
) -> list[Found]:
    """Find the `k` best documents per query, best first, ties by ascending key; raises `InvalidFilter`.

    A query with a `Wording` also finds the documents that have its words.
    """
    check_vectors(vectors)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    asked = _Asked(vectors / np.where(lengths > 0, lengths, 1), weights, k, wordings, snapshot.probes)
    found: list[list[Found]] = [[] for _ in vectors]
    for selection in snapshot.select(where):
        if len(selection):
            for number, documents in enumerate(_contenders(selection, asked)):
                found[number].append(_best(selection.part, asked.only(number), documents))
    return [_merged(parts, k) for parts in found]


@dataclass(frozen=True, slots=True)
class _Asked:
    """Queries of one search: unit vectors, shares of the views, and the words of those that have any."""

    vectors: Vectors
    weights: Weights
    k: int
    wordings: Sequence[Wording | None]
    probes: int  # inverted lists visited, 0 to scan everything

    def __len__(self) -> int:
        return len(self.vectors)

    def only(self, *numbers: int) -> "_Asked":
        rows = list(numbers)
        return _Asked(self.vectors[rows], self.weights[rows], self.k, [self.wordings[row] for row in rows], self.probes)


def _contenders(selection: Selection, asked: _Asked) -> list[np.ndarray]:
    """List the documents of one part that may be among the `k` best of each query."""
    part = selection.part
    resident = all(part.rows(view).resident for view in VIEWS)
    if isinstance(part, Delta) or len(selection) <= EXACT_DOCUMENTS or resident or not asked.probes:
        return _scan(selection, asked)
    gathered: list[list[np.ndarray] | None] = [[_worded(selection, wording, asked.k)] for wording in asked.wordings]
    for column, view in enumerate(VIEWS):
        asking = [number for number in range(len(asked)) if asked.weights[number, column] > 0 and gathered[number] is not None]
        answers = _search_view(selection, view, asked.only(*asking))
        for number, documents in zip(asking, answers, strict=True):
            held = gathered[number]
            gathered[number] = None if documents is None or held is None else [*held, documents]
    undecided = [number for number, documents in enumerate(gathered) if documents is None]
    scanned = iter(_scan(selection, asked.only(*undecided)) if undecided else [])
    return [next(scanned) if documents is None else _union(documents) for documents in gathered]


def _worded(selection: Selection, wording: Wording | None, k: int) -> np.ndarray:
    """List the admitted documents that have most of a query's words."""
    if wording is None:
        return np.zeros(0, np.uint32)
    numbers, lifts = wording.lifts(selection.part)
    if selection.documents is not None:
        admitted = np.isin(numbers, selection.documents, assume_unique=True)
        numbers, lifts = numbers[admitted], lifts[admitted]
    best: np.ndarray = numbers[contenders(lifts, k)]
    return best


def _search_view(selection: Selection, view: View, asked: _Asked) -> Sequence[np.ndarray | None]:
    part, allowed = selection.part, selection.rows(view)
    index = part.index(view) if isinstance(part, Segment) else None
    if index is None or not len(asked) or (allowed is not None and not len(allowed)):
        return [np.zeros(0, np.uint32) for _ in range(len(asked))]
    return nearest_documents(part.rows(view), index, asked.vectors, asked.k, allowed, probes=asked.probes)


def _scan(selection: Selection, asked: _Asked) -> list[np.ndarray]:
    """Score every admitted document of a part under every view and keep those that may be among the `k` best."""
    picks: list[np.ndarray] = []
    step = max(1, SCAN_CELLS // len(selection))
    for start in range(0, len(asked), step):
        block = asked.only(*range(start, min(start + step, len(asked))))
        cosines = [
            selection.part.rows(view).scan(block.vectors, selection.documents)
            if block.weights[:, column].any()
            else np.full((len(block), len(selection)), np.nan, np.float32)
            for column, view in enumerate(VIEWS)
        ]
        for row, wording in enumerate(block.wordings):
            scores = fuse(cosines[0][row], cosines[1][row], block.weights[row])
            if wording is not None:
                scores = lifted(scores, _spread(*wording.lifts(selection.part), selection.documents, len(selection.part)))
            picks.append(contenders(scores, asked.k))
    return picks if selection.documents is None else [selection.documents[pick] for pick in picks]


def _spread(numbers: np.ndarray, values: np.ndarray, documents: np.ndarray | None, total: int) -> Float32[np.ndarray, " n"]:
    """Lay values of a part's documents `numbers` out over `documents` (both ascending; None: all `total`), 0 elsewhere."""
    if documents is None:
        found = np.zeros(total, np.float32)
        found[numbers] = values
        return found
    if not len(numbers):
        return np.zeros(len(documents), np.float32)
    places = np.minimum(np.searchsorted(numbers, documents), len(numbers) - 1)
    spread: Float32[np.ndarray, " n"] = np.where(numbers[places] == documents, values[places], np.float32(0))
    return spread


def _best(part: Segment | Delta, asked: _Asked, documents: np.ndarray) -> Found:
    """Score `documents` from their stored vectors and words for the one query asked, and give the `k` best of them."""
    image, title = (
        np.clip(part.rows(view).rescore(asked.vectors[0], documents), -1.0, 1.0) for view in VIEWS
    )  # fp16 rounds past 1
    keys, wording, cosines = part.keys[documents], asked.wordings[0], fuse(image, title, asked.weights[0])
    words = lifts = np.zeros(len(keys), np.float32)
    if wording is not None:
        words, lifts = (_spread(*pairs, documents, len(part)) for pairs in (wording.scores(part), wording.lifts(part)))
    found = Found(keys, lifted(cosines, lifts), image, title, words, lifts)
    order = np.lexsort((keys, -found.scores))[: asked.k]
    return found.take(order[found.scores[order] > -np.inf])


def _merged(parts: Sequence[Found], k: int) -> Found:
    """Join what the parts found."""
    none = Found(np.zeros(0, np.int64), *(np.zeros(0, np.float32) for _ in range(5)))
    if len(parts) == 1:
        return parts[0]
    found = Found(*(np.concatenate([getattr(part, field.name) for part in (none, *parts)]) for field in fields(Found)))
    return found.take(np.lexsort((found.keys, -found.scores))[:k])


def _cosine(value: float) -> float | None:
    return None if np.isnan(value) else value


def _union(documents: list[np.ndarray]) -> np.ndarray:
    return np.unique(np.concatenate(documents)) if documents else np.zeros(0, np.uint32)
