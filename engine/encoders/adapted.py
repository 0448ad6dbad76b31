"""An encoder with heads trained on one's own catalogue: any other encoder, and one linear map behind each of its towers.

The heads are a folder: `adapter.json` says what they were trained on and how well they did, `heads.npz` holds both maps. Training
them is in `engine.training.adapt`.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float32

from engine.datatypes import DIMENSIONS, Image, Vectors
from engine.errors import ModelError
from engine.protocols import Encoder

FORMAT = 1
PREFIX = "adapted:"
ABOUT, HEADS = "adapter.json", "heads.npz"
TOWER = "tower.json"
"""What a folder holds instead when a language model reads the texts: `engine.encoders.causal`."""

OpenEncoder: TypeAlias = Callable[[str], Encoder]


@dataclass(frozen=True, slots=True)
class Heads:
    """One square map a tower; the identity changes nothing."""

    text: Float32[np.ndarray, "256 256"]
    image: Float32[np.ndarray, "256 256"]

    @classmethod
    def identity(cls) -> "Heads":
        """Make heads that change nothing."""
        return cls(np.eye(DIMENSIONS, dtype=np.float32), np.eye(DIMENSIONS, dtype=np.float32))

    @property
    def digest(self) -> str:
        """Name both maps by what is in them."""
        return hashlib.sha256(self.text.tobytes() + self.image.tobytes()).hexdigest()

    def texts(self, vectors: Vectors) -> Vectors:
        """Map vectors of texts to unit rows."""
        return _unit(vectors @ self.text)

    def images(self, vectors: Vectors) -> Vectors:
        """Map vectors of pictures to unit rows."""
        return _unit(vectors @ self.image)


def _unit(rows: Float32[np.ndarray, "n 256"]) -> Vectors:
    unit: Vectors = (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)).astype(np.float32)
    return unit


class AdaptedEncoder:
    """Embeds with another encoder and turns what it says; safe to call from several threads where that one is."""

    def __init__(self, base: Encoder, heads: Heads, name: str) -> None:
        self.name = name
        self.fingerprint = hashlib.sha256(f"{base.fingerprint}\0{heads.digest}".encode()).hexdigest()[:16]
        self.image_size = base.image_size
        self._base, self._heads = base, heads

    @classmethod
    def load(cls, folder: Path, open_encoder: OpenEncoder) -> "AdaptedEncoder":
        """Read heads and open the encoder they belong to; raises `ModelError` when either is not what it was."""
        about, heads = read_heads(folder)
        base = open_encoder(about["encoder"])
        if base.fingerprint != about["fingerprint"]:
            raise ModelError(
                f"the heads in {str(folder)!r} were trained on {about['encoder']} {about['fingerprint']}, "
                f"which is {base.fingerprint} now: train them again"
            )
        return cls(base, heads, f"{PREFIX}{folder}")

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        """Embed texts: unit rows in input order."""
        return self._heads.texts(self._base.encode_texts(texts))

    def encode_images(self, images: Sequence[Image]) -> Vectors:
        """Embed decoded pictures: unit rows in input order."""
        return self._heads.images(self._base.encode_images(images))


def read_heads(folder: Path) -> tuple[dict[str, Any], Heads]:
    """Read a folder of heads; raises `ModelError` when it is incomplete or altered."""
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        with np.load(folder / HEADS) as stored:
            heads = Heads(*(np.ascontiguousarray(stored[name], np.float32) for name in ("text", "image")))
        if about["format"] != FORMAT or about["digest"] != heads.digest or heads.text.shape != (DIMENSIONS, DIMENSIONS):
            raise ValueError("another format or other heads")
        if not isinstance(about["encoder"], str) or not isinstance(about["fingerprint"], str):
            raise TypeError("it does not name its encoder")
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ModelError(f"the heads in {str(folder)!r} cannot be read ({error}): train them again, or copy them again") from None
    return about, heads


def write_heads(folder: Path, heads: Heads, base: Encoder, training: dict[str, Any]) -> None:
    """Write heads to a folder; what describes them comes last, so that a folder with it is complete."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ABOUT).unlink(missing_ok=True)
    np.savez(folder / HEADS, text=heads.text, image=heads.image)
    about = {"format": FORMAT, "encoder": base.name, "fingerprint": base.fingerprint, "digest": heads.digest, "training": training}
    (folder / ABOUT).write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
