"""How candidates are found: the filter's documents are counted exactly, then each part is scanned or searched.

Few admitted documents -> an exact scan of just those. Many -> the approximate index with a selector, more effort the less the
filter keeps, and more candidates than asked for. Whatever comes back short or undecided at the edge -> exact. The candidates of all
parts and views are scored exactly from the stored vectors and fused. Storage and filters do not belong here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from engine.datatypes import VIEWS, Vector, Vectors, View
from engine.index.ann import RowSet
from engine.index.delta import Delta
from engine.index.matches import check_vectors, contenders
from engine.index.segment import Segment, nearest_documents
from engine.index.snapshot import Selection, Snapshot
from engine.ranking import fuse

EXACT_DOCUMENTS = 4_000  # scanning so many costs as much processor time as searching inverted lists with a selector, 4 ms
SCAN_CELLS = 4_000_000  # scores held at a time during a scan, 16 MB per view

Weights = Float32[np.ndarray, "q 2"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A document that may be a hit: its fused score and the cosine of each view it has."""

    key: int
    score: float
    image: float | None
    title: float | None


def find(snapshot: Snapshot, vectors: Vectors, weights: Weights, k: int, where: str | None) -> list[list[Candidate]]:
    """Find the `k` best documents per query, best first, ties by ascending key; raises `InvalidFilter`."""
    check_vectors(vectors)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors = vectors / np.where(lengths > 0, lengths, 1)
    found: list[list[Candidate]] = [[] for _ in vectors]
    for selection in snapshot.select(where):
        if len(selection):
            for number, documents in enumerate(_contenders(selection, vectors, weights, k)):
                found[number] += _best(selection.part, vectors[number], weights[number], documents, k)
    return [sorted(candidates, key=lambda candidate: (-candidate.score, candidate.key))[:k] for candidates in found]


def _contenders(selection: Selection, vectors: Vectors, weights: Weights, k: int) -> list[np.ndarray]:
    """List the documents of one part that may be among the `k` best of each query."""
    part = selection.part
    if isinstance(part, Delta) or len(selection) <= EXACT_DOCUMENTS or all(part.rows(view).resident for view in VIEWS):
        return _scan(selection, vectors, weights, k)
    gathered: list[list[np.ndarray] | None] = [[] for _ in vectors]
    for column, view in enumerate(VIEWS):
        asking = [number for number in range(len(vectors)) if weights[number, column] > 0 and gathered[number] is not None]
        for number, documents in zip(asking, _search_view(part, selection.rows(view), view, vectors[asking], k), strict=True):
            held = gathered[number]
            gathered[number] = None if documents is None or held is None else [*held, documents]
    undecided = [number for number, documents in enumerate(gathered) if documents is None]
    scanned = iter(_scan(selection, vectors[undecided], weights[undecided], k) if undecided else [])
    return [next(scanned) if documents is None else _union(documents) for documents in gathered]


def _search_view(part: Segment, allowed: RowSet | None, view: View, vectors: Vectors, k: int) -> Sequence[np.ndarray | None]:
    index = part.index(view)
    if index is None or not len(vectors) or (allowed is not None and not len(allowed)):
        return [np.zeros(0, np.uint32) for _ in vectors]
    return nearest_documents(part.rows(view), index, vectors, k, allowed)


def _scan(selection: Selection, vectors: Vectors, weights: Weights, k: int) -> list[np.ndarray]:
    """Score every admitted document of a part under both views and keep those that may be among the `k` best."""
    picks: list[np.ndarray] = []
    step = max(1, SCAN_CELLS // len(selection))
    for start in range(0, len(vectors), step):
        queries, shares = vectors[start : start + step], weights[start : start + step]
        cosines = [
            selection.part.rows(view).scan(queries, selection.documents)
            if shares[:, column].any()
            else np.full((len(queries), len(selection)), np.nan, np.float32)
            for column, view in enumerate(VIEWS)
        ]
        picks += [contenders(fuse(cosines[0][i], cosines[1][i], shares[i]), k) for i in range(len(queries))]
    return picks if selection.documents is None else [selection.documents[pick] for pick in picks]


def _best(
    part: Segment | Delta, vector: Vector, weights: Float32[np.ndarray, "2"], documents: np.ndarray, k: int
) -> list[Candidate]:
    """Score `documents` from their stored vectors and give the `k` best of them."""
    image, title = (np.clip(part.rows(view).rescore(vector, documents), -1.0, 1.0) for view in VIEWS)  # fp16 rounds past 1
    scores, keys = fuse(image, title, weights), part.keys[documents]
    order = [place for place in np.lexsort((keys, -scores))[:k] if scores[place] > -np.inf]
    return [Candidate(int(keys[i]), float(scores[i]), _cosine(image[i]), _cosine(title[i])) for i in order]


def _cosine(value: np.float32) -> float | None:
    return None if np.isnan(value) else float(value)


def _union(documents: list[np.ndarray]) -> np.ndarray:
    return np.unique(np.concatenate(documents)) if documents else np.zeros(0, np.uint32)
