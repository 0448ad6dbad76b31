"""Measuring how complete and how fast searches of a collection are, by queries that its own titles stand for.

A title is what a shopper might type, and its vector is stored. Beside pictures, titles lie as typed words do: apart from everything
indexed, which is where approximate indexes lose recall. What follows from the figures is decided in `engine.index.live`.
"""

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from engine.datatypes import DIMENSIONS, Vectors
from engine.index.ann import Kind, to_float32
from engine.index.planner import Weights, find
from engine.index.snapshot import Snapshot
from engine.index.tuning import Measurement, Tuning

QUERIES = 200
K = 10
STEPS = (2, 4, 8, 16, 32, 64, 128, 256)  # beyond, more lists cost more than a kind of index that is more exact
ROUNDING = 1e-5


def measure(snapshot: Snapshot, kind: Kind, target: float) -> list[Measurement]:
    """Measure with more and more probes until the recall of the ten best reaches `target`; the last line is the best."""
    queries, weights = sample_queries(snapshot)
    if not len(queries) or kind == "flat":
        return [Measurement("flat", 0, 1.0, _answers(snapshot, queries, weights, 0)[1])]
    exact, _ = _answers(snapshot, queries, weights, 0)
    lines = []
    for probes in STEPS:
        found, p50 = _answers(snapshot, queries, weights, probes)
        lines.append(Measurement(kind, probes, _recall(found, exact), p50))
        if lines[-1].recall >= target:
            break
    return lines


def sample_queries(snapshot: Snapshot) -> tuple[Vectors, Weights]:
    """Take the titles of documents, evenly over the parts, to ask for pictures; where there are no pictures, for titles."""
    titles = [part.rows("title") for part in snapshot.parts]
    total = sum(map(len, titles))
    picks = [np.linspace(0, len(rows) - 1, -(-QUERIES * len(rows) // total)).astype(np.int64) for rows in titles if len(rows)]
    filled = [rows for rows in titles if len(rows)]
    vectors = [to_float32(rows.vectors[pick]) for rows, pick in zip(filled, picks, strict=True)]
    pictures = any(len(part.rows("image")) for part in snapshot.parts)
    queries = np.concatenate([np.zeros((0, DIMENSIONS), np.float32), *vectors])[:QUERIES]
    return queries, np.tile(np.array([[1.0, 0.0] if pictures else [0.0, 1.0]], np.float32), (len(queries), 1))


def _answers(snapshot: Snapshot, queries: Vectors, weights: Weights, probes: int) -> tuple[list[list[float]], float]:
    """Ask one query at a time; give the scores of each answer and the median time in milliseconds."""
    if snapshot.published is not None:
        snapshot = replace(snapshot, published=replace(snapshot.published, tuning=Tuning(probes=probes)))
    scores, times = [], []
    for number in range(len(queries)):
        start = time.perf_counter()
        (found,) = find(snapshot, queries[number : number + 1], weights[number : number + 1], K, None)
        times.append(1000 * (time.perf_counter() - start))
        scores.append([candidate.score for candidate in found])
    return scores, round(float(np.median(times)), 3) if times else 0.0


def _recall(found: Sequence[Sequence[float]], exact: Sequence[Sequence[float]]) -> float:
    """Count the answers that are as good as the true ones; equal scores are equally right."""
    shares = [
        sum(score >= truth[-1] - ROUNDING for score in scores) / len(truth)
        for scores, truth in zip(found, exact, strict=True)
        if truth
    ]
    return round(float(np.mean(shares)), 4) if shares else 1.0
