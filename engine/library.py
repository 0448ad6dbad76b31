"""The collections of one data folder: made, opened once, checked against the encoder, dropped.

What a collection does is in `engine.collection`; which one is meant by a name is decided here.
"""

import re
import threading
from functools import partial
from pathlib import Path

from engine.aliases import Aliases
from engine.archive import Restored, Told, export_collection, restore_collection
from engine.collection import Collection
from engine.config import Settings
from engine.errors import CollectionExists, CollectionNotFound, EncoderMismatch, InvalidInput
from engine.folder import ABOUT, read_about
from engine.protocols import Encoder
from engine.unfinished import remove_abandoned

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


class Library:
    """Open collections by name; thread-safe. `close` closes every one."""

    def __init__(self, settings: Settings, encoder: Encoder) -> None:
        self._settings = settings
        self._encoder = encoder
        self._open: dict[str, Collection] = {}
        self._lock = threading.Lock()
        self.aliases = Aliases(settings.data)
        remove_abandoned(settings.data)

    def names(self) -> list[str]:
        """List the collections in the data folder and the aliases, sorted."""
        folders = self._settings.data.glob("*/collection.json")
        return sorted({path.parent.name for path in folders if NAME.fullmatch(path.parent.name)} | self.aliases.all().keys())

    def get(self, name: str) -> Collection:
        """Open the collection a name or alias means; raises `CollectionNotFound`, or `EncoderMismatch` for other vectors."""
        name = self._meant(name)
        path = self._path(name)
        with self._lock:
            held = self._open.get(name)
            if held is not None and not held.dropped:
                return held
            collection = Collection.open(path, settings=self._settings, admit=partial(self.aliases.check_writable, name))
            if collection.fingerprint != self._encoder.fingerprint:
                collection.close()
                raise EncoderMismatch(
                    f"collection {name!r} was built by encoder {collection.fingerprint}, this process runs "
                    f"{self._encoder.name} ({self._encoder.fingerprint}): run `semblance reindex {name}`, "
                    f"or start with the encoder it was built by"
                )
            self._open[name] = collection
            return collection

    def held(self, name: str) -> Collection | None:
        """Give the collection a name or alias means if it is open already; waits for nobody."""
        held = self._open.get(self._meant(name))
        return None if held is None or held.dropped else held

    def create(self, name: str) -> Collection:
        """Make an empty collection; raises `CollectionExists`, or `InvalidInput` for a name that cannot be a folder."""
        path = self._path(name)
        if name in self.aliases.all():
            raise CollectionExists(f"{name!r} is an alias of {self.aliases.all()[name].collection!r}: choose another name")
        with self._lock:
            encoder, settings = self._encoder, self._settings
            Collection.create(path, fingerprint=encoder.fingerprint, encoder=encoder.name, settings=settings).close()
        return self.get(name)

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
        """Remove a collection with everything in it; raises `CollectionNotFound`, or `InvalidInput` when an alias needs it."""
        path = self._path(name)
        for alias, means in self.aliases.all().items():
            if name in {alias, means.collection}:
                raise InvalidInput(
                    f"{alias!r} is an alias of {means.collection!r}: run `semblance collections unalias {alias}` first"
                )
        with self._lock:
            held = self._open.pop(name, None)
            if held is not None:
                held.close()
            Collection.destroy(path)

    def alias(self, name: str, collection: str) -> None:
        """Let a name mean a collection from now on; raises `CollectionNotFound`, or `InvalidInput` for a name that is taken."""
        if (self._path(name) / ABOUT).exists():
            raise InvalidInput(f"{name!r} is the name of a collection: choose another for the alias, or drop the collection first")
        if collection in self.aliases.all():
            raise InvalidInput(f"{collection!r} is an alias itself: name the collection it means")
        read_about(self._path(collection))
        self.aliases.point(name, collection)

    def unalias(self, name: str) -> None:
        """Forget an alias; the collection stays. Raises `CollectionNotFound`."""
        self._path(name)
        self.aliases.remove(name)

    def snapshot(self, name: str, target: Path, *, told: Told = lambda done, total: None) -> None:
        """Write a collection to one new file; raises `InvalidInput` when that exists, and `StorageError`."""
        export_collection(self.get(name), target, told=told)

    def restore(self, source: Path, name: str, *, told: Told = lambda done, total: None) -> Restored:
        """Make a new collection of a snapshot; raises `CollectionExists`, `CollectionCorrupt`, `InvalidInput`, `StorageError`."""
        path = self._path(name)
        if name in self.aliases.all():
            raise CollectionExists(f"{name!r} is an alias of {self.aliases.all()[name].collection!r}: choose another name")
        return restore_collection(source, path, settings=self._settings, told=told)

    def _meant(self, name: str) -> str:
        """Follow an alias. A process that runs the encoder of before goes on with the collection of before."""
        alias = self.aliases.all().get(name)
        if alias is None:
            return name
        if alias.previous is not None and (self._path(alias.previous) / ABOUT).exists():
            now, before = (read_about(self._path(n))["fingerprint"] for n in (alias.collection, alias.previous))
            if self._encoder.fingerprint == before != now:
                return alias.previous
        return alias.collection

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
