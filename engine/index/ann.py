"""FAISS, and nothing else: build, open and search the approximate index of one view. Rows in, rows out.

Keys, documents, filters and exact scores are the business of `engine.index.rows` and above. FAISS is called with a stated number
of threads, options travel in per-call parameters, and shapes are checked before: FAISS answers a wrong dimension with an empty
AssertionError.
"""

import math
import mmap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, TypeAlias

import numpy as np
from jaxtyping import Float32, Int64

from engine.datatypes import DIMENSIONS, Vectors
from engine.errors import InvalidQuery, MissingExtra
from engine.index.gpu import OnGpu, copied
from engine.index.lists import Lists

Kind: TypeAlias = Literal["flat", "ivf-sq8", "ivf-pq"]
KINDS: tuple[Kind, ...] = ("flat", "ivf-sq8", "ivf-pq")
FLAT_ROWS = 50_000  # a flat scan of so many rows takes 2 ms and is exact; above, IVF answers in a tenth of that
BLOCK = 16_384  # rows widened at once, 16 MB: four times as many took 43 MB more for 256,500 rows and saved no time
TRAINING_ROWS_PER_LIST = 32
TRAINING_ROWS_OF_CODES = 65_536
CODE_PARTS = 128  # of 4 bits: 64 bytes a vector
CODED_FETCH = 4  # product codes order candidates so roughly that four times as many are scored exactly
PROBES = 32
NEARLY_ALL = 0.9  # of the rows: what only a few deletions restrict is searched as if nothing did


def require_faiss() -> ModuleType:
    """Import FAISS, or raise `MissingExtra` with the install line."""
    try:
        import faiss  # noqa: PLC0415  an optional package, needed only here
    except ImportError:
        raise MissingExtra("the index", "cpu") from None
    module: ModuleType = faiss
    return module


def to_float32(vectors: np.ndarray) -> np.ndarray:
    """Widen fp16 rows; FAISS decodes them five times faster than NumPy on processors with F16C."""
    if vectors.dtype == np.float32 or not len(vectors):
        return vectors.astype(np.float32, copy=False)
    if len(vectors) < 32:
        return vectors.astype(np.float32)
    require_faiss().omp_set_num_threads(1)  # a few milliseconds: more threads would wait on one another on a busy processor
    decoded: np.ndarray = _half_codec().sa_decode(np.ascontiguousarray(vectors).view(np.uint8))
    return decoded


