"""The seams: what may be replaced, and what every replacement keeps.

A protocol stands here only where two implementations exist, one of them a shipped fake (`engine.testing`). One suite per
protocol in `tests/contracts/` runs over all of them.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32
from pyroaring import BitMap64

from engine.datatypes import Image, Matches, Transcript, Vectors
from engine.drawings import GeneratedImage, GenerationRequest


@runtime_checkable
class Encoder(Protocol):
    """Embeds texts and pictures into one space of 256 dimensions. Safe to call from several threads."""

    @property
    def name(self) -> str:
        """How a user asks for it, for example `bundle:default`."""

    @property
    def fingerprint(self) -> str:
        """Digest of weights, preprocessing and heads: vectors of two fingerprints are never compared."""

    @property
    def image_size(self) -> int:
        """Side in pixels of the square it looks at; larger pictures are squashed to it, not cropped."""

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        """Embed texts: unit rows in input order, shape [0, 256] for none."""

    def encode_images(self, images: Sequence[Image]) -> Vectors:
        """Embed decoded pictures of any size and mode: unit rows in input order, shape [0, 256] for none."""


@runtime_checkable
class VectorIndex(Protocol):
    """Finds the stored vectors of highest inner product."""

    def __len__(self) -> int:
        """Count the stored vectors."""

    def search(self, vectors: Vectors, k: int, allow: BitMap64 | None = None) -> Matches:
        """Find up to `k` keys per query, best first, equal scores by ascending key; only keys in `allow` if given."""


@runtime_checkable
class Cache(Protocol):
    """Remembers bytes under digests. It never raises: a failing cache is a miss."""

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Look keys up, answers in input order, None for a miss."""

    def set_many(self, items: Mapping[bytes, bytes]) -> None:
        """Remember items; older or rarer ones may be forgotten for them."""


@runtime_checkable
class Generator(Protocol):
    """Draws pictures from vectors of the joint space. Safe to call from several threads, one drawing at a time."""

    @property
    def name(self) -> str:
        """What draws, with the version of its weights: part of every drawing's provenance."""

    @property
    def size(self) -> int:
        """Side in pixels it draws best; a request's `size` is what it returns."""

    def generate(self, request: GenerationRequest) -> list[GeneratedImage]:
        """Draw `request.count` pictures of `request.size`; the same seed gives the same pixels."""


@runtime_checkable
class Transcriber(Protocol):
    """Writes down what is said. Safe to call from several threads."""

    @property
    def name(self) -> str:
        """Which model listens."""

    def transcribe(self, samples: Float32[np.ndarray, " s"], language: str | None = None) -> Transcript:
        """Write down speech, mono at 16 kHz; `language` (such as `zh`) None finds it out. Raises `InvalidAudio`."""
