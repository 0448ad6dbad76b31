"""Two plain models on the same vectors, so that a figure has something to stand beside: linear CCA and linear InfoNCE heads.

Both are fitted on one half of the pairs and asked about the other, and the other way round, so no question was learned.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Float32, Int64

from engine.datatypes import Vectors

RIDGE = 1e-2
STEPS = 300
BATCH = 256
RATE = 3e-3
TEMPERATURE = 0.05
LEAST_PAIRS = 40

Matrix: TypeAlias = Float32[np.ndarray, "d e"]


@dataclass(frozen=True, slots=True)
class LinearHeads:
    """One linear map a side, each after its mean is taken out."""

    text: Matrix
    image: Matrix
    text_mean: Float32[np.ndarray, " d"]
    image_mean: Float32[np.ndarray, " d"]

    def texts(self, vectors: Vectors) -> Vectors:
        """Map texts to unit rows."""
        return _unit((vectors - self.text_mean) @ self.text)

    def images(self, vectors: Vectors) -> Vectors:
        """Map pictures to unit rows."""
        return _unit((vectors - self.image_mean) @ self.image)


Fit: TypeAlias = Callable[[Vectors, Vectors, int], LinearHeads]


def fit_cca(texts: Vectors, images: Vectors, seed: int = 0) -> LinearHeads:
    """Fit regularised canonical correlation analysis (Hotelling 1936; its ridge form, Vinod 1976); rows belong together."""
    del seed  # has a closed form
    x, y = texts.astype(np.float64) - texts.mean(0), images.astype(np.float64) - images.mean(0)
    whiten_x, whiten_y = _whitening(x), _whitening(y)
    left, correlations, right = np.linalg.svd(whiten_x @ (x.T @ y / len(x)) @ whiten_y)
    scale = np.sqrt(np.clip(correlations, 0, 1))
    text, image = (whiten_x @ left) * scale, (whiten_y @ right.T) * scale
    return LinearHeads(text.astype(np.float32), image.astype(np.float32), texts.mean(0), images.mean(0))


def _whitening(centred: np.ndarray) -> np.ndarray:
    covariance = centred.T @ centred / len(centred)
    values, directions = np.linalg.eigh(covariance + RIDGE * np.trace(covariance) / len(covariance) * np.eye(len(covariance)))
    whitening: np.ndarray = (directions / np.sqrt(values)) @ directions.T
    return whitening


def fit_infonce(texts: Vectors, images: Vectors, seed: int = 0) -> LinearHeads:
    """Fit plain linear heads by symmetric InfoNCE (van den Oord et al. 2018) and Adam, from the identity."""
    random = np.random.default_rng(seed)
    width = texts.shape[1]
    x, y = texts - texts.mean(0), images - images.mean(0)
    heads = [np.eye(width, dtype=np.float32), np.eye(width, dtype=np.float32)]
    moments: list[tuple[np.ndarray, np.ndarray]] = [(np.zeros_like(head), np.zeros_like(head)) for head in heads]
    for step in range(1, STEPS + 1):
        rows = random.choice(len(x), min(BATCH, len(x)), replace=False)
        for number, gradient in enumerate(_gradients(x[rows], y[rows], heads[0], heads[1])):
            before = moments[number]
            moments[number] = 0.9 * before[0] + 0.1 * gradient, 0.99 * before[1] + 0.01 * gradient**2
            first, second = moments[number]
            step_size = RATE * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.99**step)) + 1e-8)
            heads[number] = (heads[number] - step_size).astype(np.float32)
    return LinearHeads(heads[0], heads[1], texts.mean(0), images.mean(0))


def _gradients(x: Vectors, y: Vectors, text: Matrix, image: Matrix) -> tuple[np.ndarray, np.ndarray]:
    a, b = x @ text, y @ image
    norms = [np.maximum(np.linalg.norm(side, axis=1, keepdims=True), 1e-6) for side in (a, b)]
    u, v = a / norms[0], b / norms[1]
    logits = u @ v.T / TEMPERATURE
    wrong = (_softmax(logits) + _softmax(logits.T).T) / 2 - np.eye(len(x), dtype=np.float32)
    du, dv = (wrong @ v / TEMPERATURE, wrong.T @ u / TEMPERATURE)
    da, db = ((d - (d * side).sum(1, keepdims=True) * side) / norm for d, side, norm in ((du, u, norms[0]), (dv, v, norms[1])))
    return x.T @ da / len(x), y.T @ db / len(x)


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    shares: np.ndarray = powers / powers.sum(1, keepdims=True)
    return shares


BASELINES: Mapping[str, Fit] = {"linear CCA": fit_cca, "linear InfoNCE heads": fit_infonce}


def crossed(
    texts: Vectors, images: Vectors, groups: Int64[np.ndarray, " n"], fit: Fit, seed: int = 0
) -> Callable[[Vectors], tuple[Vectors, Float32[np.ndarray, "2 m 256"]]]:
    """Map every text by heads fitted on the half of the groups it is not in; rows of `texts` and `images` belong together.

    What comes back maps any pictures: it gives the mapped texts, and the pictures once a half: text `i` must be compared with
    those of its own half (see `halves`). Pairs of one group (a shared title) stay in one half.
    """
    half = halves(groups, seed)
    heads = [fit(texts[half != side], images[half != side], seed) for side in (0, 1)]
    mapped = np.zeros((len(texts), texts.shape[1]), np.float32)
    for side in (0, 1):
        mapped[half == side] = heads[side].texts(texts[half == side])
    return lambda pictures: (mapped, np.stack([head.images(pictures) for head in heads]))


def halves(groups: Int64[np.ndarray, " n"], seed: int) -> Int64[np.ndarray, " n"]:
    """Deal the groups into two halves, 0 and 1, by chance."""
    distinct, members = np.unique(groups, return_inverse=True)
    dealt = np.random.default_rng(seed).permutation(len(distinct)) % 2
    chosen: Int64[np.ndarray, " n"] = dealt[members].astype(np.int64)
    return chosen


def _unit(rows: np.ndarray) -> Vectors:
    unit: Vectors = (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)).astype(np.float32)
    return unit
