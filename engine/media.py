"""Pictures a collection keeps for itself, and the thumbnails pages show.

A picture on the shop's own disk stays where it is and is read when shown. An uploaded or downloaded one exists nowhere else,
so a web-sized copy is kept in `<collection>/media/`, named by its content.
"""

import io
import os
import uuid
from pathlib import Path

from engine.config import Settings
from engine.datatypes import Image
from engine.encoders.images import decode, read_bytes

KEPT_SIDE = 800
WEBP_QUALITY = 82


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


def thumbnail(location: str, side: int, settings: Settings) -> bytes:
    """Read the picture at a local `location` and return it as WebP with no side longer than `side` pixels.

    Raises `InvalidImage` when it is gone or no longer a picture.
    """
    data = read_bytes(location, settings.max_image_bytes)
    return _webp(decode(data, size=None, max_pixels=settings.max_pixels), side)


def _webp(image: Image, side: int) -> bytes:
    image.thumbnail((side, side))
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=WEBP_QUALITY, method=2)
    return buffer.getvalue()
