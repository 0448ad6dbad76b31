"""The nouns of drawing: what is to be drawn, and what was drawn. Values only; what draws is in `engine.generation`."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image as PillowImage

from engine.datatypes import DIMENSIONS, Image, Vector, Vectors
from engine.errors import InvalidQuery

BOUNDS = {
    "size": (64, 1_024),
    "count": (1, 16),
    "seed": (0, 2**32 - 17),
    "steps": (1, 200),
    "guidance": (0.0, 50.0),
    "strength": (0.0, 1.0),
}
"""Least and most of each number of a request."""


@dataclass(frozen=True, slots=True, eq=False)
class GenerationRequest:
    """What to draw: one picture's meaning, drawn `count` times from the seeds `seed`, `seed + 1` and so on.

    `vectors` are unit rows of the joint space, one per weighted term; `joint` is their weighted sum. A drawing depends on
    everything but `count`: `seed=7, count=1` repeats the last of `seed=4, count=4`. `prompt` is what was asked in words; its digest
    is the drawing's provenance, and decoders that read text read it. `size` is the side in pixels; `steps` and `guidance` are the
    decoder's own choice when None. `image` is a picture to restyle, `strength` how far to leave it (1: entirely).
    Raises `InvalidQuery`.
    """

    vectors: Vectors
    weights: tuple[float, ...] = (1.0,)
    prompt: str = ""
    size: int = 128
    steps: int | None = None
    guidance: float | None = None
    seed: int = 0
    count: int = 1
    image: Image | None = None
    strength: float = 0.6

    def __post_init__(self) -> None:
        if not self.weights or self.vectors.shape != (len(self.weights), DIMENSIONS):
            raise InvalidQuery(f"vectors have shape {self.vectors.shape}: give one row of {DIMENSIONS} for each of the weights")
        if not np.isfinite(self._sum()).all() or np.linalg.norm(self._sum()) < 1e-6:
            raise InvalidQuery("the terms of the drawing cancel each other out or are not finite: change a weight")
        for name, (least, most) in BOUNDS.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise InvalidQuery(f"{name} is {value}: use {least} to {most}")

    def _sum(self) -> Vector:
        total: Vector = np.asarray(self.weights, np.float32) @ self.vectors
        return total

    @property
    def joint(self) -> Vector:
        """The unit vector that all terms together mean, by weight."""
        total = self._sum()
        return total / np.float32(np.linalg.norm(total))


@dataclass(frozen=True, slots=True, eq=False)
class GeneratedImage:
    """A drawing: never a product. `synthetic` is always true and cannot be set.

    `pixels` are RGB. `model` names what drew it, `prompt_digest` (32 hex digits) what was asked; with `seed` they repeat the
    drawing. `similarity` is the cosine of the re-embedded drawing to what was asked, None before it was measured.
    """

    pixels: UInt8[np.ndarray, "h w 3"]
    seed: int
    model: str
    prompt_digest: str
    similarity: float | None = None
    synthetic: Literal[True] = field(default=True, init=False)

    @property
    def image(self) -> Image:
        """The drawing as a Pillow picture."""
        return PillowImage.fromarray(self.pixels)
