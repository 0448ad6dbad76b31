"""From untrusted bytes to a small RGB picture: the one way a picture enters the engine.

Here belong reading, checking, decoding and resizing of single pictures. Which pictures a product has, fetching them from the
network and what an encoder does with the pixels do not.

Every function is safe to call from several threads. Colour profiles (ICC) are ignored: one more parser for hostile bytes.
"""

import hashlib
import io
import math
import re
import stat
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    ImageChops,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)
from PIL import Image as PillowImage

from engine.datatypes import Image
from engine.encoders.foreign import not_a_picture
from engine.errors import InvalidImage

ENOUGH = 7 / 8
"""The share of the target's side that must be left by the cheap steps (JPEG's scaled decoding, averaging of whole blocks) before
the exact bicubic one. The default towers learned from 224-pixel pictures enlarged to 256 (decision 0005)."""

NEAR = 1 / 40  # a side so near the target's is not interpolated (500 decode to 250, for 256): lines are doubled (decision 0007)

LARGE_PIXELS = 16_000_000
"""Pictures of more pixels that must be decoded whole are decoded one at a time in a process: this bounds the memory."""

MAX_JPEG_SCANS = 100
"""A progressive JPEG has about ten scans; hundreds make a small file decode for minutes."""

_ONE_LARGE = threading.Lock()
_WARNING_FILTERS = threading.Lock()


class _Format(NamedTuple):
    name: str
    magic: re.Pattern[bytes]
    open: Callable[[io.BytesIO], ImageFile.ImageFile]


# Opened by class and not by `PIL.Image.open`, whose pixel check only warns, against a limit of its own.
_FORMATS = (
    _Format("JPEG", re.compile(rb"\xff\xd8\xff"), JpegImagePlugin.jpeg_factory),
    _Format("PNG", re.compile(rb"\x89PNG\r\n\x1a\n"), PngImagePlugin.PngImageFile),
    _Format("WebP", re.compile(rb"RIFF....WEBP", re.DOTALL), WebPImagePlugin.WebPImageFile),
    _Format("GIF", re.compile(rb"GIF8[79]a"), GifImagePlugin.GifImageFile),
    _Format("TIFF", re.compile(rb"II\*\0|MM\0\*|II\+\0|MM\0\+"), TiffImagePlugin.TiffImageFile),
    _Format("AVIF", re.compile(rb"....ftypavi[fs]|....ftypm[is]f1", re.DOTALL), AvifImagePlugin.AvifImageFile),
    # "BM" alone also begins text about cars: bytes 6 to 10 are reserved zeros in every BMP.
    _Format("BMP", re.compile(rb"BM....\0\0\0\0", re.DOTALL), BmpImagePlugin.BmpImageFile),
)
_TURNS = {
    2: PillowImage.Transpose.FLIP_LEFT_RIGHT,
    3: PillowImage.Transpose.ROTATE_180,
    4: PillowImage.Transpose.FLIP_TOP_BOTTOM,
    5: PillowImage.Transpose.TRANSPOSE,
    6: PillowImage.Transpose.ROTATE_270,
    7: PillowImage.Transpose.TRANSVERSE,
    8: PillowImage.Transpose.ROTATE_90,
}


def read_bytes(source: str | Path, limit: int) -> bytes:
    """Read a picture file of at most `limit` bytes. Raises `InvalidImage` (missing, empty, too_large)."""
    try:
        size = _file_size(source)
        with Path(source).open("rb") as file:
            data = file.read(min(size, limit) + 1)  # asked for the limit, it would lay out and give back so many bytes each time
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "the name is not a valid path"
        raise InvalidImage(f"the picture {str(source)!r} cannot be read ({why}): check the path", reason="missing") from None
    if not data:
        raise InvalidImage(f"the picture {str(source)!r} is empty (0 bytes): save it again", reason="empty")
    if size > limit:
        raise InvalidImage(
            f"the picture {str(source)!r} is larger than {limit / 1e6:g} MB: save it smaller, or raise SEMBLANCE_MAX_IMAGE_MB",
            reason="too_large",
        )
    return data


def _file_size(source: str | Path) -> int:
    if not stat.S_ISREG((about := Path(source).stat()).st_mode):
        raise InvalidImage(f"{str(source)!r} is not a file: name a picture file", reason="missing")
    return about.st_size


