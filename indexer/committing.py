"""Loaded rows are encoded and committed, a batch at a time, and a batch that fails is taken apart until the bad row is alone.

Encoding runs in the caller's thread, committing in one other, in order: a batch may refer to vectors of the batch before. Loading
rows belongs to `indexer.loading`, gathering them into batches to `indexer.pipeline`.
"""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from engine.collection import Collection
from engine.datatypes import EncodedDocument
from engine.errors import CollectionBusy, InvalidInput, KeyCollision, StorageError
from engine.ingest import LoadedDocument, encode_documents
from engine.protocols import Encoder
from indexer.loading import LoadedRow
from indexer.shard import RowError

logger = logging.getLogger(__name__)

REMEMBERED = 50_000
HOPELESS = 8
"""When so many rows of one batch fail, and none goes, it is the model's fault and not theirs."""
BUSY_PAUSES_S = (0.5, 2.0, 8.0)


@dataclass(frozen=True, slots=True)
class Committed:
    """What became of a batch."""

    created: int
    updated: int
    refused: tuple[RowError, ...]


class BatchEncoder:
    """Encodes batches; a picture met again before its vector is committed is not encoded twice."""

    def __init__(self, encoder: Encoder, collection: Collection) -> None:
        self._encoder = encoder
        self._collection = collection
        self._recent: OrderedDict[bytes, None] = OrderedDict()
        self._ever = False

    def encode(self, batch: Sequence[LoadedRow]) -> tuple[list[tuple[LoadedRow, EncodedDocument]], list[RowError]]:
        """Encode what can be encoded, refuse the rest. Raises the encoder's error when it can encode nothing at all."""
        items = [self._without_known(row.item) for row in batch if row.item is not None]
        done, failed, error = self._bisect(list(zip(batch, items, strict=True)))
        if error is not None and not done and (len(batch) >= HOPELESS or not self._ever):
            raise error
        self._ever = self._ever or bool(done)
        for _, encoded in done:
            self._remember(encoded)
        return done, failed

    def _bisect(
        self, batch: Sequence[tuple[LoadedRow, LoadedDocument]]
    ) -> tuple[list[tuple[LoadedRow, EncodedDocument]], list[RowError], Exception | None]:
        try:
            encoded = encode_documents(self._encoder, self._collection, [item for _, item in batch])
            return list(zip((row for row, _ in batch), encoded, strict=True)), [], None
        except (StorageError, MemoryError):
            raise
        except Exception as error:  # an encoder may raise anything; find out for which row
            if len(batch) == 1:
                row = batch[0][0]
                logger.exception("row %d (id %r) could not be encoded", row.row, row.id)
                reason = f"the model could not encode it ({type(error).__name__}): try another picture or title"
                return [], [RowError(row.row, row.id, reason, "encoder")], error
        half = len(batch) // 2
        first, second = self._bisect(batch[:half]), self._bisect(batch[half:])
        return first[0] + second[0], first[1] + second[1], first[2] or second[2]

    def _without_known(self, item: LoadedDocument) -> LoadedDocument:
        pictures = tuple(replace(p, image=None) if p.content in self._recent else p for p in item.pictures)
        return replace(item, pictures=pictures)

    def _remember(self, encoded: EncodedDocument) -> None:
        for embedding in encoded.embeddings:
            if embedding.view == "image" and embedding.vector is not None:
                self._recent[embedding.content] = None
        while len(self._recent) > REMEMBERED:
            self._recent.popitem(last=False)


class BatchWriter:
    """Commits encoded batches. `reload` loads and encodes one row anew, from nothing that is stored."""

    def __init__(self, collection: Collection, reload: Callable[[LoadedRow], EncodedDocument]) -> None:
        self._collection = collection
        self._reload = reload

    def write(self, batch: Sequence[tuple[LoadedRow, EncodedDocument]]) -> Committed:
        """Commit a batch in one transaction, or row by row when a row of it cannot be stored. Raises `StorageError`."""
        known = self._collection.digests([row.id for row, _ in batch])
        refused: list[RowError] = []
        try:
            self._upsert([encoded for _, encoded in batch])
        except (KeyCollision, InvalidInput):
            refused = [error for row, encoded in batch if (error := self._alone(row, encoded)) is not None]
        gone = {error.row for error in refused}
        stored = [row.id for row, _ in batch if row.row not in gone]
        updated = sum(id in known for id in stored)
        return Committed(len(stored) - updated, updated, tuple(refused))

    def _alone(self, row: LoadedRow, encoded: EncodedDocument) -> RowError | None:
        try:
            try:
                self._upsert([encoded])
            except InvalidInput:  # a vector it shared with a product that was deleted meanwhile is gone
                self._upsert([self._reload(row)])
        except KeyCollision as error:
            return RowError(row.row, row.id, str(error), "id_collision")
        except StorageError:
            raise
        except Exception as error:  # the reload can meet anything that a first load can
            logger.exception("row %d (id %r) could not be stored", row.row, row.id)
            return RowError(row.row, row.id, f"it could not be stored ({type(error).__name__}): see the log", "unexpected")
        return None

    def _upsert(self, documents: Sequence[EncodedDocument]) -> None:
        """Commit, with patience for another writer who holds the lock for longer than the timeout."""
        for pause in BUSY_PAUSES_S:
            try:
                return self._collection.upsert(documents)
            except CollectionBusy:
                time.sleep(pause)
        return self._collection.upsert(documents)
