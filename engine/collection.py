"""Collection: documents and index kept in step. A folder with a name, made by one encoder.

    collection.json     format, encoder, fingerprint, created (`engine.folder`)
    documents.sqlite    the truth (`engine.documents`)
    segments/ CURRENT   derived from it (`engine.index`)

Writes go to the documents; every read first follows the change log, so what this or another process has committed is found by
the next search. Encoding, fusing and answering queries do not belong here.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from engine.config import Settings
from engine.datatypes import MAX_K, Document, Embedding, EncodedDocument, Vector, Vectors
from engine.documents import DocumentStore
from engine.errors import InvalidInput, InvalidQuery
from engine.folder import DATABASE, make_folder, read_about, remove_folder
from engine.index.ann import require_faiss
from engine.index.changes import keys_since
from engine.index.gather import gather
from engine.index.live import LiveIndex
from engine.index.planner import Candidate, find
from engine.index.snapshot import Snapshot
from engine.index.tuning import Tuning

__all__ = ["Candidate", "Collection"]


class Collection:
    """A searchable set of documents. Thread-safe; readers never wait for writers. Whoever opens it closes it.

    `identity` differs from that of any other collection, one of the same name made after this was dropped included.
    Reads and writes may raise `StorageError` (disk), `CollectionBusy` (another writer) and `CollectionCorrupt`.
    """

    def __init__(self, path: Path, *, settings: Settings, admit: Callable[[], None] = lambda: None) -> None:
        about = read_about(path)
        require_faiss()
        self.path, self.name = path, path.name
        self.fingerprint, self.encoder, self.identity = (str(about[name]) for name in ("fingerprint", "encoder", "identity"))
        self._store = DocumentStore(path / DATABASE, busy_timeout_ms=settings.busy_timeout_ms, admit=admit)
        try:
            self._store.version()  # a damaged file is found now
            kind = None if settings.index_kind == "auto" else settings.index_kind
            self._index = LiveIndex(path, self._store, threads=settings.threads or os.cpu_count() or 1, kind=kind)
        except BaseException:
            self._store.close()
            raise

    @classmethod
    def create(cls, path: Path, *, fingerprint: str, encoder: str, settings: Settings) -> "Collection":
        """Make an empty collection; raises `CollectionExists`, or `StorageError` when the folder holds something else."""
        make_folder(path, fingerprint=fingerprint, encoder=encoder, busy_timeout_ms=settings.busy_timeout_ms)
        return cls(path, settings=settings)

    @classmethod
    def open(cls, path: Path, *, settings: Settings, admit: Callable[[], None] = lambda: None) -> "Collection":
        """Open a collection; raises `CollectionNotFound`, or `CollectionCorrupt` for an unknown format or a damaged file.

        A damaged index is no error: it is rebuilt from the documents, with a line in the log. `admit` is asked inside of every
        write and raises to refuse it.
        """
        return cls(path, settings=settings, admit=admit)

    @classmethod
    def destroy(cls, path: Path) -> None:
        """Remove a collection with everything in its folder; raises `CollectionNotFound`."""
        remove_folder(path)

    def close(self) -> None:
        """Let a compaction under way finish, then close the files."""
        self._index.close()
        self._store.close()

    # Documents

    @property
    def version(self) -> int:
        """The position of the change log, commits of other processes included."""
        return self._store.version()

    @property
    def dropped(self) -> bool:
        """Whether the folder was removed, or replaced by a new collection, since this one was opened."""
        return self._store.database.gone

    def __len__(self) -> int:
        return self._store.count()

    def upsert(self, documents: Sequence[EncodedDocument], *, compact: bool = True) -> None:
        """Store documents in one transaction, whose commit is the acknowledgement; of two with one id the last wins.

        With `compact`, what has gathered is made into a segment in the background when that pays. Who loads millions turns that
        off and calls the method `compact` after each million: every document is then written into a segment once.

        Raises `KeyCollision`, `InvalidDocument` for a vector that is none, and `InvalidInput` when an embedding leaves out a
        vector that is not stored.
        """
        self._store.upsert(documents)
        if compact:
            self._index.compact_if_due()

    def replace(self, encoded: EncodedDocument, *, expected: Document) -> bool:
        """Store a document if the stored one is still `expected`, in one transaction; says whether it was. Raises as `upsert`."""
        replaced = self._store.replace(encoded, expected=expected)
        self._index.compact_if_due()
        return replaced

    def update(self, document: Document) -> None:
        """Replace a document's row and keep its vectors; raises `DocumentNotFound`."""
        self._store.update(document)
        self._index.compact_if_due()

    def delete(self, ids: Sequence[str]) -> int:
        """Delete documents in one transaction; returns how many there were."""
        deleted = self._store.delete(ids)
        self._index.compact_if_due()
        return deleted

    def delete_where(self, where: str) -> int:
        """Delete the documents a filter admits, in one transaction; returns how many there were. Raises `InvalidFilter`."""
        self.count(where)  # the log is followed, and a bad filter refused, before other writers have to wait
        deleted = self._store.delete_chosen(lambda: self._index.current().keys(where).tolist())
        self._index.compact_if_due()
        return deleted

    def get(self, ids: Sequence[str]) -> list[Document | None]:
        """Read documents by id, in input order, None where there is none."""
        return self._store.get(ids)

    def hydrate(self, keys: Sequence[int]) -> list[Document | None]:
        """Read documents by key, in input order, None for one that was deleted since its key was found."""
        return self._store.by_keys(keys)

    def ids(self) -> Iterator[str]:
        """Read every id, ascending."""
        return self._store.ids()

    def digests(self, ids: Sequence[str]) -> dict[str, bytes]:
        """Read the stored digest of each id that exists; empty bytes after an `update`."""
        return self._store.digests(ids)

    def vectors_of(self, contents: Sequence[bytes]) -> dict[bytes, Vector]:
        """Read the stored vector of each content that has one, as float32."""
        return self._store.vectors_of(contents)

    def embeddings_of(self, id: str) -> tuple[Embedding, ...]:
        """Read a document's embeddings with their vectors, pictures in order; raises `DocumentNotFound`."""
        return self._store.embeddings_of(id)

    def copy_documents(self, target: Path, *, told: Callable[[int, int], None] = lambda done, total: None) -> None:
        """Copy the database, as it is at one moment, to a new file, telling bytes done and of how many; raises `StorageError`."""
        self._store.database.copy_to(target, told=told)

    def changed_keys(self, position: int) -> Sequence[int] | None:
        """List the keys of the documents changed after `position`, deleted ones included; None when the log no longer holds it."""
        with self._store.database.reading() as connection:
            found = keys_since(connection, position)
        return None if found is None else found.tolist()

    def delete_keys(self, keys: Sequence[int]) -> int:
        """Delete documents by key in one transaction; returns how many there were."""
        return self._store.delete_chosen(lambda: keys)

    @contextmanager
    def unwritten(self) -> Iterator[None]:
        """Keep every writer waiting; raises `CollectionBusy` when one does not finish."""
        with self._store.database.writing():
            yield

    # Search

    def snapshot(self) -> Snapshot:
        """Give the state as it is now, commits of other processes included; it does not change any more."""
        return self._index.current()

    def count(self, where: str | None) -> int:
        """Count the documents a filter admits, exactly; raises `InvalidFilter`."""
        return self._index.current().count(where)

    def search(
        self, vectors: Vectors, k: int, *, weights: Float32[np.ndarray, "q 2"], where: str | None = None
    ) -> list[list[Candidate]]:
        """Find the `k` best documents per query, best first, ties by ascending key.

        `weights` are the shares of (image, title) per query; a document shown by several pictures counts by the best.
        Raises `InvalidFilter` and `InvalidQuery`.
        """
        if not 1 <= k <= 2 * MAX_K:
            raise InvalidQuery(f"k is {k}: ask for 1 to {2 * MAX_K} candidates")
        if weights.shape != (len(vectors), 2) or not (weights >= 0).all():
            raise InvalidQuery(f"weights have shape {weights.shape}: give two shares >= 0 for each of {len(vectors)} queries")
        return find(self._index.current(), np.asarray(vectors, np.float32), np.asarray(weights, np.float32), k, where)

    def vectors_at(self, keys: Sequence[int], query: Vector, weights: Float32[np.ndarray, "2"]) -> Float32[np.ndarray, "n 256"]:
        """Read one vector a document, its views weighed, whose product with `query` is its score; zeros for unknown keys."""
        return gather(self._index.current(), keys, query, weights)

    def compact(self) -> None:
        """Publish a new segment from the documents and search it from now on; raises `StorageError`."""
        self._index.compact()

    def tune(self, recall: float) -> Tuning:
        """Measure kinds of index on the collection's own titles, choose the fastest that finds `recall` of the ten best, record it.

        Raises `InvalidInput` for a recall that is no share, and `StorageError`.
        """
        if not 0 < recall <= 1:
            raise InvalidInput(f"a recall of {recall} cannot be: give a share above 0, at most 1, such as 0.99")
        return self._index.tune(recall)