def content_of(data: bytes) -> bytes:
    """Digest the bytes of a picture file (16 bytes, never equal to a digest of something else)."""
    return hashlib.blake2b(data, digest_size=16, person=b"semblance-image").digest()


def decode(data: bytes, *, size: int | None, max_pixels: int) -> Image:
    """Decode a picture to RGB, upright, the first frame of an animation, transparency over white.

    With `size` the result is a square of that side, squashed without cropping; without, it keeps its own size. The header
    is checked before any pixel is decoded. Raises `InvalidImage` (not_an_image, truncated, too_many_pixels, empty,
    unsupported).
    """
    if not data:
        raise InvalidImage("the picture is empty (0 bytes): save or upload it again", reason="empty")
    picture = _open(data, max_pixels)
    with _damage_named(picture.format or "picture"):
        if size is not None and isinstance(picture, JpegImagePlugin.JpegImageFile):
            picture.draft(None, (_enough(size), _enough(size)))
        with _memory_bounded(picture):
            return _upright_rgb(picture) if size is None else _squashed(picture, size)


def squash(image: Image, size: int) -> Image:
    """Turn any picture into an upright RGB square of side `size`, without cropping; the input is not changed.

    A JPEG that Pillow has opened and not yet decoded gives the very pixels `decode` gives; one decoded in full is averaged by
    the same factors and may differ from them by a few of 255 when it is large enough for scaled decoding.
    Raises `InvalidImage` for pixels that have no meaning as colours (unsupported) or that a lazily opened file cannot give
    (truncated).
    """
    if (data := _undecoded_jpeg(image)) is not None:
        return decode(data, size=size, max_pixels=image.width * image.height)
    return _squashed(image, size)


def _squashed(image: Image, size: int) -> Image:
    with _damage_named(image.format or "decoded"):
        image.load()  # first: loading a TIFF turns it upright itself
        turn = _TURNS.get(_orientation(image))
        small = _averaged(_as_rgb(image), _enough(size))
        wide, high = (side if abs(side - size) <= NEAR * size else size for side in small.size)
        square = small.resize((wide, high), PillowImage.Resampling.BICUBIC).resize((size, size), PillowImage.Resampling.NEAREST)
    square.info = {}
    return square if turn is None else square.transpose(turn)


def _enough(size: int) -> int:
    return max(1, int(ENOUGH * size))


