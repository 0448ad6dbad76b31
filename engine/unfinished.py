"""Folders that are not finished yet, or not wanted any more: hidden beside their place, and gone for good even after a crash.

    .<name>.<digits>.new    being made by the process that holds its lock; the kernel lets go of it when the process dies
    .<name>.<digits>.gone   being removed

Whoever makes the next one in the same place, or opens the data folder, removes what killed processes have left.
"""

import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

_HIDDEN = re.compile(r"\..+\.[0-9a-f]{32}\.(new|gone)")


@contextmanager
def unfinished(path: Path) -> Iterator[Path]:
    """Lend a new hidden folder beside `path`, on the same disk; what is still there afterwards is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(path.parent)
    fresh, lock = _locked(path)
    try:
        yield fresh
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        os.close(lock)


def remove(path: Path) -> None:
    """Remove a folder: it vanishes in one step, its files after it. Raises `OSError` when it cannot vanish."""
    gone = path.with_name(f".{path.name}.{uuid4().hex}.gone")
    path.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def remove_abandoned(place: Path) -> None:
    """Remove what killed processes have left in a folder; what others are working on stays. Never raises."""
    with suppress(OSError):
        for path in place.iterdir():
            if _HIDDEN.fullmatch(path.name) and path.is_dir():
                _remove_unlocked(path)


def _locked(path: Path) -> tuple[Path, int]:
    while True:
        fresh = path.with_name(f".{path.name}.{uuid4().hex}.new")
        fresh.mkdir()
        with suppress(FileNotFoundError):  # another process took it for abandoned, in the moment before the lock
            lock = os.open(fresh, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if fresh.exists():
                return fresh, lock
            os.close(lock)


def _remove_unlocked(path: Path) -> None:
    with suppress(OSError):
        lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)
        finally:
            os.close(lock)
