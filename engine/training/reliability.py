"""How good a confidence is: AUROC, calibration error, Brier score, risk against coverage, and whether the stated risk holds.

Functions here take numbers and know nothing of queries, but for `figures_of`, which says what is measured.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Bool, Float64

from engine.confidence import Calibrator, threshold_for
from engine.evidence import FEATURES
from engine.training.asked import CONDITIONS, Case

BINS = 15
RESPLITS = 100
BASELINES = {"cosine": ("best", 1.0), "margin": ("margin", 1.0), "entropy": ("entropy", -1.0)}
COVERAGES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
UNSEEN = (2, 3)

Numbers: TypeAlias = Float64[np.ndarray, " n"]


def mix_weights(cases: Sequence[Case], mix: Mapping[Any, float]) -> Numbers:
    """Weigh cases so that in every source each condition has the share that `mix` states; the mean weight is 1."""
    labels = [(case.source, case.condition) for case in cases]
    counts = Counter(labels)
    weights = np.array([mix[condition] / counts[source, condition] for source, condition in labels])
    scaled: Numbers = weights * len(weights) / weights.sum()
    return scaled


def auroc(positive: Numbers, negative: Numbers) -> float:
    """Estimate how likely a positive outscores a negative; ties count half (Mann and Whitney 1947)."""
    both = np.concatenate([positive, negative])
    _, inverse, counts = np.unique(both, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    own = float(ranks[: len(positive)].sum()) - len(positive) * (len(positive) + 1) / 2
    return own / (len(positive) * len(negative))


def expected_calibration_error(said: Numbers, true: Bool[np.ndarray, " n"], weights: Numbers) -> float:
    """Average the distance between what was said and what was so, over 15 equal bins of probability, weighed by their mass."""
    bins = np.minimum((said * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, weights * (said - true), BINS)
    return float(np.abs(gaps).sum() / weights.sum())


def brier(said: Numbers, true: Bool[np.ndarray, " n"], weights: Numbers) -> float:
    """Average the squared distance between what was said and what was so."""
    return float(np.average((said - true) ** 2, weights=weights))


def risk_coverage(said: Numbers, true: Bool[np.ndarray, " n"], weights: Numbers) -> list[tuple[float, float]]:
    """List the share of wrong ones when the surest part of the queries is answered, for ten parts from a tenth to all."""
    order = np.argsort(-said, kind="stable")
    covered = np.cumsum(weights[order]) / weights.sum()
    wrong = np.cumsum((weights * ~true)[order]) / np.cumsum(weights[order])
    places = [min(int(np.searchsorted(covered, share - 1e-9)), len(wrong) - 1) for share in COVERAGES]
    return [(share, round(float(wrong[place]), 4)) for share, place in zip(COVERAGES, places, strict=True)]


def held_risk(said: Numbers, true: Bool[np.ndarray, " n"], weights: Numbers, risk: float, seed: int = 0) -> dict[str, float]:
    """Set the threshold on one random half and look at the other, 100 times, to see whether the stated risk holds.

    `risk` is the mean share of wrong ones among the answered, `above` the share of the splits in which it was above the stated
    one, `coverage` how much was answered.
    """
    random = np.random.default_rng(seed)
    seen, covered = [], []
    for _ in range(RESPLITS):
        first = random.random(len(said)) < 0.5
        level = threshold_for(said[first], (~true[first]).astype(np.float64), weights[first], risk)
        answered = said[~first] >= level
        mass = weights[~first]
        covered.append(float(mass[answered].sum() / mass.sum()))
        seen.append(float((mass * ~true[~first])[answered].sum() / mass[answered].sum()) if answered.any() else 0.0)
    rates = np.array(seen)
    found = {"stated": risk, "risk": rates.mean(), "above": (rates > risk).mean(), "coverage": np.mean(covered)}
    return {name: round(float(value), 4) for name, value in found.items()}


def figures_of(cases: Sequence[Case], curve: Calibrator, mix: Mapping[Any, float], seed: int) -> dict[str, Any]:
    """Measure a curve on the half of the queries that it has not seen.

    AUROC of answerable queries against each other condition, by source, kind and language, with three plain scores beside it.
    """
    kept = [case for case in cases if case.fold in UNSEEN]
    said, true, weights = _said(kept, curve), np.array([case.answered for case in kept]), mix_weights(kept, mix)
    return {
        "queries": len(kept),
        "mix": dict(mix),
        "ece": round(expected_calibration_error(said, true, weights), 4),
        "brier": round(brier(said, true, weights), 4),
        "brier of always saying the mean": round(brier(np.full(len(said), np.average(true, weights=weights)), true, weights), 4),
        "risk by coverage": risk_coverage(said, true, weights),
        "held": held_risk(said, true, weights, curve.risk, seed),
        "auroc": list(_aurocs(kept, said)),
    }


def _said(cases: Sequence[Case], curve: Calibrator) -> Numbers:
    return curve.probability(np.stack([case.described for case in cases]))


def _aurocs(cases: Sequence[Case], said: Numbers) -> list[dict[str, Any]]:
    described = np.stack([case.described for case in cases])
    scores = {"confidence": said}
    scores |= {name: sign * described[:, FEATURES.index(feature)] for name, (feature, sign) in BASELINES.items()}
    conditions = np.array([case.condition for case in cases])
    labels = [(case.source, case.kind, case.language) for case in cases]
    rows = []
    for label in sorted({label for label, case in zip(labels, cases, strict=True) if case.condition == "answerable"}):
        asked = np.array([other == label for other in labels])
        beside = np.array([(other[0], other[2]) in ((label[0], label[2]), (label[0], "")) for other in labels])
        positive = asked & (conditions == "answerable")
        for condition in CONDITIONS[1:]:
            own = condition in ("type removed", "item removed")
            negative = (asked if own else beside) & (conditions == condition)
            if positive.sum() >= 5 and negative.sum() >= 5:
                found = {name: round(auroc(score[positive], score[negative]), 4) for name, score in scores.items()}
                rows.append({"source": label[0], "kind": label[1], "language": label[2], "against": condition, **found})
    return rows
