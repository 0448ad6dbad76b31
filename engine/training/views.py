"""Views of pictures: as they are, mirrored, cropped. Each is run through the frozen part of the image tower once and kept.

Training draws one view of a picture a step; evaluation looks at pictures as they are.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
from jaxtyping import Float32, Int64, UInt8
from PIL import Image

View: TypeAlias = Literal["plain", "flipped", "cropped"]

CROP_AREA = (0.6, 0.95)
CROP_ASPECT = 0.12  # the largest change of the aspect ratio, in natural logarithms
CHANCES: Mapping[View, float] = {"plain": 0.33, "flipped": 0.33, "cropped": 0.34}


class Lookup(Protocol):
    """Cached features of pictures, looked up by row: an array, or several beside each other."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> Any: ...  # noqa: ANN401  as NumPy declares it


@dataclass(frozen=True, slots=True)
class CachedView:
    """Features of some pictures under one view: `rows` are the items, ascending, in the order of `features`."""

    features: Lookup
    rows: Int64[np.ndarray, " n"]

    def places(self, rows: Int64[np.ndarray, " b"]) -> Int64[np.ndarray, " b"]:
        """Find items; -1 where this view has none."""
        found = np.minimum(np.searchsorted(self.rows, rows), len(self.rows) - 1)
        return np.where(self.rows[found] == rows, found, -1)


@dataclass(frozen=True, slots=True)
class Views:
    """What there is of every picture. `plain` has all items."""

    plain: CachedView
    others: Mapping[View, CachedView]

    def at(self, rows: Int64[np.ndarray, " b"]) -> Float32[np.ndarray, "b ..."]:
        """Look at pictures as they are."""
        return np.asarray(self.plain.features[self.plain.places(rows)], np.float32)

    def draw(self, rows: Int64[np.ndarray, " b"], random: np.random.Generator) -> Float32[np.ndarray, "b ..."]:
        """Look at each picture in one of its views."""
        drawn = self.at(rows)
        edges = np.cumsum([CHANCES["plain"], *(CHANCES[view] for view in self.others)])
        chosen = np.searchsorted(edges, random.random(len(rows)) * edges[-1], side="right") - 1
        for number, view in enumerate(self.others.values()):
            places = np.where(chosen == number, view.places(rows), -1)
            drawn[places >= 0] = view.features[places[places >= 0]]
        return drawn


def read_pixels(path: Path, size: int, view: View = "plain", seed: int = 0) -> UInt8[np.ndarray, "s s 3"]:
    """Read a picture under a view, squashed to the tower's square; `seed` decides how it is cropped."""
    random = np.random.default_rng([seed, 7])
    with Image.open(path) as image:
        box = _crop(*image.size, random) if view == "cropped" else None
        pixels = np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BICUBIC, box=box))
    mirrored = view == "flipped" or (view == "cropped" and random.random() < 0.5)
    return pixels[:, ::-1].copy() if mirrored else pixels


def _crop(width: int, height: int, random: np.random.Generator) -> tuple[float, float, float, float]:
    side, aspect = np.sqrt(random.uniform(*CROP_AREA)), np.exp(random.uniform(-CROP_ASPECT, CROP_ASPECT))
    wide, high = min(width, width * side * aspect), min(height, height * side / aspect)
    left, top = random.uniform(0, width - wide), random.uniform(0, height - high)
    return left, top, left + wide, top + high
