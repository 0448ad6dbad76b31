"""Pictures a collection keeps for itself, and the thumbnails pages show.

A picture on the shop's own disk stays where it is and is read when shown. An uploaded or downloaded one exists nowhere else,
so a web-sized copy is kept in `<collection>/media/`, named by its content.
"""

import io
import os
import threading
import uuid
from collections import OrderedDict
from pathlib import Path

from engine.config import Settings
from engine.datatypes import Image
from engine.encoders.images import decode, read_bytes

KEPT_SIDE = 800
WEBP_QUALITY = 82
THUMBNAIL_BYTES = 64_000_000


def keep(collection: Path, content: bytes, data: bytes, *, max_pixels: int) -> str:
    """Store a web-sized copy of the picture `data` (digest `content`) and return its absolute path.

    The file appears whole or not at all. Raises `InvalidImage` when `data` is not an acceptable picture.
    """
    target = (collection / "media" / f"{content.hex()}.webp").resolve()
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{uuid.uuid4().hex}.part")
        partial.write_bytes(_webp(decode(data, size=None, max_pixels=max_pixels), KEPT_SIDE))
        os.replace(partial, target)
    return str(target)


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
