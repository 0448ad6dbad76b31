"""Pictures as they come in a request: base64, data URIs, or addresses that `api.fetching` has fetched. Never paths here."""

import base64
import binascii
import re

from api.fetching import SETTING, Fetched
from engine.errors import InvalidImage, SemblanceError

_DATA_URI = re.compile(r"data:[\w.+-]*/?[\w.+-]*(;[\w=.+-]+)*,", re.ASCII)
_REMOTE = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)


def picture_bytes(value: str, *, max_bytes: int, fetched: Fetched | None = None) -> bytes:
    """Decode a picture sent inside JSON, or take it from those that were fetched.

    Raises `InvalidImage`: `unsupported` for addresses that are not fetched and data URIs without base64, `not_an_image` for
    anything that is not base64, `empty`, `too_large`; and what went wrong when it was fetched.
    """
    if fetched and value in fetched:
        data = fetched[value]
        if isinstance(data, SemblanceError):
            raise data
        return check_size(data, max_bytes=max_bytes)
    if _REMOTE.match(value):
        raise InvalidImage(
            "pictures are not fetched from this address: send the picture as base64, or let the operator name the host in "
            f"{SETTING}",
            reason="unsupported",
        )
    text = value
    if value[:5].lower() == "data:":
        head = _DATA_URI.match(value[:256])
        if head is None or not head[0].lower().endswith(";base64,"):
            raise InvalidImage("the data URI is not base64: use `data:image/...;base64,...`", reason="unsupported")
        text = value[head.end() :]
    return check_size(_decode(text), max_bytes=max_bytes)


def check_size(data: bytes, *, max_bytes: int) -> bytes:
    """Return `data` if it can be a picture by its size; raises `InvalidImage` with reason `empty` or `too_large`."""
    if not data:
        raise InvalidImage("the picture is empty: 0 bytes were sent", reason="empty")
    if len(data) > max_bytes:
        megabytes, most = len(data) / 1_000_000, max_bytes / 1_000_000
        raise InvalidImage(
            f"the picture has {megabytes:.1f} MB, more than the {most:g} MB accepted: send a smaller one", reason="too_large"
        )
    return data


def _decode(text: str) -> bytes:
    compact = "".join(text.split()).replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(compact + "=" * (-len(compact) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidImage(
            "the picture is neither base64 nor a data URI: send its bytes as base64, paths are not read for HTTP clients",
            reason="not_an_image",
        ) from None
