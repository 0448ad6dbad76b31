"""Names that point to collections: switched in one step, seen by every process at its next request.

    aliases.json    alias -> the collection it means, the one it meant before, and how far the new one was at the switch

An alias may have the name of a collection; it wins then, so that a rebuilt collection takes the place of the one it was made from.
What an alias meant before takes no more writes: they would be missing where the alias points now. Which of two collections a
process opens is decided in `engine.library`.
"""

import fcntl
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

from engine.errors import CollectionCorrupt, CollectionNotFound, EncoderMismatch, StorageError

FILE = "aliases.json"


@dataclass(frozen=True, slots=True)
class Alias:
    """What a name means: `collection` now, `previous` before, if it was switched when `collection` was of version `since`."""

    collection: str
    previous: str | None = None
    since: int | None = None


class Aliases:
    """The aliases of one data folder. Safe to use from several threads and processes; nothing is kept in memory."""

    def __init__(self, data: Path) -> None:
        self._path = data / FILE

    def all(self) -> Mapping[str, Alias]:
        """Read every alias; raises `CollectionCorrupt` when the file is damaged."""
        try:
            return {name: Alias(**alias) for name, alias in orjson.loads(self._path.read_bytes()).items()}
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except (OSError, orjson.JSONDecodeError, TypeError, AttributeError) as error:
            raise CollectionCorrupt(
                f"{self._path} cannot be read ({error}): restore it, or remove it and set the aliases anew"
            ) from error

    def check_writable(self, collection: str) -> None:
        """Raise `EncoderMismatch` for a collection that an alias has left behind. Asked inside of the write, it cannot be late."""
        for name, alias in self.all().items():
            if alias.previous == collection != alias.collection:
                raise EncoderMismatch(
                    f"{name!r} means {alias.collection!r} now, by another encoder, and what is written to {collection!r} would not "
                    f"be found there: start this process anew with the encoder of {alias.collection!r}, then write again"
                )

    def point(self, name: str, collection: str, *, previous: str | None = None, since: int | None = None) -> None:
        """Let a name mean a collection from now on; `previous` is what it goes back to. Raises `StorageError`."""
        self.change(lambda aliases: aliases.update({name: Alias(collection, previous, since)}))

    def remove(self, name: str) -> None:
        """Forget an alias; the collection stays. Raises `CollectionNotFound` when there is none."""

        def removed(aliases: dict[str, Alias]) -> None:
            if name not in aliases:
                raise CollectionNotFound(f"there is no alias {name!r}: `semblance collections` lists them")
            del aliases[name]

        self.change(removed)

    def change(self, change: Callable[[dict[str, Alias]], None]) -> None:
        """Change the aliases; nobody else does meanwhile. Raises `StorageError`, and what `change` raises: all stays then."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.with_suffix(".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                aliases = dict(self.all())
                change(aliases)
                self._write(aliases)
        except OSError as error:
            raise StorageError(f"{self._path} cannot be written ({error}): check its permissions and its disk") from error

    def _write(self, aliases: Mapping[str, Alias]) -> None:
        fresh = self._path.with_suffix(".new")
        with fresh.open("wb") as file:
            file.write(orjson.dumps({name: asdict(alias) for name, alias in aliases.items()}, option=orjson.OPT_INDENT_2))
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, self._path)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
