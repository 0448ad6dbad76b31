"""From the engine's 256 dimensions to the width a hub decoder takes pictures' embeddings in: LayerNorm and one matrix, fitted.

Beside the decoder it is for, as `adapter.safetensors`. It is fitted on pictures that both encoders have seen
(`VectorAdapter.fit`), in seconds on a processor. Which decoder needs one is decided in `engine.generation.hub`.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Float32
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from engine.datatypes import DIMENSIONS, Vectors
from engine.errors import InvalidInput, ModelError

FILE = "adapter.safetensors"
EPSILON = 1e-5
RIDGE = 1e-2


class VectorAdapter:
    """Maps unit vectors to embeddings of another width."""

    def __init__(self, weight: Float32[np.ndarray, "w 256"], bias: Float32[np.ndarray, " w"]) -> None:
        self.weight, self.bias = weight, bias

    @property
    def width(self) -> int:
        """The width of what comes out."""
        return len(self.bias)

    def __call__(self, vectors: Vectors) -> Float32[np.ndarray, "n w"]:
        """Map vectors, row by row."""
        mapped: Float32[np.ndarray, "n w"] = _normed(vectors) @ self.weight.T + self.bias
        return mapped

    @classmethod
    def fit(cls, vectors: Vectors, targets: Float32[np.ndarray, "n w"], *, ridge: float = RIDGE) -> "VectorAdapter":
        """Fit by ridge regression: `targets` are the decoder's own embeddings of the pictures that `vectors` are of."""
        if len(vectors) != len(targets) or len(vectors) < 2:
            raise InvalidInput(f"{len(vectors)} vectors and {len(targets)} targets: give at least two pairs")
        design = np.column_stack([_normed(vectors), np.ones(len(vectors), np.float32)]).astype(np.float64)
        penalty = ridge * len(vectors) * np.eye(DIMENSIONS + 1)
        penalty[-1, -1] = 0.0
        solution = np.linalg.solve(design.T @ design + penalty, design.T @ targets.astype(np.float64))
        return cls(solution[:-1].T.astype(np.float32), solution[-1].astype(np.float32))

    @classmethod
    def load(cls, path: Path, *, width: int) -> "VectorAdapter":
        """Read an adapter to `width`; raises `ModelError` for one that is missing, damaged or for another decoder."""
        try:
            found = load_file(path)
            weight, bias = found["weight"], found["bias"]
        except (OSError, SafetensorError, KeyError) as error:
            raise ModelError(
                f"the decoder needs an adapter from {DIMENSIONS} to {width} dimensions at {str(path)!r} ({type(error).__name__}): "
                f"fit one with engine.generation.adapter.VectorAdapter.fit"
            ) from None
        if weight.shape != (width, DIMENSIONS) or bias.shape != (width,):
            raise ModelError(f"the adapter {str(path)!r} leads to {len(weight)} dimensions, the decoder takes {width}: fit another")
        return cls(weight.astype(np.float32), bias.astype(np.float32))

    def save(self, path: Path) -> None:
        """Write the adapter."""
        save_file({"weight": np.ascontiguousarray(self.weight), "bias": np.ascontiguousarray(self.bias)}, path)


def _normed(vectors: Vectors) -> Vectors:
    centred = vectors - vectors.mean(axis=1, keepdims=True)
    normed: Vectors = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + EPSILON)
    return normed.astype(np.float32)
