"""How likely a result holds a relevant product: a logistic curve over the evidence, and what follows from it.

A cosine is not a probability. The curves are fitted on queries that can be answered and on queries that cannot
(`engine.training.calibrate`); their parameters travel as one JSON file with a bundle, or with a collection that was calibrated for
itself. What the evidence is stands in `engine.evidence`, who collects it in `engine.judge`.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from jaxtyping import Float64

from engine.datatypes import DIMENSIONS, Decision, Vector, Vectors
from engine.errors import BundleError
from engine.evidence import FEATURES, Background

FORMAT = 3
FILE = "calibrator.json"
CurveName: TypeAlias = Literal["titled", "untitled", "picture"]
CURVES: tuple[CurveName, ...] = ("titled", "untitled", "picture")
STEEPEST = 30.0
NONSENSE_BELOW = 0.3  # an odd word taken for nonsense is worse than nonsense that is drawn
UPPER = 2.326  # deviations of a normal below which 99 % lie
KIND = FEATURES.index("elsewhere")


@dataclass(frozen=True, slots=True)
class Calibrator:
    """A logistic curve over `FEATURES`, and the probability from which a result is an answer.

    The name of a thing and the caption of a scene are judged by different evidence. Which of the two words are shows in how well
    they suit pictures in general, the feature `elsewhere`: where there are `tilts`, each weight is tilted by it. `risk` is the
    stated share of wrong ones among the answered queries.
    """

    weights: tuple[float, ...]
    bias: float
    means: tuple[float, ...]
    deviations: tuple[float, ...]
    threshold: float = 0.5
    risk: float = 0.0
    tilts: tuple[float, ...] = ()

    def probability(self, described: Float64[np.ndarray, "*n f"]) -> Float64[np.ndarray, "*n"]:
        """Estimate the probability that a relevant product is among the ten best, from `engine.evidence.describe`."""
        standard = standardised(described, np.array(self.means), np.array(self.deviations))
        weighed = standard @ np.array(self.weights) + self.bias
        return sigmoid(weighed + np.tanh(standard[..., KIND]) * (standard @ np.array(self.tilts)) if self.tilts else weighed)


def standardised(
    described: Float64[np.ndarray, "*n f"], means: Float64[np.ndarray, " f"], deviations: Float64[np.ndarray, " f"]
) -> Float64[np.ndarray, "*n f"]:
    """Measure features in deviations from their means, none by more than five."""
    standard: Float64[np.ndarray, "*n f"] = np.clip((described - means) / deviations, -5.0, 5.0)
    return standard


@dataclass(frozen=True, slots=True)
class Sense:
    """Tells words that mean something from nonsense, by the query's vector alone: a logistic curve over its directions."""

    weights: Vector
    bias: float

    def probability(self, query: Vector) -> float:
        """Estimate the probability that the words mean something."""
        return float(sigmoid(np.float64(query @ self.weights) + self.bias))


@dataclass(frozen=True, slots=True)
class Calibration:
    """Everything a judge needs to know about one encoder.

    Words agree far more with titles than with pictures, and pictures with pictures more than either, so each has its own curve.
    `words` are vectors of background queries, `pictures`, `titles` and `concepts` of what is sold elsewhere (`Background`).
    `figures` is what was measured on queries the curves were not fitted on; nothing reads it but people.
    """

    fingerprint: str
    curves: Mapping[CurveName, Calibrator]
    sense: Sense | None
    words: Vectors
    pictures: Vectors
    titles: Vectors
    concepts: Vectors
    figures: Mapping[str, Any] = field(default_factory=dict)

    def background(self, curve: CurveName) -> Background:
        """Give what results that a curve judges are compared with."""
        return Background(self.pictures if curve == "picture" else self.words, self.pictures, self.titles, self.concepts)

    def decide(self, curve: CurveName, confidence: float, query: Vector | None = None) -> Decision:
        """Answer when the curve's threshold is reached; else draw what was asked for, or abstain when it is nonsense.

        `query` is the vector of a query of words; pictures always mean something.
        """
        if confidence >= self.curves[curve].threshold:
            return "answer"
        nonsense = query is not None and self.sense is not None and self.sense.probability(query) < NONSENSE_BELOW
        return "abstain" if nonsense else "generate"

    @classmethod
    def load(cls, path: Path) -> "Calibration":
        """Read a calibration; raises `BundleError` when the file is missing, incomplete or of another format."""
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
            if fields["format"] != FORMAT or tuple(fields["features"]) != FEATURES:
                raise ValueError(f"format {fields['format']!r} with {len(fields['features'])} features")
            sense = fields["sense"]
            return cls(
                str(fields["fingerprint"]),
                {name: _calibrator(fields["curves"][name]) for name in CURVES if name in fields["curves"]},
                None if sense is None else Sense(np.array(sense["weights"], np.float32), float(sense["bias"])),
                _unpacked(fields["words"]),
                _unpacked(fields["pictures"]),
                _unpacked(fields["titles"]),
                _unpacked(fields["concepts"]),
                fields["figures"],
            )
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise BundleError(
                f"the calibration {str(path)!r} cannot be read ({error!r}): copy the bundle again, or calibrate again"
            ) from None

    def save(self, path: Path) -> None:
        """Write everything as JSON, with the names of the features; the file appears whole or not at all."""
        sense = self.sense and {"weights": [round(float(w), 5) for w in self.sense.weights], "bias": self.sense.bias}
        fields = {
            "format": FORMAT,
            "fingerprint": self.fingerprint,
            "features": FEATURES,
            "curves": {name: asdict(curve) for name, curve in self.curves.items()},
            "sense": sense,
            "figures": self.figures,
            "words": _packed(self.words),
            "pictures": _packed(self.pictures),
            "titles": _packed(self.titles),
            "concepts": _packed(self.concepts),
        }
        fresh = path.with_name(f".{path.name}.new")
        fresh.write_text(json.dumps(fields, indent=1) + "\n", encoding="utf-8")
        fresh.replace(path)