class AnnIndex:
    """An immutable FAISS index over rows 0..n-1, searched by inner product. Safe to search from several threads.

    Codes find the candidates; the fp16 rows they stand for order them, inside FAISS, without being copied.
    """

    def __init__(self, index: Any, vectors: np.ndarray, *, threads: int) -> None:  # noqa: ANN401  FAISS has no type hints
        self._faiss, self._index, self._threads = require_faiss(), index, threads
        self._lists = Lists(self._faiss, index) if hasattr(index, "nlist") else None
        self._shared: dict[int, Any] = {}
        self._vectors = vectors  # FAISS points into them
        self._stored = _viewed(self._faiss, vectors) if self._lists else None
        self._refined = self._faiss.IndexRefine(index, self._stored) if self._lists else index
        self._gpu: OnGpu | None = None

    @classmethod
    def build(cls, vectors: np.ndarray, *, kind: Kind = "ivf-sq8", threads: int) -> "AnnIndex":
        """Index fp16 rows; few rows are always scanned flat, exactly, whatever `kind` says of many.

        `flat` keeps fp16 codes, `ivf-sq8` inverted lists of 8-bit codes, `ivf-pq` inverted lists of 4-bit product codes that are
        scanned in registers. Mapped rows are read a block at a time and not kept.
        """
        faiss = require_faiss()
        index = _empty_flat(faiss) if kind == "flat" or len(vectors) <= FLAT_ROWS else _trained_lists(faiss, vectors, kind, threads)
        for block in _blocks(vectors):
            faiss.omp_set_num_threads(threads)
            index.add(block)
        return cls(index, vectors, threads=threads)

    @classmethod
    def open(cls, path: Path, vectors: np.ndarray, *, threads: int) -> "AnnIndex":
        """Map an index file over mapped fp16 rows; pages are read as searches touch them."""
        faiss = require_faiss()
        index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
        if index.ntotal != len(vectors):
            raise ValueError(f"{path} indexes {index.ntotal} rows, there are {len(vectors)}")
        opened = cls(index, vectors, threads=threads)
        opened._gpu = copied(faiss, index)
        return opened

    @classmethod
    def over(cls, vectors: np.ndarray, *, threads: int = 1) -> "AnnIndex":
        """Scan contiguous fp16 rows where they are: exact, and ten times faster than widening them first."""
        return cls(_viewed(require_faiss(), vectors), vectors, threads=threads)

    def save(self, path: Path) -> None:
        """Write the index to one file."""
        self._faiss.write_index(self._index, str(path))

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @property
    def kind(self) -> Kind:
        """What it is made of."""
        if not self._lists:
            return "flat"
        return "ivf-pq" if isinstance(self._index, self._faiss.IndexIVFPQFastScan) else "ivf-sq8"

    @property
    def exact(self) -> bool:
        """Whether it looks at every row, so that it misses nothing."""
        return self._lists is None

    def search(
        self, vectors: Vectors, k: int, allowed: "RowSet | None", *, probes: int | None = None
    ) -> tuple[Float32[np.ndarray, "q k"], Int64[np.ndarray, "q k"]]:
        """Find `k` rows per query among `allowed`, best first by their fp16 vectors; -1 stands where nothing was found.

        `probes` inverted lists (`PROBES` by default) are visited when every row is allowed, others or more of them the fewer are.
        """
        if vectors.ndim != 2 or vectors.shape[1] != DIMENSIONS:
            raise InvalidQuery(f"query vectors have shape {vectors.shape}: they must be [q, {DIMENSIONS}]")
        self._faiss.omp_set_num_threads(self._threads if len(vectors) > 1 else 1)  # holds for the calling thread
        asked = np.ascontiguousarray(vectors, np.float32)
        if self._lists is None:
            parameters = None if allowed is None else self._faiss.SearchParameters(sel=allowed.selector)
            scores, rows = self._index.search(asked, k, params=parameters)
            return scores, rows
        if allowed is not None and len(allowed) < NEARLY_ALL * len(self):
            return self._searched_within(self._lists, asked, k, allowed, probes or PROBES)
        visited = self._visited(self._lists, probes or PROBES, k)
        parameters = self._open_parameters(visited) if allowed is None else self._parameters(visited, allowed.selector)
        if self._gpu is not None and allowed is None:
            return self._gpu.search(asked, k, self._stored, parameters)
        scores, rows = self._refined.search(asked, k, params=parameters)
        return scores, rows

    def _searched_within(
        self, lists: Lists, asked: Vectors, k: int, allowed: "RowSet", probes: int
    ) -> tuple[Float32[np.ndarray, "q k"], Int64[np.ndarray, "q k"]]:
        """Search the lists where allowed rows are, and order what is found by the fp16 rows."""
        chosen, nearness = lists.nearest(asked, allowed.by_list(lists), probes, 4 * k)
        shape = len(asked), self._factor * k
        codes, rows = np.empty(shape, np.float32), np.empty(shape, np.int64)
        parameters = self._faiss.SearchParametersIVF(sel=allowed.selector, nprobe=chosen.shape[1])
        pointers = map(self._faiss.swig_ptr, (chosen, nearness, codes, rows))
        self._index.search_preassigned_c(len(asked), self._faiss.swig_ptr(asked), rows.shape[1], *pointers, False, parameters)
        scores = np.full(rows.shape, -np.inf, np.float32)
        for query, found, own in zip(asked, rows, scores, strict=True):
            there = found >= 0
            own[there] = np.einsum("nd,d->n", to_float32(np.take(self._vectors, found[there], axis=0)), query)
        order = np.argsort(-scores, axis=1)[:, :k]
        return np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1)

    @property
    def _factor(self) -> int:
        return CODED_FETCH if self.kind == "ivf-pq" else 1

    def _parameters(self, visited: int, selector: Any) -> Any:  # noqa: ANN401
        inside = self._faiss.SearchParametersIVF(sel=selector, nprobe=visited)
        return self._faiss.IndexRefineSearchParameters(k_factor=self._factor, base_index_params=inside)

    def _open_parameters(self, visited: int) -> Any:  # noqa: ANN401
        # Making them takes 30 us of a search of 300; nothing changes them, so searches share them.
        found = self._shared.get(visited)
        if found is None:
            found = self._shared[visited] = self._parameters(visited, None)
        return found

    def _visited(self, lists: Lists, probes: int, k: int) -> int:
        return min(len(lists), math.ceil(max(probes, 4 * k * len(lists) / len(self))))  # never fewer rows than four times k


