"""The encoder that serves: a bundle run by OpenVINO on the CPU. It never imports torch.

Batches are cut here to what fits the caches and the memory; callers pass as much as they like.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from queue import LifoQueue
from typing import Any, Literal, TypeAlias

import numpy as np
from jaxtyping import Float32, UInt8

from engine.datatypes import DIMENSIONS, Image, Vectors
from engine.encoders.bundle import Bundle
from engine.encoders.images import squash
from engine.encoders.runtime import compile_for_cpu, cores, has_bf16
from engine.encoders.texts import TextReader

IMAGES_PER_BATCH = 2
"""Pictures that pass through the tower together: with two the maps of its first layers stay in the cache of a core."""
MANY_IMAGES = 16
"""From so many on, pictures go through streams of one core each, which never wait for one another between layers."""
MAX_STREAMS = 8
TOKENS_PER_BATCH = 1_024
TEXTS_TO_ARRANGE = 64
"""Texts are arranged into batches within so many of similar length; arranging 64 takes half a millisecond."""
TOKENS_OF_A_CALL = 12
"""What one call costs on top of its tokens, in tokens: the weights are read once (1.8 to 3 ms; a token takes 0.16 to 0.19)."""
Precision: TypeAlias = Literal["auto", "bf16", "fp32"]


class Graph:
    """One compiled graph. As many calls run side by side as it has streams, further ones take turns."""

    def __init__(self, compiled: Any) -> None:  # noqa: ANN401  OpenVINO has no types
        self.streams = max(1, int(compiled.get_property("NUM_STREAMS")))
        self._free: LifoQueue[Any] = LifoQueue()
        for _ in range(self.streams):
            self._free.put(compiled.create_infer_request())

    def run(self, *inputs: np.ndarray) -> Float32[np.ndarray, "b 256"]:
        """Run the graph on one batch."""
        request = self._free.get()
        try:
            answer: Float32[np.ndarray, "b 256"] = request.infer(inputs, share_inputs=True)[0]
            return answer.copy()
        finally:
            self._free.put(request)


class Waiting:
    """A graph that is compiled when it is first needed: a job needs none for single pictures, few searches one for many."""

    def __init__(self, compile: Callable[[], Graph]) -> None:
        self._compile = compile
        self._lock = threading.Lock()
        self._graph: Graph | None = None

    def get(self) -> Graph:
        """Give the graph; threads that come while it is compiled wait."""
        with self._lock:
            if self._graph is None:
                self._graph = self._compile()
            return self._graph


class OpenVINOEncoder:
    """Embeds texts and pictures with a bundle. Safe to call from several threads."""

    def __init__(
        self, bundle: Bundle, reader: TextReader, text: Graph, few: Waiting, many: Waiting, *, streams: int = MAX_STREAMS
    ) -> None:
        self.name = f"bundle:{bundle.manifest.name}"
        self.fingerprint = bundle.manifest.fingerprint
        self.image_size = bundle.manifest.image_size
        self._reader, self._text, self._few, self._many = reader, text, few, many
        self._workers = ThreadPoolExecutor(streams, thread_name_prefix="semblance-encode")

    @classmethod
    def load(cls, path: Path, *, threads: int = 0, precision: Precision = "auto") -> "OpenVINOEncoder":
        """Verify and compile a bundle. `threads` 0 takes every core; `auto` takes the faster arithmetic of each tower.

        That is bf16 for pictures where the processor has it, and 8-bit arithmetic for texts: one query is bound by memory, and
        measured 2.5 ms against 4.2 ms in bf16. `fp32` computes everything in float32. Raises `BundleError`.
        """
        bundle = Bundle.load(path)
        bf16 = {"image": precision == "bf16" or (precision == "auto" and has_bf16()), "text": precision == "bf16"}
        exact = precision == "fp32"

        def compiled(graph: str, streams: int = 1) -> Graph:
            model = path / f"{graph}.xml"
            return Graph(compile_for_cpu(model, threads=threads, bf16=bf16[graph], exact=exact, streams=streams))

        streams = min(threads or cores(), MAX_STREAMS)
        max_tokens = int(bundle.manifest.text_tower["positions"])
        reader = TextReader.load(path / "tokenizer.json", path / "tokens.npy", max_tokens)
        few, many = Waiting(lambda: compiled("image")), Waiting(lambda: compiled("image", streams))
        return cls(bundle, reader, compiled("text"), few, many, streams=streams)

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        """Embed texts: unit rows in input order. Any Unicode; what exceeds the model's 64 tokens is not read."""
        vectors = np.zeros((len(texts), DIMENSIONS), np.float32)
        ids = self._reader.token_ids(texts)
        for rows in _by_length([self._reader.padded(len(tokens)) for tokens in ids]):
            batch = self._reader.batch([ids[row] for row in rows])
            vectors[rows] = self._text.run(batch.embeddings, batch.mask)
        return vectors

    def encode_images(self, images: Sequence[Image]) -> Vectors:
        """Embed decoded pictures: unit rows in input order. Any size and mode."""
        vectors = np.zeros((len(images), DIMENSIONS), np.float32)

        if not images:
            return vectors
        many = len(images) >= MANY_IMAGES
        graph = (self._many if many else self._few).get()

        def encode(span: tuple[int, int]) -> None:
            start, end = span
            vectors[start:end] = graph.run(np.stack([self._pixels(image) for image in images[start:end]]))

        spans = pairwise([*range(0, len(images), IMAGES_PER_BATCH), len(images)])
        for _ in self._workers.map(encode, spans) if many else map(encode, spans):
            pass  # errors are raised here
        return vectors

    def _pixels(self, image: Image) -> UInt8[np.ndarray, "s s 3"]:
        ready = image.mode == "RGB" and image.size == (self.image_size, self.image_size)
        return np.asarray(image if ready else squash(image, self.image_size))


def _by_length(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Cut texts of given lengths into batches of similar length, so that little is padded and few calls are made.

    A batch has 1, 2, 4, 8... texts: with the rounded lengths that makes some dozens of shapes, however many texts there are.
    A text may stand in a batch more than once, where filling it up is cheaper than another call.
    """
    rows = sorted(range(len(lengths)), key=lambda row: lengths[row])
    for start in range(0, len(rows), TEXTS_TO_ARRANGE):
        yield from _cheapest(rows[start : start + TEXTS_TO_ARRANGE], lengths)


def _cheapest(rows: list[int], lengths: Sequence[int]) -> Iterator[list[int]]:
    """Cut rows sorted by length where tokens and calls together cost least: the best cut of the first 1, 2, 3... of them."""
    costs, cuts = [0], [0]
    for end in range(1, len(rows) + 1):
        tokens = [_rounded(end - start) * lengths[rows[end - 1]] for start in range(end)]
        fitting = (start for start in range(end) if tokens[start] <= TOKENS_PER_BATCH or start == end - 1)
        cost, cut = min((costs[start] + TOKENS_OF_A_CALL + tokens[start], start) for start in fitting)
        costs.append(cost)
        cuts.append(cut)
    end = len(rows)
    while end:
        batch = rows[cuts[end] : end]
        yield batch + batch[-1:] * (_rounded(len(batch)) - len(batch))
        end = cuts[end]


def _rounded(count: int) -> int:
    """Round up to a power of two."""
    return 1 << (count - 1).bit_length()
