"""The collections of one data folder: made, opened once, checked against the encoder, dropped.

What a collection does is in `engine.collection`; which one is meant by a name is decided here.
"""

import re
import threading
from pathlib import Path

from engine.collection import Collection
from engine.config import Settings
from engine.errors import CollectionExists, CollectionNotFound, EncoderMismatch, InvalidInput
from engine.protocols import Encoder

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


class Library:
    """Open collections by name; thread-safe. `close` closes every one."""

    def __init__(self, settings: Settings, encoder: Encoder) -> None:
        self._settings = settings
        self._encoder = encoder
        self._open: dict[str, Collection] = {}
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        """List the collections in the data folder, sorted."""
        return sorted(
            path.parent.name for path in self._settings.data.glob("*/collection.json") if NAME.fullmatch(path.parent.name)
        )

    def get(self, name: str) -> Collection:
        """Open a collection; raises `CollectionNotFound`, or `EncoderMismatch` when other vectors are in it."""
        path = self._path(name)
        with self._lock:
            held = self._open.get(name)
            if held is not None and not held.dropped:
                return held
            collection = Collection.open(path, settings=self._settings)
            if collection.fingerprint != self._encoder.fingerprint:
                collection.close()
                raise EncoderMismatch(
                    f"collection {name!r} was built by encoder {collection.fingerprint}, this process runs "
                    f"{self._encoder.name} ({self._encoder.fingerprint}): index its catalogue into a new collection, "
                    f"or start with the encoder it was built by"
                )
            self._open[name] = collection
            return collection

    def create(self, name: str) -> Collection:
        """Make an empty collection; raises `CollectionExists`, or `InvalidInput` for a name that cannot be a folder."""
        path = self._path(name)
        with self._lock:
            collection = Collection.create(
                path, fingerprint=self._encoder.fingerprint, encoder=self._encoder.name, settings=self._settings
            )
            self._open[name] = collection
            return collection

    def ensure(self, name: str) -> Collection:
        """Open a collection, making it first if need be."""
        try:
            return self.get(name)
        except CollectionNotFound:
            pass
        try:
            return self.create(name)
        except CollectionExists:  # another process was faster
            return self.get(name)

    def drop(self, name: str) -> None:
        """Remove a collection with everything in it; raises `CollectionNotFound`."""
        path = self._path(name)
        with self._lock:
            held = self._open.pop(name, None)
            if held is not None:
                held.close()
            Collection.destroy(path)

    def close(self) -> None:
        """Close every open collection."""
        with self._lock:
            for collection in self._open.values():
                collection.close()
            self._open.clear()

    def _path(self, name: str) -> Path:
        if not NAME.fullmatch(name):
            raise InvalidInput(
                f"{name[:80]!r} is no collection name: use 1 to 63 of a-z, 0-9, - and _, beginning with a letter or digit"
            )
        return self._settings.data / name
