"""A collection as one file: documents, vectors and kept pictures at one moment, with digests; and back.

The file is a tar: `collection.json`, `documents.sqlite`, `index.json` and `media/*` where there are any, and `manifest.json` last.
Segments are not in it: they are made anew. A file may come from anywhere: only plain files of these names are taken out of it, and
only if the manifest vouches for them. Which collection a name means stands in `engine.library`.
"""

import hashlib
import io
import json
import os
import re
import shutil
import sqlite3
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeAlias
from uuid import uuid4

import orjson

from engine.collection import Collection
from engine.config import Settings
from engine.documents import SCHEMA
from engine.errors import CollectionCorrupt, CollectionExists, InvalidInput, StorageError
from engine.folder import ABOUT, DATABASE, put_in_place, read_about
from engine.index import tuning
from engine.index.segment import sync
from engine.unfinished import unfinished

MANIFEST = "manifest.json"
FORMAT = 1
BLOCK = 2**20
MANIFEST_BYTES = 8_000
"""Most bytes of the manifest for each file, and for the path of the folder: a larger one is refused before it is read."""

_MEMBER = re.compile(rf"{re.escape(ABOUT)}|{re.escape(DATABASE)}|{re.escape(tuning.FILE)}|media/[0-9a-f]+\.webp")

Told: TypeAlias = Callable[[int, int], None]
"""Hears how many bytes of how many are done; what it raises ends the work, and nothing of it stays."""


def export_collection(collection: Collection, target: Path, *, told: Told = lambda done, total: None) -> None:
    """Write a collection, as it is at one moment, to a new file; writers go on meanwhile.

    The file appears whole or not at all. Raises `InvalidInput` when there is one already, and `StorageError`.
    """
    if target.exists():
        raise _taken(target)
    try:
        with unfinished(target) as folder:
            copy, whole = folder / DATABASE, folder / "whole"
            collection.copy_documents(copy, told=lambda done, total: told(done, 2 * total))
            _write(whole, collection.path, copy, told)
            sync(whole)
            os.link(whole, target)  # unlike a rename, it never replaces what another process has put there
        sync(target.parent)
    except FileExistsError as error:
        raise _taken(target) from error
    except OSError as error:
        raise StorageError(f"the snapshot {target} could not be written: {error}") from error


@dataclass(frozen=True, slots=True)
class Restored:
    """A collection that was made of a snapshot; one of another encoder has yet to be reindexed."""

    name: str
    documents: int
    encoder: str
    fingerprint: str
    version: int


def restore_collection(source: Path, path: Path, *, settings: Settings, told: Told = lambda done, total: None) -> Restored:
    """Make a new collection of a snapshot, indexed and ready; it appears whole or not at all.

    Raises `CollectionExists`, `CollectionCorrupt` when the file is not as it was written, `InvalidInput` when it is no snapshot,
    and `StorageError`.
    """
    if (path / ABOUT).exists():
        raise CollectionExists(f"collection {path.name!r} exists already: drop it first, or choose another name")
    try:
        with unfinished(path) as fresh:
            former = _extract(source, fresh, told)
            read_about(fresh)
            _settle(fresh, former, path)
            with closing(Collection.open(fresh, settings=settings)) as collection:
                collection.compact()
                documents, version = len(collection), collection.version
            put_in_place(fresh, path)
            return Restored(path.name, documents, collection.encoder, collection.fingerprint, version)
    except (OSError, sqlite3.Error) as error:
        raise StorageError(f"the snapshot {source} could not be restored to {path}: {error}") from error


def _write(target: Path, folder: Path, copy: Path, told: Told) -> None:
    digests: dict[str, str] = {}
    members = list(_members(folder, copy))
    total = sum(path.stat().st_size for _, path in members if path.exists())
    with tarfile.open(target, "w") as archive:
        for name, path in members:
            with suppress(FileNotFoundError), path.open("rb") as file:  # else a picture that nobody needs any more
                before = archive.offset
                digested = _Digested(file, lambda done, before=before: told(total + before + done, 2 * total))  # type: ignore[misc]
                archive.addfile(_entry(name, os.fstat(file.fileno()).st_size), digested)
                digests[name] = digested.digest
        manifest = orjson.dumps({"format": FORMAT, "path": os.path.abspath(folder), "files": digests})
        archive.addfile(_entry(MANIFEST, len(manifest)), io.BytesIO(manifest))


