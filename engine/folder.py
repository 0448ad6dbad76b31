"""The folder of a collection: made whole or not at all, known by its `collection.json`, removed in one step.

What is inside (`engine.documents`, `engine.index`) does not belong here.
"""

import errno
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import orjson

from engine.documents import DocumentStore
from engine.errors import CollectionCorrupt, CollectionExists, CollectionNotFound, StorageError
from engine.index.segment import sync
from engine.unfinished import remove, unfinished

logger = logging.getLogger(__name__)
FORMAT = 1
ABOUT = "collection.json"
DATABASE = "documents.sqlite"
_DATABASE_FILES = (DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm")
OWN_FILES = {*_DATABASE_FILES, "segments", "CURRENT", "CURRENT.new", "compaction.lock", "index.json", "index.json.new", "media"}
OWN_FILES |= {"calibrator.json", "queries.jsonl", "queries.1.jsonl"}


def make_folder(path: Path, *, fingerprint: str, encoder: str, busy_timeout_ms: int) -> None:
    """Make an empty collection; raises `CollectionExists`, or `StorageError` when the folder holds something else."""
    created = datetime.now(UTC).isoformat(timespec="seconds")
    about = {"format": FORMAT, "identity": uuid4().hex, "encoder": encoder, "fingerprint": fingerprint, "created": created}
    try:
        _clear_place(path)
        with unfinished(path) as fresh:
            DocumentStore.create(fresh / DATABASE, busy_timeout_ms=busy_timeout_ms).close()
            (fresh / ABOUT).write_bytes(orjson.dumps(about, option=orjson.OPT_INDENT_2))
            sync(fresh / ABOUT)
            put_in_place(fresh, path)
    except OSError as error:
        raise StorageError(f"collection {path} cannot be created: {error}") from error


def put_in_place(fresh: Path, path: Path) -> None:
    """Let a finished folder appear under its name, in one step; raises `CollectionExists` when another process was faster."""
    sync(fresh)
    try:
        _clear_place(path)
        fresh.rename(path)
    except OSError as error:
        # Not empty: another process put one there, and may have dropped it again since.
        if (path / ABOUT).exists() or error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise _exists(path) from error
        raise
    sync(path.parent)


def read_about(path: Path) -> Mapping[str, object]:
    """Read `collection.json`; raises `CollectionNotFound`, or `CollectionCorrupt` when it says nothing this version knows."""
    try:
        about = orjson.loads((path / ABOUT).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        _check_no_documents(path)
        raise _missing(path) from None
    except orjson.JSONDecodeError as error:
        raise CollectionCorrupt(
            f"{path / ABOUT} is damaged ({error}): restore it from a backup, or drop and index again"
        ) from error
    except OSError as error:
        raise StorageError(f"{path / ABOUT} cannot be read: {error}") from error
    format = about.get("format") if isinstance(about, dict) else None
    if format != FORMAT:
        raise CollectionCorrupt(
            f"collection {path.name!r} has format {format!r}, this version reads {FORMAT}: upgrade, or index again"
        )
    if not all(isinstance(about.get(name), str) for name in ("fingerprint", "encoder", "identity")):
        raise CollectionCorrupt(f"{path / ABOUT} does not name its encoder: restore it from a backup, or index again")
    if not (path / DATABASE).exists():
        raise CollectionCorrupt(f"{path / DATABASE} is missing: restore it from a backup, or drop the collection and index again")
    found: Mapping[str, object] = about
    return found


def remove_folder(path: Path) -> None:
    """Remove a collection with everything in its folder; raises `CollectionNotFound`."""
    if not (path / ABOUT).exists():
        raise _missing(path)
    try:
        remove(path)
    except OSError as error:
        raise StorageError(f"collection {path} cannot be removed: {error}") from error


def _clear_place(path: Path) -> None:
    if (path / ABOUT).exists():
        raise _exists(path)
    if not path.exists():
        return
    _check_no_documents(path)
    foreign = sorted(entry.name for entry in path.iterdir() if entry.name not in OWN_FILES) if path.is_dir() else [path.name]
    if foreign:
        raise StorageError(f"{path} exists and holds other things ({', '.join(foreign[:3])}): choose another name or move them")
    logger.warning("%s was left unfinished and is made anew", path)
    remove(path)


def _check_no_documents(path: Path) -> None:
    """Raise `CollectionCorrupt` for documents that lost their `collection.json`: nobody may take the place for free."""
    try:
        size = (path / DATABASE).stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return
    if size:
        raise CollectionCorrupt(
            f"{path / ABOUT} is missing, and {DATABASE} beside it holds documents: restore it from a backup, or remove the folder"
        )


def _exists(path: Path) -> CollectionExists:
    return CollectionExists(f"collection {path.name!r} exists already: drop it first, or choose another name")


def _missing(path: Path) -> CollectionNotFound:
    error = CollectionNotFound(f"there is no collection {path.name!r}: index a catalogue into it first, or check the name")
    error.add_note(f"looked in {path.parent}")  # for the operator: a client of the server need not know its folders
    return error