def _calibrator(fields: Mapping[str, Any]) -> Calibrator:
    lists = {name: tuple(map(float, fields[name])) for name in ("weights", "means", "deviations")}
    sizes = {len(values) for values in lists.values()}
    if sizes != {len(FEATURES)}:
        raise ValueError(f"{sizes} features, expected {len(FEATURES)}")
    tilts = tuple(map(float, fields.get("tilts", ())))
    if len(tilts) not in (0, len(FEATURES)):
        raise ValueError(f"{len(tilts)} tilts, expected {len(FEATURES)}")
    bias, threshold, risk = (float(fields[name]) for name in ("bias", "threshold", "risk"))
    return Calibrator(bias=bias, threshold=threshold, risk=risk, tilts=tilts, **lists)


def _packed(vectors: Vectors) -> str:
    """Write unit rows in 8 bits a number: a background needs no more."""
    return base64.b85encode(np.rint(vectors * 127).astype(np.int8).tobytes()).decode()


def _unpacked(text: str) -> Vectors:
    rows = np.frombuffer(base64.b85decode(text), np.int8).reshape(-1, DIMENSIONS).astype(np.float32)
    unit: Vectors = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
    return unit


def sigmoid(x: Float64[np.ndarray, "..."] | np.float64) -> Float64[np.ndarray, "..."]:
    """Squeeze any number between 0 and 1, as the logistic curve does."""
    curve: Float64[np.ndarray, ...] = 1.0 / (1.0 + np.exp(-np.clip(x, -STEEPEST, STEEPEST)))
    return curve


def threshold_for(
    confidence: Float64[np.ndarray, " n"], wrong: Float64[np.ndarray, " n"], weight: Float64[np.ndarray, " n"], risk: float
) -> float:
    """Find the lowest threshold at which the answered queries are wrong at most at the rate `risk`, with certainty to spare.

    Conformal risk control (Angelopoulos et al., ICLR 2024) of the error among the answered, counted as conformal selection does
    (Jin and Candes, JMLR 2023): the next query is taken as answered and wrong. Above that the rate's upper bound at 99 % is what
    must hold, as in Learn then Test (Angelopoulos et al., 2021), so that one fit in a hundred exceeds it, not one in two. `wrong`
    is 1 for a query whose answer would be none, `weight` how much each counts. Above 1 when no threshold will do: then nothing is
    answered.
    """
    order = np.argsort(-confidence, kind="stable")
    answered, failed = np.cumsum(weight[order]), np.cumsum((weight * wrong)[order])
    unit = float(weight.max())
    rate = (failed + unit) / (answered + unit)
    effective = answered**2 / np.cumsum(weight[order] ** 2)
    bound = rate + UPPER * np.sqrt(rate * (1 - rate) / effective)
    ends = np.append(np.diff(confidence[order]) < 0, True)  # equal confidences are answered together
    held = np.flatnonzero(ends & (bound <= risk))
    return float(confidence[order][held[-1]]) if len(held) else 1.01
