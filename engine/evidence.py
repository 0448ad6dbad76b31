"""What the scores of a result say about whether it holds an answer: a row of features, from which confidence is computed.

A cosine alone says little: its usual size differs by query, by collection and by kind. So a result is also compared with what
other queries find in the same collection (`Null`), with what they find in the same documents (the rivals), with what this query
finds in all of the collection (the sample), and with what it would have found elsewhere (`Background`). What the features are worth
is fitted in `engine.training.calibrate`; curves and decisions are in `engine.confidence`.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Float, Float32, Float64

from engine.datatypes import Vector, Vectors

JUDGED = 50
TOP = 10
SHARPNESS = 30.0  # of the softmax: a cosine 0.1 higher is 20 times likelier
FAMILIAR = 8
REFERENCES = 5
RIVALLED = 4  # so many of the best documents are held against all background queries, and against all concepts
SAME = 0.9  # a background query so near to this one asks for the same thing and is no rival
SAME_TITLE = 0.96  # titles elsewhere may come nearer, unless the query is a title itself
LEAST_DEVIATION = 1e-3
LONE_PRODUCT = 250_000  # OpenBLAS multiplies with one thread up to 2**18 products of numbers
FEATURES = (
    "best",
    "margin",
    "lead",
    "mean",
    "fall",
    "spread",
    "entropy",
    "z_best",
    "z_mean",
    "image",
    "image_best",
    "title",
    "title_best",
    "agreement",
    "consistency",
    "familiarity",
    "rival",
    "rivals",
    "exclusive",
    "reference",
    "shortfall",
    "elsewhere",
    "z_reference",
    "title_reference",
    "title_shortfall",
    "concept",
    "usual",
    "z_own",
)


Numbers: TypeAlias = Float[np.ndarray, " n"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One result as the judge sees it.

    `scores`, `image` and `title` are the fused scores and the cosine of each view of the at most `JUDGED` best documents, best
    first, NaN for a view a document lacks; `top` holds the vectors of the at most `TOP` best, whose products with `query` are
    their scores; `sample` are the scores of some documents that stand for the whole collection.
    """

    query: Vector
    scores: Float32[np.ndarray, " n"]
    image: Float32[np.ndarray, " n"]
    title: Float32[np.ndarray, " n"]
    top: Float32[np.ndarray, "m 256"]
    sample: Float32[np.ndarray, " s"]


@dataclass(frozen=True, slots=True)
class Background:
    """What is asked for and sold elsewhere: everything a result is compared with that is not in its collection.

    `queries` are of the judged query's kind, words or pictures; `pictures` and `titles` those of products elsewhere; `concepts` has
    one vector for each thing that shops sell, in the middle of its names.
    """

    queries: Vectors
    pictures: Vectors
    titles: Vectors
    concepts: Vectors


@dataclass(frozen=True, slots=True)
class Null:
    """What background queries find in a collection: mean and deviation of their best score, and of their mean of the ten best."""

    best: float
    best_deviation: float
    mean: float
    mean_deviation: float

    @classmethod
    def of(cls, scores: Float32[np.ndarray, "b k"]) -> "Null":
        """Summarise the scores of background queries, one row each, best first; -inf where there was nothing."""
        found = np.where(np.isfinite(scores), scores, np.nan).astype(np.float64)
        best, mean = found[:, 0], np.nanmean(found[:, :TOP], axis=1)
        return cls(float(best.mean()), _deviation(best), float(mean.mean()), _deviation(mean))


def describe(outcome: Outcome, null: Null, background: Background) -> Float64[np.ndarray, " f"]:
    """Compute `FEATURES` of a result with at least one document."""
    scores = outcome.scores.astype(np.float64)
    best, first = scores[0], scores[:TOP]
    spread = (
        best,
        best - scores[min(1, len(scores) - 1)],
        best - float(first[1:].mean() if len(first) > 1 else best),
        float(first.mean()),
        best - scores[-1],
        float(scores.std()),
        entropy(scores),
        (best - null.best) / null.best_deviation,
        (float(first.mean()) - null.mean) / null.mean_deviation,
    )
    image, title = _mean_and_best(outcome.image), _mean_and_best(outcome.title)
    views = (*image, *title, _agreement(outcome.image, outcome.title))
    rivals = _against(outcome, background.queries)
    beyond = _elsewhere(outcome, background, image[1] or best, title[1])
    own = (_concept(outcome, background.concepts), *_usual(outcome.sample, best))
    return np.array([*spread, *views, _consistency(outcome.top), *rivals, *beyond, *own], np.float64)


def entropy(scores: Float64[np.ndarray, " n"]) -> float:
    """Say how evenly a softmax spreads over the scores: 0 one winner, 1 all alike."""
    if len(scores) < 2:
        return 0.0
    shares = _shares(scores)
    return float(-(shares * np.log(shares + 1e-12)).sum() / np.log(len(scores)))