def _averaged(image: Image, enough: int) -> Image:
    """Average whole blocks of pixels, first by the power of two that scaled decoding would have taken, then side by side."""
    scale = 1
    while min(image.size) // (2 * scale) >= enough:
        scale *= 2
    wide, high = (scale * max(1, -(-side // scale) // enough) for side in image.size)
    return image if wide == high == 1 else image.reduce((wide, high))


def _undecoded_jpeg(image: Image) -> bytes | None:
    if not isinstance(image, JpegImagePlugin.JpegImageFile) or image.fp is None:
        return None
    if not image.tile or image.decoderconfig or image.tell() != 0:
        return None
    image.fp.seek(0)
    return bytes(image.fp.read())


def _upright_rgb(image: Image) -> Image:
    image.load()
    turn = _TURNS.get(_orientation(image))
    rgb = _as_rgb(image)
    upright = rgb.copy() if turn is None else rgb.transpose(turn)
    upright.info = {}
    return upright


def _open(data: bytes, max_pixels: int) -> ImageFile.ImageFile:
    kind = next((known for known in _FORMATS if known.magic.match(data)), None)
    if kind is None or (kind.name == "AVIF" and not AvifImagePlugin.SUPPORTED):
        raise not_a_picture(data)
    if kind.name == "JPEG":
        _check_jpeg(data)
    with _damage_named(kind.name), _pillow_warnings_ignored():
        picture = kind.open(io.BytesIO(data))
    for width, height in (picture.size, _block(picture)):
        if width * height > max_pixels:
            raise _too_many(f"{width} x {height}", max_pixels)
    return picture


def _block(picture: ImageFile.ImageFile) -> tuple[int, int]:
    """Say how large the blocks are that a TIFF is decoded in: they may be larger than the picture; (0, 0) for other pictures."""
    if not isinstance(picture, TiffImagePlugin.TiffImageFile):
        return 0, 0
    sides = (picture.tag_v2.get(tag) for tag in (TiffImagePlugin.TILEWIDTH, TiffImagePlugin.TILELENGTH))
    width, height = (side if isinstance(side, int) else 0 for side in sides)
    return width, height


def _check_jpeg(data: bytes) -> None:
    if data.count(b"\xff\xda") > MAX_JPEG_SCANS:
        raise InvalidImage("the JPEG is built of hundreds of layers and would take minutes: save it again", reason="unsupported")
    if not re.search(rb"\xff[\xc0-\xcf]..[\x08\x0c]", data, re.DOTALL):  # no frame header, so no width either
        raise _damaged("JPEG")


def _damaged(kind: str) -> InvalidImage:
    return InvalidImage(f"the {kind} picture is damaged or incomplete: upload or save it again", reason="truncated")


def _too_many(pixels: str, limit: int | None = None) -> InvalidImage:
    allowed = "" if limit is None else f" and at most {limit / 1e6:g} million are decoded"
    return InvalidImage(
        f"the picture has {pixels} pixels{allowed}: save it smaller, or raise SEMBLANCE_MAX_MEGAPIXELS", reason="too_many_pixels"
    )


@contextmanager
def _damage_named(kind: str) -> Iterator[None]:
    """Say what Pillow's many exceptions on damaged bytes mean."""
    try:
        yield
    except InvalidImage:
        raise
    except (PillowImage.DecompressionBombError, PillowImage.DecompressionBombWarning):
        raise _too_many("far too many") from None
    except Exception as error:  # damaged bytes raise whatever the parser happened to stumble over
        if "not identified by this driver" in str(error):
            raise InvalidImage(f"the {kind} picture has no pixels (width or height 0): save it again", reason="empty") from None
        if isinstance(error, NotImplementedError) or re.search(
            r"not available|[Uu]nsupported|[Uu]nknown|not supported", str(error)
        ):
            message = f"this kind of {kind} cannot be read ({error}): save it as an ordinary JPEG or PNG"
            raise InvalidImage(message, reason="unsupported") from None
        raise _damaged(kind) from None


@contextmanager
def _pillow_warnings_ignored() -> Iterator[None]:
    """Keep Pillow's remarks about odd metadata out of the log; other modules' warnings stay as they are."""
    with _WARNING_FILTERS, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


def _memory_bounded(picture: ImageFile.ImageFile) -> AbstractContextManager[object]:
    """Let one large picture be decoded at a time, and one AVIF: its header may claim to be smaller than what it holds."""
    large = any(math.prod(size) > LARGE_PIXELS for size in (picture.size, _block(picture)))
    return _ONE_LARGE if large or picture.format == "AVIF" else nullcontext()


def _orientation(image: Image) -> int:
    """Read how the camera was held: 1 (upright) to 8."""
    try:
        with _pillow_warnings_ignored():
            value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged metadata of a picture that decodes
        return 1
    return value if isinstance(value, int) else 1


def _as_rgb(image: Image) -> Image:
    """Convert any mode to RGB; the input itself if it is RGB already."""
    if image.has_transparency_data and not image.mode.startswith("I"):
        return _over_white(image)
    if image.mode == "RGB":
        return image
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _from_16_bit(image)
    if image.mode == "CMYK" and isinstance(image, JpegImagePlugin.JpegImageFile) and "adobe" not in image.info:
        # Pillow undoes Adobe's inversion for every CMYK JPEG; one without Adobe's marker was never inverted.
        return ImageChops.invert(image).convert("RGB")
    if image.mode == "F":
        raise InvalidImage("the picture holds measurements, not colours (mode F): save it as 8-bit", reason="unsupported")
    try:
        return image.convert("RGB")
    except ValueError:
        raise InvalidImage(f"colours of mode {image.mode} cannot be read: save the picture as RGB", reason="unsupported") from None


def _over_white(image: Image) -> Image:
    straight = image.convert("LA") if image.mode == "La" else image
    rgba = straight if straight.mode == "RGBA" else straight.convert("RGBA")
    white = PillowImage.new("RGB", rgba.size, "white")
    white.paste(rgba, mask=rgba.getchannel("A"))
    return white


def _from_16_bit(image: Image) -> Image:
    values = np.asarray(image).astype(np.int64).clip(0, 0xFFFF)
    return PillowImage.fromarray((values >> 8).astype(np.uint8)).convert("RGB")