class RowSet:
    """The rows of a view that may be answered, in the form FAISS takes. Immutable."""

    def __init__(self, mask: np.ndarray) -> None:
        self._count, self._total = int(np.count_nonzero(mask)), len(mask)
        self._by_list: np.ndarray | None = None
        self._bits = np.packbits(mask, bitorder="little")  # the selector points into it
        self.selector = require_faiss().IDSelectorBitmap(self._bits)

    def __len__(self) -> int:
        return self._count

    def by_list(self, lists: Lists) -> Int64[np.ndarray, " l"]:
        """Count how many of them are in each list of the index over these rows."""
        if self._by_list is None:
            mask = np.unpackbits(self._bits, count=self._total, bitorder="little").view(bool)
            self._by_list = np.bincount(lists.homes[mask], minlength=len(lists))
        return self._by_list


def _empty_flat(faiss: ModuleType) -> Any:  # noqa: ANN401
    index = faiss.IndexScalarQuantizer(DIMENSIONS, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    index.is_trained = True  # fp16 codes have nothing to learn
    return index


def _viewed(faiss: ModuleType, vectors: np.ndarray) -> Any:  # noqa: ANN401
    """Make a flat index of fp16 rows that stay where they are."""
    index = _empty_flat(faiss)
    data = vectors.reshape(-1).view(np.uint8)
    index.codes = faiss.MaybeOwnedVectorUInt8.create_view(faiss.swig_ptr(data), data.nbytes, index.codes.owner)
    index.ntotal = len(vectors)
    return index


def _trained_lists(faiss: ModuleType, vectors: np.ndarray, kind: Kind, threads: int) -> Any:  # noqa: ANN401
    lists = min(2 ** round(math.log2(4 * math.sqrt(len(vectors)))), len(vectors))
    coarse = faiss.IndexFlatIP(DIMENSIONS)
    sample = _sample(vectors, min(len(vectors), TRAINING_ROWS_PER_LIST * lists))
    faiss.omp_set_num_threads(threads)
    index = _empty_codes(faiss, coarse, lists) if kind == "ivf-pq" else _empty_bytes(faiss, coarse, lists)
    index.own_fields = True
    coarse.this.disown()
    index.cp.niter, index.cp.min_points_per_centroid = 10, 8  # FAISS warns below 39; recall is the same with 32
    index.cp.spherical = True
    index.cp.seed = 1234
    index.train_q1(len(sample), faiss.swig_ptr(sample), False, faiss.METRIC_INNER_PRODUCT)
    index.train(sample[:: max(1, len(sample) // TRAINING_ROWS_OF_CODES)])  # the lists are trained, so only the codes learn
    return index


def _empty_bytes(faiss: ModuleType, coarse: Any, lists: int) -> Any:  # noqa: ANN401
    # One range for all dimensions: a row is scanned in 15 ns, with one range each in 26; the exact order comes from fp16 anyway.
    metric, eight_bits = faiss.METRIC_INNER_PRODUCT, faiss.ScalarQuantizer.QT_8bit_uniform
    return faiss.IndexIVFScalarQuantizer(coarse, DIMENSIONS, lists, eight_bits, metric)


def _empty_codes(faiss: ModuleType, coarse: Any, lists: int) -> Any:  # noqa: ANN401
    index = faiss.IndexIVFPQFastScan(coarse, DIMENSIONS, lists, CODE_PARTS, 4, faiss.METRIC_INNER_PRODUCT)
    index.by_residual = False  # one table a query instead of one a list
    index.pq.cp.niter = 8
    return index


def _blocks(vectors: np.ndarray) -> Iterator[np.ndarray]:
    """Widen rows block by block, and let go of the pages of a mapped file that were read."""
    for start in range(0, len(vectors), BLOCK):
        yield to_float32(vectors[start : start + BLOCK])
        if isinstance(vectors.base, mmap.mmap):
            vectors.base.madvise(mmap.MADV_DONTNEED)


def _sample(vectors: np.ndarray, count: int) -> np.ndarray:
    # Keys are hashes, so even steps are a random sample.
    wanted = np.linspace(0, len(vectors) - 1, count).astype(np.int64)
    sample, place = np.empty((count, DIMENSIONS), np.float32), 0
    for number, block in enumerate(_blocks(vectors)):
        rows = wanted[(wanted >= number * BLOCK) & (wanted < number * BLOCK + len(block))] - number * BLOCK
        sample[place : place + len(rows)] = block[rows]
        place += len(rows)
    return sample


_codec: Any = None


def _half_codec() -> Any:  # noqa: ANN401
    global _codec  # noqa: PLW0603  stateless, and costly enough to make once
    if _codec is None:
        _codec = _empty_flat(require_faiss())
    return _codec