def _entry(name: str, size: int) -> tarfile.TarInfo:
    """Describe a member: neither the owner nor the mode of a file of this machine goes along."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.mtime = size, int(time.time())
    return entry


def _members(folder: Path, copy: Path) -> Iterator[tuple[str, Path]]:
    yield ABOUT, folder / ABOUT
    yield DATABASE, copy
    if (folder / tuning.FILE).exists():
        yield tuning.FILE, folder / tuning.FILE
    for picture in sorted(folder.glob("media/*.webp")):
        yield f"media/{picture.name}", picture


class _Digested:
    """A file that is digested, and told of, while it is read."""

    def __init__(self, file: IO[bytes], told: Callable[[int], None]) -> None:
        self._file, self._told, self._hash, self._done = file, told, hashlib.sha256(), 0

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._hash.update(data)
        self._done += len(data)
        self._told(self._done)
        return data

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()


def _extract(source: Path, folder: Path, told: Told) -> str:
    """Unpack the members a snapshot may have, check them, and return the folder that it was made from."""
    digests: dict[str, str] = {}
    manifest: object = None
    (folder / "media").mkdir()
    try:
        total = source.stat().st_size
        with tarfile.open(source, "r:") as archive:
            for entry in archive:
                # A sparse file of a few bytes may claim to be larger than any disk.
                file = archive.extractfile(entry) if entry.isreg() and not entry.issparse() else None
                if file is None or not (entry.name == MANIFEST or _MEMBER.fullmatch(entry.name)):
                    raise InvalidInput(f"{source.name} holds {entry.name[:80]!r}: it is no snapshot of a collection")
                if entry.name == MANIFEST:
                    if entry.size > MANIFEST_BYTES * (1 + len(digests)):
                        raise InvalidInput(f"{source.name} has a manifest of {entry.size} bytes for {len(digests)} files: damaged")
                    manifest = orjson.loads(file.read())
                    continue
                digested = _Digested(file, lambda done, before=entry.offset_data: told(before + done, total))  # type: ignore[misc]
                with (folder / entry.name).open("wb") as target:
                    shutil.copyfileobj(digested, target, BLOCK)
                digests[entry.name] = digested.digest
    except FileNotFoundError:
        raise InvalidInput(f"there is no snapshot {source.name}: check the path") from None
    except (tarfile.TarError, orjson.JSONDecodeError, EOFError) as error:
        raise CollectionCorrupt(f"the snapshot {source.name} is damaged ({error}): take another one") from error
    return _vouched(source, manifest, digests)


def _vouched(source: Path, manifest: object, digests: Mapping[str, str]) -> str:
    """Compare with the manifest; returns the folder that the snapshot was made from."""
    if not isinstance(manifest, dict):
        raise CollectionCorrupt(f"the snapshot {source.name} is not whole: its end is missing; take another one")
    files, former = manifest.get("files"), manifest.get("path")
    if manifest.get("format") != FORMAT or not isinstance(files, dict) or not isinstance(former, str):
        raise CollectionCorrupt(
            f"the snapshot {source.name} has format {manifest.get('format')!r}, this version reads {FORMAT}: upgrade"
        )
    if not {ABOUT, DATABASE} <= digests.keys():
        raise InvalidInput(f"{source.name} holds no {DATABASE} or no {ABOUT}: it is no snapshot of a collection")
    for name in files.keys() | digests.keys():
        if digests.get(name) != files.get(name):
            raise CollectionCorrupt(f"{name} in the snapshot {source.name} is not as written: its digest differs; take another one")
    return former


def _settle(folder: Path, former: str, path: Path) -> None:
    """Give the copy an identity of its own, and let its documents name the pictures where they will be."""
    about = orjson.loads((folder / ABOUT).read_bytes())
    (folder / ABOUT).write_bytes(orjson.dumps({**about, "identity": uuid4().hex}, option=orjson.OPT_INDENT_2))
    sync(folder / ABOUT)
    with closing(sqlite3.connect(folder / DATABASE)) as database:
        _check_tables(database)
        old, new = (os.path.join(place, "media", "") for place in (former, os.path.abspath(path)))
        if old != new and any((folder / "media").iterdir()):
            with database:
                _rename(database, old, new)


def _check_tables(database: sqlite3.Connection) -> None:
    """Raise `InvalidInput` for a database that holds more than documents, such as a trigger that would run at the next write."""
    found = set(database.execute("SELECT type, name FROM sqlite_master WHERE name NOT LIKE 'sqlite!_%' ESCAPE '!'"))
    with closing(sqlite3.connect(":memory:")) as empty:
        empty.executescript(SCHEMA)
        expected = set(empty.execute("SELECT type, name FROM sqlite_master WHERE name NOT LIKE 'sqlite!_%' ESCAPE '!'"))
    if found != expected:
        names = ", ".join(sorted(f"{kind} {name}" for kind, name in found ^ expected))
        raise InvalidInput(f"the database of the snapshot is not one of a collection ({names[:200]}): it was not made by Semblance")


def _rename(database: sqlite3.Connection, old: str, new: str) -> None:
    for table, column in (("embeddings", "location"), ("documents", "images")):
        before, after = (json.dumps(text)[1:-1] if column == "images" else text for text in (old, new))
        database.execute(
            f"UPDATE {table} SET {column} = CAST(replace(CAST({column} AS TEXT), ?, ?) AS BLOB) "  # noqa: S608  constants
            f"WHERE instr({column}, CAST(? AS BLOB)) > 0",
            (before, after, before),
        )


def _taken(target: Path) -> InvalidInput:
    return InvalidInput(f"{target} exists already: choose another name, or remove it first")
