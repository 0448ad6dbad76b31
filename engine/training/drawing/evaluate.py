"""What drawings are worth, measured by the independent judge in `scorer.py` on products that no training saw.

The round trip: a title becomes a vector, the vector a drawing, and the judge looks for the title among those of all validation
products. Beside it stand what a random picture, the nearest training picture and the product's own photo would have earned.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int64, UInt8
from PIL import Image

from engine.datatypes import Vectors
from engine.generation.decoder import Decoder
from engine.protocols import Encoder
from engine.training.drawing.scorer import Judge
from engine.training.evaluate import ranks
from engine.training.features import Progress

LABELS = ("articleType", "baseColour")
AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for: one row a product: its title's number, and its labels by name."""

    titles: Int64[np.ndarray, " n"]
    labels: Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How drawings are made: the best of `count` by re-embedding, in `steps` steps (None: the decoder's own)."""

    count: int = 4
    steps: int | None = None
    seed: int = 0


def draw_best(
    decoder: Decoder, encoder: Encoder, vectors: Vectors, sampling: Sampling, progress: Progress
) -> UInt8[np.ndarray, "n s s 3"]:
    """Draw every vector several times and keep the drawing whose own vector is nearest."""
    parts, together = [], max(1, AT_ONCE // sampling.count)
    for start in range(0, len(vectors), together):
        rows = vectors[start : start + together]
        asked = np.repeat(rows, sampling.count, 0)
        seeds = [sampling.seed + number for number in range(start * sampling.count, start * sampling.count + len(asked))]
        drawn = decoder.draw(asked, seeds, steps=sampling.steps)
        parts.append(drawn if sampling.count == 1 else _best(drawn, asked, encoder, sampling.count))
        progress("drawings", start, len(vectors))
    return np.concatenate(parts)


def _best(
    drawn: UInt8[np.ndarray, "m s s 3"], asked: Float32[np.ndarray, "m 256"], encoder: Encoder, count: int
) -> UInt8[np.ndarray, "n s s 3"]:
    seen = encoder.encode_images([Image.fromarray(picture) for picture in drawn])
    best = (seen * asked).sum(1).reshape(-1, count).argmax(1)
    chosen: UInt8[np.ndarray, "n s s 3"] = drawn.reshape(-1, count, *drawn.shape[1:])[np.arange(len(best)), best]
    return chosen


def round_trip(
    judge: Judge, features: Float32[np.ndarray, "n f"], sentences: Float32[np.ndarray, "t w"], wanted: Wanted
) -> dict[str, float]:
    """Say in percent how often the asked title is among the judge's first 1 and 10, and how often type and colour are right."""
    right: Bool[np.ndarray, "n t"] = wanted.titles[:, None] == np.arange(len(sentences))
    found = ranks(judge.similarities(features, sentences), right)
    figures = {"R@1": 100.0 * float(np.mean(found <= 1)), "R@10": 100.0 * float(np.mean(found <= 10))}
    for label in LABELS:
        named = judge.names(label, features)
        figures[label] = 100.0 * float(np.mean([a == b for a, b in zip(named, wanted.labels[label], strict=True)]))
    return figures


def nearness(features: Float32[np.ndarray, "n f"], known: Float32[np.ndarray, "m f"]) -> Float32[np.ndarray, " n"]:
    """Give for each picture the cosine of its features to those of the nearest known picture: 1 would be a copy."""
    mean = known.mean(0)
    mine, theirs = (_directions(x - mean) for x in (features, known))
    nearest: Float32[np.ndarray, " n"] = (mine @ theirs.T).max(1)
    return nearest


def _directions(x: Float32[np.ndarray, "n f"]) -> Float32[np.ndarray, "n f"]:
    unit: Float32[np.ndarray, "n f"] = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-6)
    return unit
