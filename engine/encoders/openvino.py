"""The encoder that serves: a bundle run by OpenVINO on the CPU. It never imports torch.

Batches are cut here to what fits the caches and the memory; callers pass as much as they like.
"""

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from jaxtyping import Float32, UInt8

from engine.datatypes import DIMENSIONS, Image, Vectors
from engine.encoders.bundle import Bundle
from engine.encoders.images import squash
from engine.encoders.runtime import compile_for_cpu, has_bf16
from engine.encoders.texts import TextReader

IMAGES_PER_BATCH = 4
TOKENS_PER_BATCH = 1_024
Precision: TypeAlias = Literal["auto", "bf16", "fp32"]


class Graph:
    """One compiled graph. Calls from several threads take turns: each already uses every core."""

    def __init__(self, compiled: Any) -> None:  # noqa: ANN401  OpenVINO has no types
        self._request = compiled.create_infer_request()
        self._turn = threading.Lock()

    def run(self, *inputs: np.ndarray) -> Float32[np.ndarray, "b 256"]:
        """Run the graph on one batch."""
        with self._turn:
            answer: Float32[np.ndarray, "b 256"] = self._request.infer(inputs, share_inputs=True)[0]
            return answer.copy()


class OpenVINOEncoder:
    """Embeds texts and pictures with a bundle. Safe to call from several threads."""

    def __init__(self, bundle: Bundle, reader: TextReader, image: Graph, text: Graph) -> None:
        self.name = f"bundle:{bundle.manifest.name}"
        self.fingerprint = bundle.manifest.fingerprint
        self.image_size = bundle.manifest.image_size
        self._reader, self._image, self._text = reader, image, text

    @classmethod
    def load(cls, path: Path, *, threads: int = 0, precision: Precision = "auto") -> "OpenVINOEncoder":
        """Verify and compile a bundle. `threads` 0 takes every core; `auto` takes the faster arithmetic of each tower.

        That is bf16 for pictures where the processor has it, and 8-bit arithmetic for texts: one query is bound by memory, and
        measured 2.5 ms against 4.2 ms in bf16. `fp32` computes everything in float32. Raises `BundleError`.
        """
        bundle = Bundle.load(path)
        bf16 = {"image": precision == "bf16" or (precision == "auto" and has_bf16()), "text": precision == "bf16"}
        exact = precision == "fp32"
        image, text = (
            Graph(compile_for_cpu(path / f"{graph}.xml", threads=threads, bf16=bf16[graph], exact=exact))
            for graph in ("image", "text")
        )
        max_tokens = int(bundle.manifest.text_tower["positions"])
        return cls(bundle, TextReader.load(path / "tokenizer.json", path / "tokens.npy", max_tokens), image, text)

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        """Embed texts: unit rows in input order. Any Unicode; what exceeds the model's 64 tokens is not read."""
        vectors = np.zeros((len(texts), DIMENSIONS), np.float32)
        ids = self._reader.token_ids(texts)
        for rows in _by_length(ids):
            batch = self._reader.batch([ids[row] for row in rows])
            vectors[rows] = self._text.run(batch.embeddings, batch.mask)
        return vectors

    def encode_images(self, images: Sequence[Image]) -> Vectors:
        """Embed decoded pictures: unit rows in input order. Any size and mode."""
        vectors = np.zeros((len(images), DIMENSIONS), np.float32)
        for start in range(0, len(images), IMAGES_PER_BATCH):
            pixels = np.stack([self._pixels(image) for image in images[start : start + IMAGES_PER_BATCH]])
            vectors[start : start + len(pixels)] = self._image.run(pixels)
        return vectors

    def _pixels(self, image: Image) -> UInt8[np.ndarray, "s s 3"]:
        ready = image.mode == "RGB" and image.size == (self.image_size, self.image_size)
        return np.asarray(image if ready else squash(image, self.image_size))


def _by_length(ids: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Cut texts into batches of similar length, so that little is padded."""
    batch: list[int] = []
    for row in sorted(range(len(ids)), key=lambda row: len(ids[row])):
        if len(ids[row]) * (len(batch) + 1) > TOKENS_PER_BATCH and batch:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch
