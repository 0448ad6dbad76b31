"""Which of the documents found are relevant: those whose score comes near enough to the best one's.

How near is measured between the best score and what the same query gives a sample of the whole collection, so that it holds for any
encoder, any kind of query and any filter. Facets, totals, sorting and pages are over the relevant documents alone; how sure the
engine is that there is an answer at all is another question (`engine.confidence`).
"""

import numpy as np
from jaxtyping import Float32

from engine.datatypes import VIEWS, Vector
from engine.index.snapshot import Snapshot
from engine.ranking import fuse

DEPTH = 1_000  # so many documents are looked at; a total of so many means "or more"
NEARNESS = 0.7  # of the way from the mean of the collection to the best: measured in docs/decisions/0022


def bound(best: float, background: float) -> float:
    """Say from which score on a document is relevant, given the best one and the mean of the collection."""
    return min(best, background + NEARNESS * (best - background))


def background(snapshot: Snapshot, vector: Vector, weights: Float32[np.ndarray, "2"]) -> float:
    """Compute the mean score a query gives a sample of the collection; 0 when it holds nothing the query can be compared with."""
    scores = sampled(snapshot, vector, weights)
    return float(scores.mean()) if len(scores) else 0.0


def sampled(snapshot: Snapshot, vector: Vector, weights: Float32[np.ndarray, "2"]) -> Float32[np.ndarray, " s"]:
    """Score documents that stand for the whole collection, those it can be compared with, in no order."""
    image, title = (snapshot.sample[view].scan(vector[None], None)[0] for view in VIEWS)
    scores = fuse(image, title, weights)
    return scores[scores > -np.inf]
