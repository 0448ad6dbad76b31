"""An immutable, memory-mapped part of the index on disk: written once, verified, never changed.

    segments/<n>/manifest.json       sizes and SHA-256 digests of the other files, older segments in force; written last
                 dead.bin            what has died in these older segments, one roaring bitmap after another
                 keys.npy            int64, ascending: document number -> key
                 attributes.json/bin inverted lists of attribute values
                 lexical.*.npy       inverted lists of words (`engine.index.lexical`)
                 <view>.documents.npy  uint32: row -> document number, ascending
                 <view>.vectors.npy    fp16 rows, for exact scores
                 <view>.faiss          approximate index over the same rows

Which segment is in force, and when a new one is made, stands in `engine.index.compaction`.
"""

import hashlib
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from pyroaring import BitMap, BitMap64

from engine.datatypes import VIEWS, Matches, Vectors, View
from engine.errors import CollectionCorrupt
from engine.index.ann import AnnIndex, RowSet
from engine.index.attributes import Columns
from engine.index.lexical import Lexical
from engine.index.matches import admitted_by, best_matches, check_vectors, contenders, ranked
from engine.index.nearest import Wanted, nearest_documents
from engine.index.rows import Rows

logger = logging.getLogger(__name__)
FORMAT = 3
EAGER_BYTES = 64 * 2**20  # files up to this size are digested before they are used, larger ones soon after (`verify`)


class SegmentDamaged(CollectionCorrupt):
    """A file of a segment is missing, truncated or altered; the segment is rebuilt from the documents."""


@dataclass(frozen=True, slots=True)
class Older:
    """A segment that stays in force beside a newer one, with its documents that no longer live there."""

    number: int
    digest: str
    dead: BitMap


class Segment:
    """Documents numbered in ascending order of key, as they were at change-log position `version`."""

    def __init__(self, folder: Path, digest: str, manifest: Mapping[str, Any], *, threads: int) -> None:
        self.folder, self.digest, self.version = folder, digest, int(manifest["version"])
        self.older = _older(folder, manifest["older"])
        self._large = {name: expected for name, (size, expected) in manifest["files"].items() if size > EAGER_BYTES}
        self.keys = _mapped(folder / "keys.npy")
        self.columns = Columns.open(folder)
        self.lexical = Lexical.open(folder)
        self._views = {view: _mapped_rows(folder, view, len(self.keys)) for view in VIEWS}
        self._indexes = {view: _opened(folder, view, self._views[view], threads) for view in VIEWS if len(self._views[view])}

    @classmethod
    def open(cls, folder: Path, digest: str, *, threads: int) -> "Segment":
        """Map a segment whose manifest has `digest`; raises `SegmentDamaged` naming the file that is not as written."""
        manifest = _read_manifest(folder, digest)
        for name, (size, expected) in manifest["files"].items():
            found = (folder / name).stat().st_size if (folder / name).exists() else -1
            if found != size:
                raise SegmentDamaged(f"{folder / name} has {found} bytes, {size} were written")
            if size <= EAGER_BYTES:
                _check_digest(folder / name, expected)
        try:
            return cls(folder, digest, manifest, threads=threads)
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise SegmentDamaged(f"{folder} cannot be opened: {error}") from error

    @property
    def unverified(self) -> bool:
        """Whether files are left for `verify`."""
        return bool(self._large)

    def verify(self) -> None:
        """Digest the files too large for `open`; raises `SegmentDamaged`, or `FileNotFoundError` when it was superseded."""
        for name, expected in self._large.items():
            _check_digest(self.folder / name, expected)

    @property
    def number(self) -> int:
        """Its folder's name."""
        return int(self.folder.name)

    def __len__(self) -> int:
        return len(self.keys)

    def rows(self, view: View) -> Rows:
        """Give the vectors of a view."""
        return self._views[view]

    @property
    def most_rows(self) -> int:
        """How many rows its largest view has."""
        return max(map(len, self._views.values()))

    def index(self, view: View) -> AnnIndex | None:
        """Give the approximate index of a view; None when no document has the view."""
        return self._indexes.get(view)


