"""One row is loaded: its pictures read and decoded, or the reason found why it cannot go in.

A row whose only picture is bad is refused, so that its earlier version stays; of several pictures the good ones go in, with a
remark for each bad one. Runs in many threads at once. Encoding and committing belong to `indexer.pipeline`.
"""

import logging
import sqlite3
from dataclasses import dataclass, replace

from engine.collection import Collection
from engine.config import Settings
from engine.encoders.images import decode
from engine.errors import FetchError, InvalidDocument, InvalidImage, StorageError
from engine.ingest import LoadedDocument, load_document
from indexer.fetch import Fetcher
from indexer.shard import CatalogueRow, RowError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LoadedRow:
    """A row ready to be encoded; `item` is None when the collection has it as it is."""

    row: int
    id: str
    item: LoadedDocument | None
    remarks: tuple[RowError, ...]


class RowLoader:
    """Loads rows for one collection; thread-safe."""

    def __init__(self, collection: Collection, settings: Settings, size: int, fetcher: Fetcher) -> None:
        self._collection = collection
        self._settings = settings
        self._size = size
        self._fetcher = fetcher

    def load(self, row: CatalogueRow) -> LoadedRow | RowError:
        """Load one row. Only trouble with the disk or the database is raised."""
        try:
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
                return _refused(row, error)
        faults = {location: self._fault(location) for location in document.images}
        errors = {location: fault for location, fault in faults.items() if fault is not None}
        good = tuple(location for location in document.images if location not in errors)
        if not good:
            return _refused(row, next(iter(errors.values())))
        remarks = tuple(_remark(row, fault) for fault in errors.values())
        reduced = replace(row, document=replace(document, images=good))
        return LoadedRow(row.row, document.id, self._load(reduced), (*row.remarks, *remarks))

    def _load(self, row: CatalogueRow) -> LoadedDocument | None:
        return load_document(row.document, self._collection, self._settings, self._size, self._fetcher.read)

    def _fault(self, location: str) -> InvalidImage | FetchError | None:
        """Say what is wrong with one picture, None when it is good."""
        try:
            decode(self._fetcher.read(location)[0], size=self._size, max_pixels=self._settings.max_pixels)
        except (InvalidImage, FetchError) as error:
            return error
        return None


def _code(error: Exception) -> str:
    if isinstance(error, InvalidImage):
        return f"image_{error.reason}"
    return "fetch" if isinstance(error, FetchError) else "invalid"


def _refused(row: CatalogueRow, error: Exception) -> RowError:
    return RowError(row.row, row.document.id, str(error), _code(error))


def _remark(row: CatalogueRow, error: Exception) -> RowError:
    reason = f"the product went in without this picture: {error}"
    return RowError(row.row, row.document.id, reason, "picture_left_out")
