"""Queries with and without an answer, and the curve fitted on them."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from engine.training.calibrate import QUERY_KINDS, calibrate
from engine.training.pairs import Caption, Item

KIND = {"fashion": "title", "emoji": "label", "flickr8k": "caption"}


def direction(text: str) -> np.ndarray:
    seed = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "little")
    return np.random.default_rng(seed).normal(size=256)


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def encode(texts: Sequence[str]) -> np.ndarray:
    """A text is one direction; what it says about is the part before the slash."""
    return unit(np.stack([direction(text.split("/")[0]) for text in texts])) if texts else np.zeros((0, 256), np.float32)


def items() -> list[Item]:
    return [
        Item(
            f"{source}-{n}", Path(f"{source}-{n}.jpg"), source, "val", f"{source}-{n}",
            tuple(Caption(f"{source} {n}/{language}", language, KIND[source], f"{source}-{n}") for language in ("en", "zh")),
        )
        for source in QUERY_KINDS
        for n in range(80)
    ]  # fmt: skip


def test_what_is_there_is_told_from_what_is_not() -> None:
    shop = items()
    noisy = [direction(f"{item.source} {item.id.split('-')[1]}") + 0.8 * direction(item.id + "noise") for item in shop]
    calibrator = calibrate(shop, unit(np.stack(noisy)), encode).untitled
    images = unit(np.stack(noisy))
    there = np.sort((encode(["fashion 3"]) @ images.T)[0])[::-1][:10]
    absent = np.sort((encode(["a spaceship"]) @ images.T)[0])[::-1][:10]
    assert calibrator.probability(there) > 0.8
    assert calibrator.probability(absent) < 0.2


def test_the_same_seed_gives_the_same_curve() -> None:
    shop = items()
    images = unit(np.stack([direction(item.id) for item in shop]))
    assert calibrate(shop, images, encode, seed=1) == calibrate(shop, images, encode, seed=1)
