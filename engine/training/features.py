"""Cached features: the frozen part of each tower is run once over all data, through OpenVINO, and kept on disk.

A cache is a folder of memory-mapped float16 arrays that grows from the front, so an interrupted run goes on where it
stopped. Training (`engine.training.train`) starts from these arrays and never touches a pixel or a string.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float16, Float32, Int64, UInt8
from numpy.lib.format import open_memmap
from torch import Tensor, nn

from engine.encoders.texts import TextReader
from engine.encoders.towers import Backbone, TextTower
from engine.training.graphs import compile_module
from engine.training.views import CachedView, Lookup, View, read_pixels

TOKENS_PER_BATCH = 4_096
PICTURES_PER_BATCH = 16
CHECKPOINT_EVERY = 16
TEXTS_PER_BLOCK = 16_384

Progress: TypeAlias = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Cut:
    """Where each tower is cut: the first block of the image tower and the first layer of the text tower that training runs.

    `companion` is the first block of the second network that training runs; the first network is not trained then.
    """

    block: int
    layer: int
    companion: int | None = None


class _Maps(nn.Module):
    def __init__(self, tower: Backbone, block: int) -> None:
        super().__init__()
        self.tower, self.block = tower, block

    def forward(self, pixels: Tensor) -> Tensor:
        return self.tower.run(self.tower.pixels_to_map(pixels), 0, self.block)


class _Pooled(nn.Module):
    def __init__(self, tower: Backbone, block: int) -> None:
        super().__init__()
        self.tower, self.block = tower, block

    def forward(self, maps: Tensor) -> Tensor:
        return self.tower.pool(self.tower.run(maps, self.block, len(self.tower.blocks)))


class _States(nn.Module):
    def __init__(self, tower: TextTower, layer: int) -> None:
        super().__init__()
        self.tower, self.layer = tower, layer

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return self.tower.run(self.tower.place(tokens), mask, 0, self.layer)


class GrowingArray:
    """A memory-mapped array filled from the front; `done` rows of it are valid, also after an interruption."""

    def __init__(self, folder: Path, name: str, shape: tuple[int, ...], digest: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._mark = folder / f"{name}.json"
        path = folder / f"{name}.npy"
        known = json.loads(self._mark.read_text()) if self._mark.exists() else {}
        fresh = known.get("digest") != digest or not path.exists()
        self.array = open_memmap(path, "w+" if fresh else "r+", np.float16, shape if fresh else None)
        self._digest = digest
        self.done = 0 if fresh else int(known["done"])

    def mark(self, done: int) -> None:
        """Flush and remember that the first `done` units are complete."""
        self.array.flush()
        self._mark.write_text(json.dumps({"digest": self._digest, "done": done}))
        self.done = done


def digest_of(parts: Sequence[str]) -> str:
    """Digest a list of strings, length-prefixed."""
    state = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        state.update(len(data).to_bytes(4, "big") + data)
    return state.hexdigest()


@dataclass(frozen=True, slots=True)
class MapJob:
    """Which pictures to run how far through the image tower: `rows` of `paths`, ascending, under one view."""

    paths: Sequence[Path]
    rows: Int64[np.ndarray, " n"]
    size: int
    block: int
    view: View = "plain"

    @property
    def name(self) -> str:
        """Name the cache after everything its content depends on."""
        return f"maps-{self.size}-{self.block}-{self.view}"

    @property
    def digest(self) -> str:
        """Digest which pictures these are."""
        return digest_of([f"{row} {self.paths[row]}" for row in self.rows])

    def read(self, start: int, stop: int) -> UInt8[np.ndarray, "b s s 3"]:
        """Read some of the pictures."""
        return np.stack([read_pixels(self.paths[row], self.size, self.view, int(row)) for row in self.rows[start:stop]])


def cache_maps(tower: Backbone, job: MapJob, folder: Path, threads: int, progress: Progress) -> CachedView:
    """Run the first blocks over the pictures of a job."""
    example = torch.zeros(1, job.size, job.size, 3, dtype=torch.uint8)
    module = _Maps(tower, job.block)
    with torch.no_grad():
        shape = tuple(module(example).shape[1:])
    store = GrowingArray(folder, job.name, (len(job.rows), *shape), job.digest)
    compiled = compile_module(module, {"pixels": example}, {"pixels": [-1, job.size, job.size, 3]}, threads)
    request = compiled.create_infer_request()
    for number, start in enumerate(range(store.done, len(job.rows), PICTURES_PER_BATCH)):
        pixels = job.read(start, start + PICTURES_PER_BATCH)
        store.array[start : start + len(pixels)] = request.infer([pixels])[0]
        if number % CHECKPOINT_EVERY == 0:
            store.mark(start + len(pixels))
            progress(job.name, start, len(job.rows))
    store.mark(len(job.rows))
    return CachedView(store.array, job.rows)


def pooled_of(tower: Backbone, maps: Lookup, block: int) -> Float32[np.ndarray, "i f"]:
    """Run maps cached before `block` to the end of the tower, up to its head, in memory."""
    module = _Pooled(tower, block)
    shape = tower.map_shape(block)
    example = torch.zeros(1, *shape)
    with torch.no_grad():
        result = np.empty((len(maps), *module(example).shape[1:]), np.float32)
    request = compile_module(module, {"maps": example}, {"maps": [-1, *shape]}, 0).create_infer_request()
    for start in range(0, len(maps), 4 * PICTURES_PER_BATCH):
        batch = maps[start : start + 4 * PICTURES_PER_BATCH]
        result[start : start + len(batch)] = request.infer([batch.astype(np.float32)])[0]
    return result


@dataclass(frozen=True, slots=True)
class States:
    """Token states of texts, one after the other: text `i` has rows `offsets[i]:offsets[i + 1]`; the first `done` are filled."""

    rows: Float16[np.ndarray, "r w"]
    offsets: Int64[np.ndarray, " n1"]
    done: int

    def by_length(self, texts: Int64[np.ndarray, " b"]) -> Int64[np.ndarray, " b"]:
        """Order texts from short to long, so that batches cut from them are padded little."""
        return np.argsort(self.offsets[texts + 1] - self.offsets[texts], kind="stable")

    def batch(self, texts: Int64[np.ndarray, " b"]) -> tuple[Float32[np.ndarray, "b t w"], Float32[np.ndarray, "b t"]]:
        """Gather texts, padded to the longest, with their mask."""
        lengths = self.offsets[texts + 1] - self.offsets[texts]
        longest = int(lengths.max())
        mask = np.arange(longest)[None, :] < lengths[:, None]
        index = np.minimum(self.offsets[texts][:, None] + np.arange(longest), len(self.rows) - 1)
        return self.rows[index].astype(np.float32) * mask[:, :, None], mask.astype(np.float32)


def means_of(states: States) -> States:
    """Average the states of every filled text: what a frozen text tower hands to its head, as states of one token."""
    means = np.empty((states.done, states.rows.shape[1]), np.float16)
    for first in range(0, states.done, TEXTS_PER_BLOCK):
        edges = states.offsets[first : min(first + TEXTS_PER_BLOCK, states.done) + 1]
        block = states.rows[edges[0] : edges[-1]].astype(np.float32)
        sums = np.add.reduceat(block, edges[:-1] - edges[0])
        means[first : first + len(sums)] = sums / np.diff(edges)[:, None]
    return States(means, np.arange(states.done + 1), states.done)


@dataclass(frozen=True, slots=True)
class StateJob:
    """Which texts to run how far through the text tower."""

    reader: TextReader
    texts: Sequence[str]
    layer: int

    @property
    def name(self) -> str:
        """Name the cache after its layer; the texts are in its digest."""
        return f"states-{self.layer}"


def cache_states(tower: TextTower, job: StateJob, folder: Path, threads: int, progress: Progress) -> States:
    """Run the first layers over all texts."""
    ids = job.reader.token_ids(job.texts)
    width = tower.positions.shape[1]
    offsets = np.concatenate([[0], np.cumsum([len(tokens) for tokens in ids])])
    store = GrowingArray(folder, job.name, (int(offsets[-1]), width), digest_of(job.texts))
    example = {"tokens": torch.zeros(1, 8, width), "mask": torch.ones(1, 8)}
    shapes = {"tokens": [-1, -1, width], "mask": [-1, -1]}
    request = compile_module(_States(tower, job.layer), example, shapes, threads).create_infer_request()
    for first, last in _windows(len(ids), store.done):
        for rows in batches_by_length(ids, first, last):
            batch = job.reader.batch([ids[row] for row in rows])
            states = request.infer([batch.embeddings, batch.mask])[0]
            for row, state in zip(rows, states, strict=True):
                store.array[offsets[row] : offsets[row + 1]] = state[: len(ids[row])]
        store.mark(last)
        progress(job.name, last, len(ids))
    return States(store.array, offsets, store.done)


def digest_of_weights(tower: TextTower) -> str:
    """Digest the layers that states are computed with."""
    state = hashlib.sha256()
    for parameter in tower.layers.parameters():
        state.update(parameter.detach().numpy().tobytes())
    return state.hexdigest()[:12]


def _windows(count: int, done: int, size: int = 8_192) -> Iterator[tuple[int, int]]:
    for first in range(done, count, size):
        yield first, min(first + size, count)


def batches_by_length(ids: Sequence[Sequence[int]], first: int, last: int) -> Iterator[list[int]]:
    """Cut the texts `first` up to, not including, `last` into batches of similar length and bounded size."""
    batch: list[int] = []
    for row in sorted(range(first, last), key=lambda row: len(ids[row])):
        if batch and len(ids[row]) * (len(batch) + 1) > TOKENS_PER_BATCH:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch
