"""A second toy encoder, for tests of what happens between two."""

from engine.datatypes import Vectors
from engine.testing import FakeEncoder


class MirroredEncoder(FakeEncoder):
    """The toy encoder with its space mirrored: vectors of the two say nothing about one another."""

    name = "fake:mirrored"
    fingerprint = "fake-mirrored-1"

    def encode_texts(self, texts: "list[str]") -> Vectors:  # type: ignore[override]
        return -super().encode_texts(texts)

    def encode_images(self, images: "list[object]") -> Vectors:  # type: ignore[override]
        return -super().encode_images(images)  # type: ignore[arg-type]
