"""Evidence of the views -> one relevance score per document, with weights that depend on the query.

A document is seen under three views: its pictures, its title and its words. The cosines of the first two are combined convexly;
the result is itself a cosine, that of the concatenated vectors `[sqrt(w_i) q, sqrt(w_t) q]` and `[sqrt(w_i) image, sqrt(w_t)
title]`. The words then lift it: a document that holds the share `s` of what the query says in words goes `w_l * s` of the way from
its cosine to 1. So a score is at most 1, equals the cosine where no word is found, and never falls when evidence is added.

How much title and words weigh is read off the query by a small fitted model (`ranking.json`, docs/decisions/0021). Which vectors
are compared, how words are found and how candidates are does not belong here.
"""

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Float32, Float64

Kind: TypeAlias = Literal["words", "picture"]

# Of words, the title takes a little more than the pictures where nothing is known of the words (measured: docs/decisions/0004);
# a picture is compared only with pictures, so that the same photo scores 1.
TITLE_SHARE = 0.6
FEATURES = ("constant", "brevity", "rarity", "coverage", "digits", "visual")


def view_weights(
    kinds: Sequence[Kind], weights: Sequence[float], target: str, title_share: float = TITLE_SHARE
) -> tuple[float, float]:
    """Weigh (image, title) for a query whose terms are of `kinds` with `weights`; `target` restricts to one view."""
    if target != "any":
        return (1.0, 0.0) if target == "image" else (0.0, 1.0)
    title = title_share * words_share(kinds, weights)
    return 1.0 - title, title


def words_share(kinds: Sequence[Kind], weights: Sequence[float]) -> float:
    """Tell which share of a query's weight its words have."""
    total = sum(abs(weight) for weight in weights)
    return sum(abs(weight) for kind, weight in zip(kinds, weights, strict=True) if kind == "words") / total


@dataclass(frozen=True)
class Weighing:
    """The fitted model: logistic curves over `FEATURES` for the title's share and for the weight of the words.

    `visual` tells of words by how much better pictures than titles rank what they ask for, in reciprocal ranks.
    """

    share: tuple[float, ...]
    lift: tuple[float, ...]
    visual: Mapping[str, float]

    @classmethod
    @functools.cache
    def load(cls) -> "Weighing":
        """Read the model that ships with the engine."""
        fields = json.loads(Path(__file__).with_name("ranking.json").read_text(encoding="utf-8"))
        share, lift = (tuple(float(fields[name][feature]) for feature in FEATURES) for name in ("share", "lift"))
        return cls(share, lift, fields["visual"])

    def describe(self, words: Sequence[str], information: Sequence[float], coverage: float) -> Float64[np.ndarray, "6"]:
        """Describe a query by `FEATURES`.

        `information` are nats per word as BM25 weighs them, `coverage` is the largest share of it in one document.
        """
        if not words:
            return np.array([1.0, 0.0, 0.0, 0.0, 0.0, 0.0])
        digits = sum(any(c.isdigit() for c in word) for word in words) / len(words)
        visual = 10.0 * sum(self.visual.get(word, 0.0) for word in words) / len(words)
        return np.array([1.0, 1.0 / len(words), float(np.mean(information)) / 10.0, coverage, digits, visual])

    def weigh(self, described: Float64[np.ndarray, "6"]) -> tuple[float, float]:
        """Give the title's share against the pictures and the weight of the words, each from 0 to 1."""
        return _logistic(described @ np.array(self.share)), _logistic(described @ np.array(self.lift))


def _logistic(x: float) -> float:
    return float(1.0 / (1.0 + np.exp(-np.clip(x, -30.0, 30.0))))


def fuse(
    image: Float32[np.ndarray, " n"], title: Float32[np.ndarray, " n"], weights: Float32[np.ndarray, "*n 2"]
) -> Float32[np.ndarray, " n"]:
    """Combine the cosines of `n` documents by one pair of weights, or one pair each; NaN marks a view the document does not have.

    A document without one view is scored by the other alone; without either, or when only absent views have weight, it
    scores -inf.
    """
    cosines = np.stack([image, title])
    absent = np.isnan(cosines)
    shares = np.where(absent, np.float32(0), np.atleast_2d(np.asarray(weights, np.float32)).T)
    cosines[absent] = 0
    total = shares[0] + shares[1]
    combined = cosines[0] * shares[0] + cosines[1] * shares[1]
    scores = np.full(len(image), -np.inf, np.float32)
    np.divide(combined, total, out=scores, where=total > 0, casting="same_kind")
    return scores


def lifted(cosines: Float32[np.ndarray, " n"], lifts: Float32[np.ndarray, " n"]) -> Float32[np.ndarray, " n"]:
    """Move cosines the given shares of the way to 1; a document that no vector speaks for starts from 0 when it has words."""
    base = np.where(cosines == -np.inf, np.float32(0), cosines)
    found: Float32[np.ndarray, " n"] = np.where(lifts > 0, base + lifts * (1 - base), cosines)
    return found
