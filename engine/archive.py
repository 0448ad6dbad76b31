"""A collection as one file: documents, vectors and kept pictures at one moment, with digests; and back.

The file is a tar: `collection.json`, `documents.sqlite`, `index.json` and `media/*` where there are any, and `manifest.json` last.
Segments are not in it: they are made anew. Which collection a name means stands in `engine.library`.
"""

import io
import json
import os
import re
import shutil
import sqlite3
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from uuid import uuid4

import orjson

from engine.collection import Collection
from engine.config import Settings
from engine.errors import CollectionCorrupt, CollectionExists, InvalidInput, StorageError
from engine.folder import ABOUT, DATABASE, put_in_place, read_about
from engine.index import tuning
from engine.index.segment import digest_of_file, sync

MANIFEST = "manifest.json"
FORMAT = 1
_MEMBER = re.compile(rf"{re.escape(ABOUT)}|{re.escape(DATABASE)}|{re.escape(tuning.FILE)}|media/[0-9a-f]+\.webp")


def export_collection(collection: Collection, target: Path) -> None:
    """Write a collection, as it is at one moment, to a new file; writers go on meanwhile.

    The file appears whole or not at all. Raises `InvalidInput` when there is one already, and `StorageError`.
    """
    if target.exists():
        raise InvalidInput(f"{target} exists already: choose another name, or remove it first")
    fresh = target.with_name(f".{target.name}.{uuid4().hex}.new")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".snapshot.") as folder:
            copy = Path(folder) / DATABASE
            collection.copy_documents(copy)
            _write(fresh, collection.path, copy)
        sync(fresh)
        os.link(fresh, target)  # unlike a rename, it never replaces what another process has put there
        sync(target.parent)
    except FileExistsError as error:
        raise InvalidInput(f"{target} exists already: choose another name, or remove it first") from error
    except OSError as error:
        raise StorageError(f"the snapshot {target} could not be written: {error}") from error
    finally:
        fresh.unlink(missing_ok=True)


def restore_collection(source: Path, path: Path, *, settings: Settings) -> None:
    """Make a new collection of a snapshot, indexed and ready; it appears whole or not at all.

    Raises `CollectionExists`, `CollectionCorrupt` when the file is not as it was written, `InvalidInput` when it is no snapshot,
    and `StorageError`.
    """
    if (path / ABOUT).exists():
        raise CollectionExists(f"collection {path.name!r} exists already: drop it first, or choose another name")
    fresh = path.with_name(f".{path.name}.{uuid4().hex}.new")
    try:
        fresh.mkdir(parents=True)
        manifest = _extract(source, fresh)
        _check(source, fresh, manifest)
        _settle(fresh, str(manifest["path"]), path)
        read_about(fresh)
        with closing(Collection.open(fresh, settings=settings)) as collection:
            collection.compact()
        put_in_place(fresh, path)
    except (OSError, sqlite3.Error) as error:
        raise StorageError(f"the snapshot {source} could not be restored to {path}: {error}") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)  # there only when it did not work


def _write(target: Path, folder: Path, copy: Path) -> None:
    sizes: dict[str, str] = {}
    with tarfile.open(target, "w") as archive:
        for name, path in _members(folder, copy):
            with suppress(FileNotFoundError):  # a picture that a writer has just let go of
                archive.add(path, name, recursive=False)
                sizes[name] = digest_of_file(path)
        manifest = orjson.dumps({"format": FORMAT, "path": os.path.abspath(folder), "files": sizes})
        entry = tarfile.TarInfo(MANIFEST)
        entry.size = len(manifest)
        archive.addfile(entry, io.BytesIO(manifest))


def _members(folder: Path, copy: Path) -> Iterator[tuple[str, Path]]:
    yield ABOUT, folder / ABOUT
    yield DATABASE, copy
    if (folder / tuning.FILE).exists():
        yield tuning.FILE, folder / tuning.FILE
    for picture in sorted(folder.glob("media/*.webp")):
        yield f"media/{picture.name}", picture


def _extract(source: Path, folder: Path) -> Mapping[str, object]:
    """Unpack the members a snapshot may have, and nothing else."""
    manifest: Mapping[str, object] | None = None
    (folder / "media").mkdir()
    try:
        with tarfile.open(source, "r:") as archive:
            for entry in archive:
                file = archive.extractfile(entry) if entry.isreg() else None
                if file is None or not (entry.name == MANIFEST or _MEMBER.fullmatch(entry.name)):
                    raise InvalidInput(f"{source} holds {entry.name[:80]!r}: it is no snapshot of a collection")
                if entry.name == MANIFEST:
                    manifest = orjson.loads(file.read())
                else:
                    with (folder / entry.name).open("wb") as target:
                        shutil.copyfileobj(file, target, 2**20)
    except FileNotFoundError:
        raise InvalidInput(f"there is no snapshot {source}: check the path") from None
    except (tarfile.TarError, orjson.JSONDecodeError, EOFError) as error:
        raise CollectionCorrupt(f"the snapshot {source} is damaged ({error}): take another one") from error
    if not isinstance(manifest, dict):
        raise CollectionCorrupt(f"the snapshot {source} is not whole: its end is missing; take another one")
    return manifest


def _check(source: Path, folder: Path, manifest: Mapping[str, object]) -> None:
    files = manifest.get("files")
    if manifest.get("format") != FORMAT or not isinstance(files, dict):
        raise CollectionCorrupt(
            f"the snapshot {source} has format {manifest.get('format')!r}, this version reads {FORMAT}: upgrade"
        )
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    for name in files.keys() | found.keys():
        if name not in found or digest_of_file(found[name]) != files.get(name):
            raise CollectionCorrupt(f"{name} in the snapshot {source} is not as written: its digest differs; take another one")


def _settle(folder: Path, former: str, path: Path) -> None:
    """Give the copy an identity of its own, and let its documents name the pictures where they will be."""
    about = orjson.loads((folder / ABOUT).read_bytes())
    (folder / ABOUT).write_bytes(orjson.dumps({**about, "identity": uuid4().hex}, option=orjson.OPT_INDENT_2))
    old, new = (os.path.join(place, "media", "") for place in (former, os.path.abspath(path)))
    if old == new or not any((folder / "media").iterdir()):
        return
    with closing(sqlite3.connect(folder / DATABASE)) as database, database:
        for table, column in (("embeddings", "location"), ("documents", "images")):
            before, after = (json.dumps(text)[1:-1] if column == "images" else text for text in (old, new))
            database.execute(
                f"UPDATE {table} SET {column} = CAST(replace(CAST({column} AS TEXT), ?, ?) AS BLOB) "  # noqa: S608  constants
                f"WHERE instr({column}, CAST(? AS BLOB)) > 0",
                (before, after, before),
            )
