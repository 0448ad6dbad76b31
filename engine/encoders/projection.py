"""From a foreign model's width to the 256 dimensions everything here is stored in.

Here belongs the linear map between the two and how it is chosen, fitted, saved and loaded. The heads of the own model, which
are trained and not fitted, are in `engine.encoders.heads`. Why this choice: `docs/decisions/0003-projection-of-foreign-models.md`.
"""

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Float32

from engine.datatypes import DIMENSIONS, Vectors
from engine.errors import MissingExtra, ModelError

try:
    from safetensors import SafetensorError, safe_open
    from safetensors.numpy import save_file
except ImportError:
    raise MissingExtra("projecting another model's vectors", "models") from None

Features: TypeAlias = Float32[np.ndarray, "n w"]
Kind: TypeAlias = Literal["identity", "padded", "cosine", "fitted"]

LEAST_SAMPLES = 256
_FORMAT = "semblance-projection-1"


@dataclass(frozen=True, slots=True)
class Projection:
    """An isometry of rows followed by normalisation: features of any width to unit vectors of 256 dimensions.

    Up to 256 wide it changes no cosine. Of wider features it keeps a part, and cosines change by what is left out.
    """

    kind: Kind
    matrix: Float32[np.ndarray, "w 256"]

    @classmethod
    def default(cls, width: int) -> "Projection":
        """Choose without data: as it is, padded with zeros, or a seeded orthonormal map, the same on every machine."""
        if width <= DIMENSIONS:
            return cls("identity" if width == DIMENSIONS else "padded", np.eye(width, DIMENSIONS, dtype=np.float32))
        return cls("cosine", _mixed_cosines(width))

    @classmethod
    def load(cls, path: Path, width: int) -> "Projection":
        """Read a fitted projection; raises `ModelError` if it is damaged or fits another width."""
        try:
            with safe_open(path, framework="numpy") as file:
                known, matrix = (file.metadata() or {}).get("format") == _FORMAT, file.get_tensor("matrix")
        except (OSError, SafetensorError, KeyError) as error:
            raise ModelError(f"the projection {str(path)!r} cannot be read ({error}): fit it again, or remove it") from None
        if not known or matrix.shape != (width, DIMENSIONS) or matrix.dtype != np.float32 or not np.isfinite(matrix).all():
            raise ModelError(
                f"the projection {str(path)!r} is {matrix.dtype} {matrix.shape}, the model needs float32 ({width}, {DIMENSIONS}): "
                f"fit it again with this model, or remove it"
            )
        return cls("fitted", matrix)

    @property
    def fingerprint(self) -> str:
        """Digest of the map. That of the choices without data is their name: their last bits may differ between machines."""
        content = self.matrix.tobytes() if self.kind == "fitted" else str(self.matrix.shape).encode()
        return hashlib.sha256(self.kind.encode() + b"\0" + content).hexdigest()

    def save(self, path: Path) -> None:
        """Write the map as safetensors; the folder is made if need be."""
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({"matrix": self.matrix}, path, metadata={"format": _FORMAT, "kind": self.kind})

    def apply(self, features: Features) -> Vectors:
        """Project rows and scale them to unit length."""
        projected = features @ self.matrix
        norms = np.linalg.norm(projected, axis=1, keepdims=True)
        unit: Vectors = (projected / np.maximum(norms, np.finfo(np.float32).tiny)).astype(np.float32)
        return unit

    def energy(self, features: Features) -> float:
        """Say which part of the squared length of unit rows the map keeps: 1 is all of it."""
        return float(np.mean(np.sum((_unit(features) @ self.matrix) ** 2, axis=1)))


def fit_projection(images: Features, texts: Features) -> Projection:
    """Fit the map to features of a catalogue: the 256 directions in which its unit rows are longest.

    This is principal component analysis without subtracting the mean and without whitening (a truncated singular value
    decomposition): both of these change cosines far more than the dimensions left out do. Pictures and texts count the
    same, however many there are of each. Either may be empty; raises `ModelError` for fewer than 256 rows together.
    """
    if len(images) + len(texts) < LEAST_SAMPLES:
        raise ModelError(
            f"a projection is fitted to {len(images)} pictures and {len(texts)} texts: give at least {LEAST_SAMPLES}, better 5,000"
        )
    width = (images if len(images) else texts).shape[1]
    if width <= DIMENSIONS:
        return Projection.default(width)
    moments = [unit.T @ unit / len(unit) for rows in (images, texts) if len(rows) for unit in [_unit(rows).astype(np.float64)]]
    directions = np.linalg.eigh(sum(moments[1:], moments[0]))[1][:, ::-1][:, :DIMENSIONS]
    return Projection("fitted", np.ascontiguousarray(directions, dtype=np.float32))


def _unit(rows: Features) -> Features:
    unit: Features = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return unit


def _mixed_cosines(width: int) -> Float32[np.ndarray, "w 256"]:
    """Flip signs at random, take the cosine transform, keep 256 of its columns: a fast Johnson-Lindenstrauss map.

    (Ailon and Chazelle, SIAM J. Comput. 2009.) The bits come from SHAKE, not from a random generator whose stream may
    change with its version.
    """
    bits = np.frombuffer(hashlib.shake_256(b"semblance-projection-%d" % width).digest(9 * width), np.uint8)
    signs = np.where(bits[:width] & 1, 1.0, -1.0)
    kept = np.sort(np.argsort(bits[width:].view(np.dtype("<u8")), kind="stable")[:DIMENSIONS])
    waves = np.cos(math.pi * (np.arange(width)[:, None] + 0.5) * kept[None, :] / width) * math.sqrt(2 / width)
    waves[:, kept == 0] = math.sqrt(1 / width)
    return (signs[:, None] * waves).astype(np.float32)