class SegmentView:
    """One view of a segment as a `VectorIndex`: approximate candidates, exact scores, complete answers."""

    def __init__(self, segment: Segment, view: View) -> None:
        self._segment, self._view, self._rows = segment, view, segment.rows(view)

    def __len__(self) -> int:
        return len(self._rows)

    def search(self, vectors: Vectors, k: int, allow: BitMap64 | None = None) -> Matches:
        """Find up to `k` documents per query by their best row; ties by ascending key."""
        check_vectors(vectors)
        documents = admitted_by(self._segment.keys, allow)
        allowed = None if documents is None else RowSet(self._rows.mask_of(documents))
        index = self._segment.index(self._view)
        if index is None or (allowed is not None and not len(allowed)):
            return best_matches(self._segment.keys, self._rows, vectors, k, np.zeros(0, np.int64))
        near = nearest_documents(self._rows, index, Wanted(vectors, k), allowed)
        picks = [near.documents[near.owners == number] for number in range(len(vectors))]
        for number in np.flatnonzero(near.undecided):
            picks[number] = self._scanned(vectors[number], k, documents)
        return ranked(self._segment.keys, self._rows, vectors, k, picks)

    def _scanned(self, vector: np.ndarray, k: int, documents: np.ndarray | None) -> np.ndarray:
        picks = contenders(self._rows.scan(vector[None], documents)[0], k)
        return picks if documents is None else documents[picks]


def write_manifest(folder: Path, version: int, older: Sequence[Older] = ()) -> str:
    """Digest every file of a finished segment and write the manifest, last; returns the manifest's own digest."""
    links = []
    if older:
        bitmaps = [link.dead.serialize() for link in older]
        (folder / "dead.bin").write_bytes(b"".join(bitmaps))
        links = [(link.number, link.digest, len(bitmap)) for link, bitmap in zip(older, bitmaps, strict=True)]
    files: dict[str, tuple[int, str]] = {}
    for path in sorted(folder.iterdir()):
        files[path.name] = (path.stat().st_size, digest_of_file(path))
        sync(path)
    manifest = orjson.dumps({"format": FORMAT, "version": version, "older": links, "files": files})
    (folder / "manifest.json").write_bytes(manifest)
    sync(folder / "manifest.json")
    sync(folder)
    return hashlib.sha256(manifest).hexdigest()


def read_links(folder: Path, digest: str) -> tuple[int, tuple[Older, ...]]:
    """Read version and older segments of one whose other files may be lost; raises `SegmentDamaged`."""
    manifest = _read_manifest(folder, digest)
    if manifest["older"]:
        _check_digest(folder / "dead.bin", manifest["files"]["dead.bin"][1])
    return int(manifest["version"]), _older(folder, manifest["older"])


def digest_of_file(path: Path) -> str:
    """Compute the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Ask the disk to keep a file or folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _older(folder: Path, links: Sequence[tuple[int, str, int]]) -> tuple[Older, ...]:
    data = (folder / "dead.bin").read_bytes() if links else b""
    found, place = [], 0
    for number, digest, size in links:
        found.append(Older(number, digest, BitMap.deserialize(data[place : place + size])))
        place += size
    return tuple(found)


def _mapped_rows(folder: Path, view: View, total: int) -> Rows:
    return Rows(_mapped(folder / f"{view}.documents.npy"), _mapped(folder / f"{view}.vectors.npy"), total)


def _opened(folder: Path, view: View, rows: Rows, threads: int) -> AnnIndex:
    return AnnIndex.open(folder / f"{view}.faiss", rows.vectors, threads=threads)


def _mapped(path: Path) -> np.ndarray:
    mapped: np.ndarray = np.load(path, mmap_mode="r").view(np.ndarray)  # `memmap` itself makes every slice slower
    return mapped


def _read_manifest(folder: Path, digest: str) -> Mapping[str, Any]:
    path = folder / "manifest.json"
    if not path.exists():
        raise SegmentDamaged(f"{path} is missing")
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != digest:
        raise SegmentDamaged(f"{path} is not the one that CURRENT names")
    manifest: Mapping[str, Any] = orjson.loads(data)
    if manifest["format"] != FORMAT:
        raise SegmentDamaged(f"{path} has format {manifest['format']}, this version reads {FORMAT}")
    return manifest


def _check_digest(path: Path, expected: str) -> None:
    if digest_of_file(path) != expected:
        raise SegmentDamaged(f"{path} is not as written: its digest differs")
