"""Which documents of one part of the index have which words: inverted lists, scored by BM25.

    lexical.words.npy      uint64, ascending: digests of the words (`engine.index.words`)
    lexical.offsets.npy    the documents of word `i` are `documents[offsets[i]:offsets[i + 1]]`
    lexical.documents.npy  uint32, ascending within a word
    lexical.counts.npy     uint8: how often the word occurs there
    lexical.lengths.npy    uint32: the sum of a document's counts

Derived from the documents like the vectors beside it, so that a word is found as soon, masked as soon and rebuilt as surely as they
are. What is alive, and what a query makes of it, stands in `engine.index.wording`.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64, UInt8, UInt32, UInt64
from numpy.lib.format import open_memmap

from engine.index.words import NAMED, Counted

SATURATION, LENGTH_SHARE = 1.2, 0.5  # k1 and b of BM25; the text of a product varies in length for no reason of relevance
WITHIN = 16  # a list that is longer than so many times what is looked up in it is not laid out for that
BLOCK = 2_000_000  # postings held in memory while a segment is written, 26 MB
_STREAM = np.dtype([("word", "<u8"), ("document", "<u4"), ("count", "u1")])
_NAMES = ("words", "offsets", "documents", "counts", "lengths")


class Lexical:
    """The words of `len(lengths)` documents; immutable."""

    def __init__(
        self, words: UInt64[np.ndarray, " v"], offsets: np.ndarray, documents: np.ndarray, counts: np.ndarray, lengths: np.ndarray
    ) -> None:
        self.words, self.offsets, self.documents, self.counts, self.lengths = words, offsets, documents, counts, lengths

    @classmethod
    def of(cls, counted: Sequence[Counted]) -> "Lexical":
        """Invert what was counted of each document, in the order of their numbers."""
        sizes = [len(words) for words, _ in counted]
        owners = np.repeat(np.arange(len(counted), dtype=np.uint32), sizes)
        words = np.concatenate([np.zeros(0, np.uint64), *(words for words, _ in counted)])
        counts = np.concatenate([np.zeros(0, np.uint8), *(counts for _, counts in counted)])
        order = np.argsort(words, kind="stable")
        distinct, sizes_of = np.unique(words, return_counts=True)
        offsets = np.concatenate([[0], np.cumsum(sizes_of)]).astype(np.int64)
        lengths = np.array([int(counts.sum()) for _, counts in counted], np.uint32)
        return cls(distinct, offsets, owners[order], counts[order], lengths)

    @classmethod
    def open(cls, folder: Path) -> "Lexical":
        """Map what a `LexicalWriter` wrote."""
        return cls(*(np.load(folder / f"lexical.{name}.npy", mmap_mode="r").view(np.ndarray) for name in _NAMES))

    def having(self, word: int) -> tuple[UInt32[np.ndarray, " d"], UInt8[np.ndarray, " d"]]:
        """List the documents that have a word, ascending, and how often each has it."""
        place = int(np.searchsorted(self.words, np.uint64(word)))
        found = place < len(self.words) and int(self.words[place]) == word
        span = slice(int(self.offsets[place]), int(self.offsets[place + 1])) if found else slice(0, 0)
        return self.documents[span], self.counts[span]

    @cached_property
    def shortest(self) -> int:
        """The length of its shortest document."""
        return int(self.lengths.min(initial=np.iinfo(np.uint32).max))

    def counted_in(self, word: int, documents: np.ndarray) -> UInt8[np.ndarray, " d"]:
        """Tell how often each of `documents`, ascending, has a word."""
        having, counts = self.having(word)
        if not len(having):
            return np.zeros(len(documents), np.uint8)
        if WITHIN * len(documents) > len(having):
            spread = np.zeros(len(self.lengths), np.uint8)
            spread[having] = counts
            chosen: UInt8[np.ndarray, " d"] = spread[documents]
            return chosen
        asked = documents.astype(having.dtype)  # else NumPy would widen the whole list
        places = np.minimum(np.searchsorted(having, asked), len(having) - 1)
        found: UInt8[np.ndarray, " d"] = np.where(having[places] == asked, counts[places], np.uint8(0))
        return found

    def gain(
        self, documents: UInt32[np.ndarray, " d"] | Int64[np.ndarray, " d"], counts: UInt8[np.ndarray, " d"], average: float
    ) -> Float32[np.ndarray, " d"]:
        """Compute BM25 without the weight of the word: 1 for one mention in the name of a document of average length."""
        return _gain(counts, self.lengths[documents], average)

    def most(self, word: int, average: float) -> float:
        """Give what no document can gain more than by a word."""
        counts = self.having(word)[1]
        return float(_gain(counts.max(keepdims=True), np.array([self.shortest]), average)[0]) if len(counts) else 0.0


def _gain(counts: UInt8[np.ndarray, " d"], lengths: np.ndarray, average: float) -> Float32[np.ndarray, " d"]:
    mentions = counts.astype(np.float32) / NAMED
    relative = lengths.astype(np.float32) / np.float32(max(average, 1e-9))
    damping = SATURATION * (1 - LENGTH_SHARE + LENGTH_SHARE * relative)
    gains: Float32[np.ndarray, " d"] = mentions * (1 + SATURATION) / (mentions + damping)
    return gains


class LexicalWriter:
    """Writes the inverted lists of a segment, document by document, in bounded memory.

    What is counted goes to a file as it comes, while the vocabulary is gathered; `finish` reads it back and puts every posting in
    its place.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._path = folder, folder / "lexical.stream"
        self._file = self._path.open("wb")
        self._block: list[Counted] = []
        self._held, self._first = 0, 0
        self._words, self._sizes = np.zeros(0, np.uint64), np.zeros(0, np.int64)
        self._lengths: list[np.ndarray] = []

    def add(self, counted: Counted) -> None:
        """Take the words of the next document."""
        self._block.append(counted)
        self._held += len(counted[0])
        if self._held >= BLOCK:
            self._flush()

    def close(self) -> None:
        """Let go of the stream; without `finish` before, nothing whole has been written."""
        self._file.close()
        self._path.unlink(missing_ok=True)

    def finish(self) -> None:
        """Write every file."""
        self._flush()
        self._file.close()
        offsets = np.concatenate([[0], np.cumsum(self._sizes)]).astype(np.int64)
        lengths = np.concatenate([np.zeros(0, np.uint32), *self._lengths])
        for name, values in (("words", self._words), ("offsets", offsets), ("lengths", lengths)):
            np.save(self._folder / f"lexical.{name}.npy", values)
        self._place(offsets)
        self.close()

    def _flush(self) -> None:
        part = Lexical.of(self._block)
        stream = np.empty(len(part.documents), _STREAM)
        stream["word"] = np.repeat(part.words, np.diff(part.offsets))
        stream["document"], stream["count"] = part.documents + self._first, part.counts
        stream.tofile(self._file)
        words, places = np.unique(np.concatenate([self._words, part.words]), return_inverse=True)
        sizes = np.concatenate([self._sizes, np.diff(part.offsets)])
        self._words, self._sizes = words, np.bincount(places, sizes, len(words)).astype(np.int64)
        self._lengths.append(part.lengths)
        self._first += len(self._block)
        self._block, self._held = [], 0

    def _place(self, offsets: np.ndarray) -> None:
        total = int(offsets[-1])
        documents = _array(self._folder / "lexical.documents.npy", np.uint32, total)
        counts = _array(self._folder / "lexical.counts.npy", np.uint8, total)
        following = offsets[:-1].copy()
        with self._path.open("rb") as file:
            while len(block := np.fromfile(file, _STREAM, BLOCK)):
                numbers = np.searchsorted(self._words, block["word"])
                order = np.argsort(numbers, kind="stable")
                numbers, block = numbers[order], block[order]
                distinct, starts, sizes = np.unique(numbers, return_index=True, return_counts=True)
                places = np.arange(len(block)) + np.repeat(following[distinct] - starts, sizes)
                documents[places], counts[places] = block["document"], block["count"]
                following[distinct] += sizes
        for array in (documents, counts):
            if isinstance(array, np.memmap):
                array.flush()


def _array(path: Path, kind: type[np.generic], length: int) -> np.ndarray:
    """Make a file to be filled in; an empty one cannot be mapped."""
    if not length:
        np.save(path, np.zeros(0, kind))
        return np.zeros(0, kind)
    array: np.ndarray = open_memmap(path, "w+", kind, (length,))
    return array
