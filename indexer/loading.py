"""One row is loaded: its pictures read and decoded, or the reason found why it cannot go in.

A row whose only picture is bad is refused, so that its earlier version stays; of several pictures the good ones go in, with a
remark for each bad one. Runs in many threads at once. Encoding and committing belong to `indexer.pipeline`.
"""

import logging
import sqlite3
import threading
from dataclasses import dataclass, replace

from engine.collection import Collection
from engine.config import Settings
from engine.encoders.runtime import cores
from engine.errors import FetchError, InvalidDocument, InvalidImage, StorageError
from engine.ingest import LoadedDocument, load_document
from engine.moderation import product_picture
from indexer.fetch import Fetcher, is_remote
from indexer.shard import CatalogueRow, RowError

logger = logging.getLogger(__name__)

MAX_ROW_BYTES = 32_000_000


@dataclass(frozen=True, slots=True)
class LoadedRow:
    """A row ready to be encoded; `item` is None when the collection has it as it is."""

    row: int
    id: str
    item: LoadedDocument | None
    remarks: tuple[RowError, ...]


class RowLoader:
    """Loads rows for one collection; thread-safe.

    However many threads wait for the network, only as many as the machine has cores, and one, decode at a time: that, and a
    limit on the bytes of one row's pictures, bounds the memory.
    """

    def __init__(self, collection: Collection, settings: Settings, size: int, fetcher: Fetcher) -> None:
        self._collection = collection
        self._settings = settings
        self._size = size
        self._fetcher = fetcher
        self._limit = max(MAX_ROW_BYTES, settings.max_image_bytes)
        self._decoding = threading.Semaphore(cores() + 1)

    def load(self, row: CatalogueRow) -> LoadedRow | RowError:
        """Load one row. Only trouble with the disk or the database is raised."""
        try:
            with self._decoding:
                return self._loaded(row)
        except (InvalidImage, FetchError, InvalidDocument) as error:
            return _refused(row, error)
        except (StorageError, sqlite3.Error, MemoryError):
            raise
        except Exception as error:  # one row must not stop a job, whatever a parser stumbles over
            logger.exception("row %d (id %r) could not be loaded", row.row, row.document.id)
            return RowError(row.row, row.document.id, f"it could not be read ({type(error).__name__}): see the log", "unexpected")

    def _loaded(self, row: CatalogueRow) -> LoadedRow | RowError:
        document = row.document
        try:
            return LoadedRow(row.row, document.id, self._load(row), row.remarks)
        except (InvalidImage, FetchError) as error:
            if len(document.images) == 1:
                return _refused(row, error, document.images[0])
        faults = {location: self._fault(location) for location in document.images}
        errors = {location: fault for location, fault in faults.items() if fault is not None}
        good = tuple(location for location in document.images if location not in errors)
        if not good:
            location, fault = next(iter(errors.items()))
            return _refused(row, fault, location)
        remarks = tuple(_remark(row, fault, location) for location, fault in errors.items())
        reduced = replace(row, document=replace(document, images=good))
        return LoadedRow(row.row, document.id, self._load(reduced), (*row.remarks, *remarks))

    def _load(self, row: CatalogueRow) -> LoadedDocument | None:
        size = 0

        def read(location: str) -> tuple[bytes, str]:
            nonlocal size
            data, kept = self._read(location)
            size += len(data)
            if size > self._limit:
                message = f"the row's pictures together are larger than {self._limit / 1e6:g} MB: save them smaller"
                raise InvalidImage(message, reason="too_large")
            return data, kept

        return load_document(row.document, self._collection, self._settings, self._size, read)

    def _read(self, location: str) -> tuple[bytes, str]:
        if not is_remote(location):
            return self._fetcher.read(location)
        self._decoding.release()
        try:
            return self._fetcher.read(location)
        finally:
            self._decoding.acquire()

    def _fault(self, location: str) -> InvalidImage | FetchError | None:
        """Say what is wrong with one picture, None when it is good."""
        try:
            product_picture(self._read(location)[0], size=self._size, settings=self._settings)
        except (InvalidImage, FetchError) as error:
            return error
        return None


def _code(error: Exception) -> str:
    if isinstance(error, InvalidImage):
        return f"image_{error.reason}"
    return "fetch" if isinstance(error, FetchError) else "invalid"


def _refused(row: CatalogueRow, error: Exception, location: str = "") -> RowError:
    return RowError(row.row, row.document.id, _naming(location, error), _code(error))


def _remark(row: CatalogueRow, error: Exception, location: str) -> RowError:
    reason = f"the product went in without this picture: {_naming(location, error)}"
    return RowError(row.row, row.document.id, reason, "picture_left_out")


def _naming(location: str, error: Exception) -> str:
    """Say what is wrong, with the name of the picture's file where it is not said already."""
    name = location.rpartition("/")[2]
    return str(error) if not name or name in str(error) else f"{name}: {error}"