def _mean_and_best(cosines: Float32[np.ndarray, " n"]) -> tuple[float, float]:
    """Give the mean of the ten best cosines of a view, and the best; 0 for a view that no document has."""
    best = np.sort(cosines[~np.isnan(cosines)].astype(np.float64))[::-1][:TOP]
    return (float(best.mean()), float(best[0])) if len(best) else (0.0, 0.0)


def _agreement(image: Float32[np.ndarray, " n"], title: Float32[np.ndarray, " n"]) -> float:
    """Correlate what pictures and titles say about the documents that have both."""
    both = ~(np.isnan(image) | np.isnan(title))
    if both.sum() < 3:
        return 0.0
    x, y = (view[both].astype(np.float64) - view[both].mean() for view in (image, title))
    size = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / size if size > 1e-9 else 0.0


def _consistency(top: Float32[np.ndarray, "m 256"]) -> float:
    """Average the cosines among the best documents: an answer's neighbours resemble one another."""
    if len(top) < 2:
        return 1.0
    unit = top / np.maximum(np.linalg.norm(top, axis=1, keepdims=True), 1e-9)
    return float((np.square(unit.sum(0)).sum() - len(unit)) / (len(unit) * (len(unit) - 1)))


def _products(rows: Float32[np.ndarray, "n 256"], vectors: Float32[np.ndarray, "m 256"]) -> Float32[np.ndarray, "m n"]:
    """Multiply rows by a few vectors in pieces so small that BLAS stays in this thread: its threads wait on one another."""
    pair = vectors if len(vectors) > 1 else np.concatenate([vectors, vectors])  # a product with one is another routine
    step = max(1, LONE_PRODUCT // pair.size)
    whole = len(rows) - len(rows) % step
    pieces = rows[:whole].reshape(-1, step, rows.shape[1]) @ pair.T
    products = np.concatenate([pieces.reshape(whole, len(pair)), rows[whole:] @ pair.T])
    return products[:, : len(vectors)].T


def _deviation(values: Numbers) -> float:
    return max(float(values.std()), LEAST_DEVIATION)


def _elsewhere(
    outcome: Outcome, background: Background, image_best: float, title_best: float
) -> tuple[float, float, float, float, float, float]:
    """Say how well the query could be answered, by the best pictures and titles elsewhere, and how far the shop falls short."""
    pictures = _products(background.pictures, outcome.query[None])[0]
    usual, reference = float(pictures.mean()), _reference(pictures, SAME)
    by_picture = (reference, image_best - reference, usual, (reference - usual) / _deviation(pictures))
    if np.isnan(outcome.title).all():
        return *by_picture, 0.0, 0.0
    named = _reference(_products(background.titles, outcome.query[None])[0], SAME_TITLE)
    return *by_picture, named, title_best - named


def _reference(cosines: Float32[np.ndarray, " n"], same: float) -> float:
    """Average the best cosines that do not belong to the asked thing itself."""
    best = np.sort(cosines[cosines < same])[-REFERENCES:]
    return float(best.mean()) if len(best) else 0.0


def _concept(outcome: Outcome, concepts: Vectors) -> float:
    """Say how much the best documents are things of the kind asked for: the overlap of what query and documents are likened to.

    Both are taken for a distribution over the concepts; the overlap is the coefficient of Bhattacharyya (1943), 1 for the same.
    """
    first = outcome.top[:RIVALLED]
    unit = first / np.maximum(np.linalg.norm(first, axis=1, keepdims=True), 1e-9)
    asked, *found = map(_shares, _products(concepts, np.concatenate([outcome.query[None], unit])))
    return float(np.mean([np.sqrt(asked * shares).sum() for shares in found]))


def _shares(scores: Numbers) -> Numbers:
    """Spread 1 over scores by a softmax."""
    raised = np.exp(np.float32(SHARPNESS) * (scores - scores.max()))
    shares: Numbers = raised / raised.sum()
    return shares


def _usual(sample: Float32[np.ndarray, " s"], best: float) -> tuple[float, float]:
    """Give what the query finds in any document of the collection, and by how many deviations the best one is above it."""
    if len(sample) < 2:
        return 0.0, 0.0
    usual = float(sample.mean())
    return usual, (float(best) - usual) / _deviation(sample)


def _against(outcome: Outcome, bank: Vectors) -> tuple[float, float, float, float]:
    """Compare the query with background queries: how like them it is, and whether they suit the found documents better.

    A query that a document answers is, among all queries, a good description of it (compare QB-Norm, CVPR 2022).
    """
    first = outcome.top[:RIVALLED]
    alike, *suited = _products(bank, np.concatenate([outcome.query[None], first]))
    familiarity = float(np.sort(alike)[-FAMILIAR:].mean())
    same = alike >= SAME
    if same.all():
        return familiarity, 0.0, 0.0, 0.0
    own, theirs = np.einsum("nd,d->n", first, outcome.query), np.stack(suited)
    theirs[:, same] = -1.0
    leads = own - theirs.max(1)
    odds = SHARPNESS * own - np.log(np.exp(SHARPNESS * theirs).sum(1))
    return familiarity, float(leads[0]), float(leads.mean()), float(odds.max())
