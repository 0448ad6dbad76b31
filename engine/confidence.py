"""How likely a result list holds a relevant product: a few features of its scores, a logistic curve, a decision.

A cosine is not a probability: its usual size differs by encoder and by kind of query. The curve is fitted on queries that
can be answered and on queries that cannot (`engine.training.calibrate`); its parameters travel with the bundle.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64

from engine.datatypes import Decision
from engine.errors import BundleError

TOP = 10
FEATURES = ("best", "lead_over_mean", "lead_over_last", "mean", "spread")
MAX_STEPS = 100
RIDGE = 1e-2


def features(scores: Float32[np.ndarray, " k"]) -> Float64[np.ndarray, " f"]:
    """Describe the ten best scores of a result, best first or not: see `FEATURES`. An empty result is all zeros."""
    finite = np.sort(scores[np.isfinite(scores)].astype(np.float64))[::-1][:TOP]
    if not len(finite):
        return np.zeros(len(FEATURES))
    rest = finite[1:] if len(finite) > 1 else finite
    return np.array([finite[0], finite[0] - rest.mean(), finite[0] - finite[-1], finite.mean(), finite.std()])


@dataclass(frozen=True, slots=True)
class Calibrator:
    """A logistic curve over `features`, and the probability from which a result is an answer."""

    weights: tuple[float, ...]
    bias: float
    means: tuple[float, ...]
    deviations: tuple[float, ...]
    threshold: float = 0.5

    def probability(self, scores: Float32[np.ndarray, " k"]) -> float:
        """Estimate the probability that a relevant product is among these scores; 0 for an empty result."""
        if not np.isfinite(scores).any():
            return 0.0
        standard = (features(scores) - np.array(self.means)) / np.array(self.deviations)
        return float(_sigmoid(standard @ np.array(self.weights) + self.bias))

    def decide(self, probability: float, *, filtered: bool = False) -> Decision:
        """Answer when the probability reaches the threshold; else broaden a filtered query or abstain."""
        if probability >= self.threshold:
            return "answer"
        return "broaden" if filtered else "abstain"


@dataclass(frozen=True, slots=True)
class Calibration:
    """Two curves: words agree far more with titles than with pictures.

    `titled` is for results whose documents have titles, `untitled` for pictures alone.
    """

    titled: Calibrator
    untitled: Calibrator

    @classmethod
    def load(cls, path: Path) -> "Calibration":
        """Read a calibration; raises `BundleError` when the file is missing or incomplete."""
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
            return cls(*(_calibrator(fields[name]) for name in ("titled", "untitled")))
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise BundleError(f"the calibration {str(path)!r} cannot be read ({error!r}): copy the bundle again") from None

    def save(self, path: Path) -> None:
        """Write both curves as JSON, with the names of their features."""
        path.write_text(json.dumps({"features": FEATURES, **asdict(self)}, indent=2) + "\n", encoding="utf-8")


def _calibrator(fields: Mapping[str, Any]) -> Calibrator:
    lists = {name: tuple(map(float, fields[name])) for name in ("weights", "means", "deviations")}
    sizes = {len(values) for values in lists.values()}
    if sizes != {len(FEATURES)}:
        raise ValueError(f"{sizes} features, expected {len(FEATURES)}")
    return Calibrator(bias=float(fields["bias"]), threshold=float(fields["threshold"]), **lists)


def fit(described: Float64[np.ndarray, "n f"], answered: Bool[np.ndarray, " n"], *, prior: float | None = None) -> Calibrator:
    """Fit the curve by Newton's method with a small ridge; `described` holds `features` of results, one a row.

    `prior` is the share of queries that have an answer where the curve will be used, when it differs from that among
    `answered`: the bias is moved by the difference of their log odds (King and Zeng 2001). Raises `ValueError` unless
    both kinds of results are there.
    """
    if answered.all() or not answered.any():
        raise ValueError("calibration needs results with and without a relevant product: give both")
    means, deviations = described.mean(0), np.maximum(described.std(0), 1e-6)
    design = np.column_stack([(described - means) / deviations, np.ones(len(described))])
    solution = _newton(design, answered.astype(np.float64))
    bias = float(solution[-1]) + (0.0 if prior is None else _logit(prior) - _logit(float(answered.mean())))
    return Calibrator(tuple(map(float, solution[:-1])), bias, tuple(map(float, means)), tuple(map(float, deviations)))


def _logit(share: float) -> float:
    return float(np.log(share / (1.0 - share)))


def _newton(design: Float64[np.ndarray, "n f"], target: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " f"]:
    solution = np.zeros(design.shape[1])
    ridge = RIDGE * np.eye(design.shape[1])
    for _ in range(MAX_STEPS):
        predicted = _sigmoid(design @ solution)
        gradient = design.T @ (predicted - target) / len(target) + ridge @ solution
        curvature = (design * (predicted * (1 - predicted))[:, None]).T @ design / len(target) + ridge
        step = np.linalg.solve(curvature, gradient)
        solution = solution - step
        if np.abs(step).max() < 1e-9:
            break
    return solution


def _sigmoid(x: Float64[np.ndarray, "..."]) -> Float64[np.ndarray, "..."]:
    curve: Float64[np.ndarray, ...] = 1.0 / (1.0 + np.exp(-np.clip(x, -30.0, 30.0)))
    return curve
