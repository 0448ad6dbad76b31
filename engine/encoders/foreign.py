"""What a file is that is no picture we accept: said to whoever sent it.

Which pictures are accepted, and how they are decoded, stands in `engine.encoders.images`.
"""

import re

from engine.errors import InvalidImage

HEAD = 4_096
"""How much of a file that is no picture is looked at to say what it is: a pattern may try every place of megabytes of blanks."""

ACCEPTED = "JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF"

_KNOWN_BUT_REFUSED = (
    ("a HEIC picture", re.compile(rb"....ftyp(hei|hev|mif|msf)", re.DOTALL)),
    ("a Photoshop file", re.compile(rb"8BPS")),
    ("a PDF document", re.compile(rb"%PDF")),
    ("an SVG drawing", re.compile(rb"(\xef\xbb\xbf)?\s*(<\?xml.{0,500}|<!--.{0,500})?<svg", re.DOTALL | re.IGNORECASE)),
    ("a JPEG 2000 picture", re.compile(rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51")),
    ("a JPEG XL picture", re.compile(rb"\xff\x0a|\0\0\0\x0cJXL ")),
    ("an icon", re.compile(rb"\0\0[\1\2]\0.\0", re.DOTALL)),
)


def not_a_picture(data: bytes) -> InvalidImage:
    """Make the refusal of bytes that no decoder here knows."""
    for name, magic in _KNOWN_BUT_REFUSED:
        if magic.match(data, 0, HEAD):
            return InvalidImage(f"this is {name}, which cannot be read: save it as {ACCEPTED}", reason="unsupported")
    head = data[:24].decode("latin-1").strip()
    begins = repr(head) if head.isascii() and head.isprintable() else f"the bytes {data[:8].hex(' ')}"
    what = "is a web page" if head.lower().startswith(("<!doctype html", "<html")) else f"begins with {begins}"
    return InvalidImage(f"the file is not a picture: it {what}; use {ACCEPTED}", reason="not_an_image")
