"""Writing the attribute columns of a segment in bounded memory: blocks of documents are packed, laid aside and merged at the end.

What a column is, and how it is read, stands in `engine.index.attributes`.
"""

import heapq
import itertools
import shutil
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from engine.datatypes import Attributes
from engine.index.attributes import KINDS, Columns, ColumnsBuilder, Kind, Place, Postings, Texts, write_array, write_places

TEXTS_AT_ONCE = 256
BLOCK_VALUES = 150_000  # noted before a block is packed: about 60 MB of Python objects


@dataclass(frozen=True, slots=True)
class Share:
    """What one block has of a column; its documents are numbered from `first`."""

    first: int
    postings: Postings


class ColumnsWriter:
    """Takes documents one by one, in the order of their numbers, and writes their columns into `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._builder, self._total = folder, ColumnsBuilder(), 0
        self._blocks: list[tuple[int, Columns]] = []

    def add(self, id: str, title: str, attributes: Attributes) -> None:
        """Note the next document."""
        self._builder.add(id, title, attributes)
        if self._builder.noted >= BLOCK_VALUES:
            self._lay_aside()

    def finish(self) -> None:
        """Write everything and remove the blocks."""
        if not self._blocks:
            self._builder.build().save(self._folder)
            return
        self._lay_aside()
        names = dict.fromkeys(name for _, columns in self._blocks for name in columns.names())
        with (self._folder / "attributes.bin").open("wb", buffering=2**20) as file:
            places = {name: self._merged(file, name) for name in names}
        write_places(self._folder, self._total, places)
        self._blocks.clear()  # unmaps them
        for block in self._folder.glob("attributes.block*"):
            shutil.rmtree(block)

    def _lay_aside(self) -> None:
        block = self._folder / f"attributes.block{len(self._blocks)}"
        block.mkdir()
        self._builder.build().save(block)
        self._blocks.append((self._total, Columns.open(block)))
        self._total += len(self._builder)
        self._builder = ColumnsBuilder()

    def _merged(self, file: BinaryIO, name: str) -> dict[str, list[Place]]:
        merged: dict[str, list[Place]] = {}
        for kind in KINDS:
            shares = [Share(first, column[kind]) for first, columns in self._blocks if kind in (column := columns.get(name))]
            if shares:
                merged[kind] = _merge(file, kind, shares)
        return merged


def _merge(file: BinaryIO, kind: Kind, shares: Sequence[Share]) -> list[Place]:
    if kind in {"text", "item"}:
        owners, fresh, values = _merge_texts(file, shares)
    else:
        owners, fresh, values = _merge_numbers(file, shares)
    offsets, documents = _gathered(shares, owners, fresh)
    return [write_array(file, offsets), write_array(file, documents), *values]


def _merge_numbers(file: BinaryIO, shares: Sequence[Share]) -> tuple[np.ndarray, np.ndarray, list[Place]]:
    values = np.concatenate([share.postings.values for share in shares])
    order = np.argsort(values, kind="stable")
    owners = np.repeat(np.arange(len(shares)), [len(share.postings.values) for share in shares])[order]
    values = values[order]
    fresh = np.concatenate([[True], values[1:] != values[:-1]])
    return owners, fresh, [write_array(file, values[fresh])]


def _merge_texts(file: BinaryIO, shares: Sequence[Share]) -> tuple[np.ndarray, np.ndarray, list[Place]]:
    """Write the distinct texts; UTF-8 sorts by bytes as Python sorts texts."""
    file.write(bytes(-file.tell() % 8))
    begin = file.tell()
    owners, fresh, starts, last = array("i"), array("b"), array("q", [0]), b""
    for text, owner in heapq.merge(*(_texts(share, number) for number, share in enumerate(shares))):
        owners.append(owner)
        fresh.append(text != last)  # every text ends in NUL, so none is empty
        if text != last:
            file.write(text)
            starts.append(starts[-1] + len(text))
            last = text
    places: list[Place] = [(begin, starts[-1], "|u1"), write_array(file, np.frombuffer(starts, np.int64))]
    return np.frombuffer(owners, np.int32), np.frombuffer(fresh, np.int8).astype(bool), places


def _texts(share: Share, owner: int) -> Iterator[tuple[bytes, int]]:
    values = share.postings.values
    assert isinstance(values, Texts)  # noqa: S101  the kind says so
    for first in range(0, len(values), TEXTS_AT_ONCE):
        starts = values.starts[first : first + TEXTS_AT_ONCE + 1]
        data, ends = values.data[starts[0] : starts[-1]].tobytes(), (starts - starts[0]).tolist()
        for begin, end in itertools.pairwise(ends):
            yield data[begin:end], owner


def _gathered(shares: Sequence[Share], owners: np.ndarray, fresh: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Put the documents of every entry (the next value of its owner) in their places; entries that are not `fresh` go on."""
    sizes = np.empty(len(owners), np.int64)
    for number, share in enumerate(shares):
        sizes[owners == number] = np.diff(share.postings.offsets)
    ends = np.cumsum(sizes)
    documents = np.empty(int(ends[-1]), np.uint32)
    for number, share in enumerate(shares):
        own, offsets = owners == number, share.postings.offsets
        places = np.repeat((ends - sizes)[own] - offsets[:-1], np.diff(offsets)) + np.arange(len(share.postings.documents))
        documents[places] = share.postings.documents + np.uint32(share.first)
    last = np.append(np.flatnonzero(fresh)[1:] - 1, len(owners) - 1)
    return np.concatenate([[0], ends[last]]).astype(np.int64), documents
