"""What the decoder learns from: pictures at its size, and the vectors of pictures and texts that a bundle's encoder gives.

Everything is computed once and kept in a work folder; vectors are kept under the encoder's fingerprint, because those of another
encoder mean nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import Int64, UInt8
from PIL import Image

from engine.datatypes import Vectors
from engine.protocols import Encoder
from engine.training.features import Progress, digest_of
from engine.training.pairs import Item
from engine.training.sources import read_emoji, read_fashion

Array = TypeVar("Array", bound=np.ndarray)
SIDE = 128
PICTURES_PER_CALL = 64
TEXTS_PER_CALL = 512
TOLD = {"title": ("en",), "query": ("en",), "label": ("en", "zh")}


@dataclass(frozen=True, slots=True)
class Told:
    """Texts and, for each, the row of the picture it describes; ascending rows."""

    texts: tuple[str, ...]
    owners: Int64[np.ndarray, " m"]


def drawn_items(data: Path) -> list[Item]:
    """List the pictures to learn to draw: products and emoji. Photos of scenes are beyond a decoder of this size."""
    return [*read_fashion(data / "fashion"), *read_emoji(data / "emoji")]


def pixels_of(items: Sequence[Item], work: Path, progress: Progress) -> UInt8[np.ndarray, "n s s 3"]:
    """Read every picture at the decoder's size, squashed to a square."""
    path = work / f"pixels-{digest_of([str(item.image) for item in items])[:16]}.npy"
    return kept(path, lambda: _read_pixels(items, progress))


def _read_pixels(items: Sequence[Item], progress: Progress) -> UInt8[np.ndarray, "n s s 3"]:
    pixels = np.empty((len(items), SIDE, SIDE, 3), np.uint8)
    for row, item in enumerate(items):
        with Image.open(item.image) as image:
            pixels[row] = np.asarray(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS))
        if row % PICTURES_PER_CALL == 0:
            progress("pixels", row, len(items))
    return pixels


def picture_vectors(encoder: Encoder, items: Sequence[Item], work: Path, progress: Progress) -> Vectors:
    """Embed every picture from its file."""

    def embed() -> Vectors:
        parts = []
        for start in range(0, len(items), PICTURES_PER_CALL):
            parts.append(encoder.encode_images([_open(item.image) for item in items[start : start + PICTURES_PER_CALL]]))
            progress("picture vectors", start, len(items))
        return np.concatenate(parts)

    digest = digest_of([str(item.image) for item in items])[:16]
    return kept(work / f"pictures-{encoder.fingerprint}-{digest}.npy", embed)


def text_vectors(encoder: Encoder, texts: Sequence[str], work: Path, progress: Progress) -> Vectors:
    """Embed texts; equal ones are embedded once."""
    distinct = sorted(set(texts))

    def embed() -> Vectors:
        parts = []
        for start in range(0, len(distinct), TEXTS_PER_CALL):
            parts.append(encoder.encode_texts(distinct[start : start + TEXTS_PER_CALL]))
            progress("text vectors", start, len(distinct))
        return np.concatenate(parts)

    vectors = kept(work / f"texts-{encoder.fingerprint}-{digest_of(distinct)[:16]}.npy", embed)
    places = {text: row for row, text in enumerate(distinct)}
    return vectors[[places[text] for text in texts]]


def told_of(items: Sequence[Item]) -> Told:
    """Choose the texts a picture is drawn from: titles, everyday queries and labels, mostly English; the space is shared."""
    told = [(c.text, row) for row, item in enumerate(items) for c in item.captions if c.language in TOLD.get(c.kind, ())]
    return Told(tuple(text for text, _ in told), np.array([row for _, row in told], np.int64))


def _open(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")


def kept(path: Path, compute: Callable[[], Array]) -> Array:
    """Read a cached array, or compute and cache it; the file appears whole or not at all."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part.npy")
        np.save(part, compute())
        part.replace(path)
    kept: Array = np.load(path)
    return kept
