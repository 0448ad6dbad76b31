"""Pictures a collection keeps for itself, and the thumbnails pages show.

A picture on the shop's own disk stays where it is and is read when shown. An uploaded or downloaded one exists nowhere else,
so a web-sized copy is kept in `<collection>/media/`, named by its content, as long as a document shows it.
"""

import io
import os
import threading
import time
import uuid
from collections import OrderedDict
from pathlib import Path

from engine.config import Settings
from engine.database import Database, chunks, rows_in
from engine.datatypes import Image
from engine.encoders.images import decode, read_bytes
from engine.index.segment import sync

FOLDER = "media"
GRACE_S = 3600.0
KEPT_SIDE = 800
WEBP_QUALITY = 82
THUMBNAIL_BYTES = 64_000_000


def keep(collection: Path, content: bytes, data: bytes, *, max_pixels: int) -> str:
    """Store a web-sized copy of the picture `data` (digest `content`) and return its absolute path.

    The file appears whole or not at all. Raises `InvalidImage` when `data` is not an acceptable picture.
    """
    target = (collection / FOLDER / f"{content.hex()}.webp").resolve()
    try:
        os.utime(target)  # a sweep leaves it alone now, until a document shows it
    except FileNotFoundError:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{uuid.uuid4().hex}.part")
        partial.write_bytes(_webp(decode(data, size=None, max_pixels=max_pixels), KEPT_SIDE))
        sync(partial)  # the document that shows it will be acknowledged, and this is its only copy
        os.replace(partial, target)
    return str(target)


def sweep(collection: Path, database: Database) -> int:
    """Remove the pictures in `media` that no document shows any more; returns how many.

    One laid there a moment ago may be waiting for its document, and stays for an hour.
    """
    removed, before = 0, time.time() - GRACE_S
    folder = collection / FOLDER
    old = [Path(entry.path) for entry in os.scandir(folder) if entry.stat().st_mtime < before] if folder.exists() else []
    for part in chunks(old):
        contents = {path: _content(path) for path in part}
        with database.reading() as connection:
            statement = "SELECT content FROM embeddings WHERE content IN (*)"
            shown = {content for (content,) in rows_in(connection, statement, list(contents.values()))}
        for path, content in contents.items():
            if content not in shown and path.stat().st_mtime < before:
                path.unlink(missing_ok=True)
                removed += 1
    return removed


def _content(path: Path) -> bytes:
    """Read a picture's content off its name; empty for what was left half written."""
    try:
        return bytes.fromhex(path.stem)
    except ValueError:
        return b""


class Thumbnails:
    """Makes small pictures and keeps the latest, up to `max_bytes` of them, in memory. Thread-safe."""

    def __init__(self, settings: Settings, *, max_bytes: int = THUMBNAIL_BYTES) -> None:
        self._settings = settings
        self._left = max_bytes
        self._kept: OrderedDict[tuple[bytes, int], bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, location: str, content: bytes, side: int) -> bytes:
        """Return the picture at a local `location`, whose digest is `content`, as WebP with no side longer than `side` pixels.

        Raises `InvalidImage` when it is gone or no longer a picture.
        """
        key = (content, side)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        data = read_bytes(location, self._settings.max_image_bytes)
        made = _webp(decode(data, size=None, max_pixels=self._settings.max_pixels), side)
        with self._lock:
            self._left -= len(made) - len(self._kept.pop(key, b""))
            self._kept[key] = made
            while self._left < 0:
                self._left += len(self._kept.popitem(last=False)[1])
        return made


def _webp(image: Image, side: int) -> bytes:
    image.thumbnail((side, side))
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=WEBP_QUALITY, method=2)
    return buffer.getvalue()
