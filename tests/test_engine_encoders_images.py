"""Pictures come in right side up, in the right colours, or are refused with a reason."""

import hashlib
import io
import os
import random
import struct
import threading
import time
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageFile, TiffImagePlugin
from PIL.PngImagePlugin import PngInfo

from engine.encoders.images import MAX_JPEG_SCANS, content_of, decode, read_bytes, squash
from engine.errors import InvalidImage

LIMIT = 64_000_000
LEFT, RIGHT = (200, 30, 40), (30, 60, 200)


def two_halves(width: int = 120, height: int = 80) -> Image.Image:
    """Red on the left, blue on the right."""
    image = Image.new("RGB", (width, height), LEFT)
    image.paste(RIGHT, (width // 2, 0, width, height))
    return image


def photo(width: int = 1000, height: int = 750) -> Image.Image:
    """Smooth colours with detail in them, like a photograph."""
    coarse = np.random.default_rng(7).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def saved(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def open_(data: bytes, size: int | None = 32) -> Image.Image:
    return decode(data, size=size, max_pixels=LIMIT)


def refused(data: bytes, size: int | None = 32, max_pixels: int = LIMIT) -> str:
    with pytest.raises(InvalidImage) as caught:
        decode(data, size=size, max_pixels=max_pixels)
    assert len(str(caught.value)) > 20
    return caught.value.reason


OUTCOMES = {"32 x 32", "not_an_image", "truncated", "too_many_pixels", "empty", "unsupported"}


def outcome(data: bytes) -> str:
    try:
        image = open_(data)
    except InvalidImage as error:
        return error.reason
    return f"{image.width} x {image.height}"


def near(pixel, expected, tolerance: int = 12) -> bool:
    return all(abs(int(a) - int(b)) <= tolerance for a, b in zip(pixel, expected, strict=True))


def shows_two_halves(image: Image.Image, tolerance: int = 12) -> bool:
    quarter, y = image.width // 8, image.height // 2
    return near(image.getpixel((quarter, y)), LEFT, tolerance) and near(
        image.getpixel((image.width - quarter, y)), RIGHT, tolerance
    )


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


def jpeg_claiming(width: int, height: int) -> bytes:
    data = bytearray(saved(two_halves(), "JPEG"))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def bmp_claiming(width: int, height: int) -> bytes:
    data = bytearray(saved(two_halves(), "BMP"))
    data[18:26] = struct.pack("<ii", width, height)
    return bytes(data)


def gif_claiming(width: int, height: int) -> bytes:
    data = bytearray(saved(two_halves(), "GIF"))
    data[6:10] = struct.pack("<HH", width, height)
    return bytes(data)


def webp_claiming(width: int, height: int) -> bytes:
    data = bytearray(saved(two_halves(), "WEBP"))
    data[26:30] = struct.pack("<HH", min(width, 16383), min(height, 16383))
    return bytes(data)


def tiled_tiff(side: int) -> bytes:
    """Write a grey TIFF of 20 x 20 pixels in one deflated tile of any size."""
    tile = zlib.compress(bytes(side * side) if side < 1000 else b"", 9)
    tags = [(256, 20), (257, 20), (258, 8), (259, 8), (262, 1), (277, 1), (322, side), (323, side), (324, 134), (325, len(tile))]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0) + tile


class TestAccepted:
    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
    @pytest.mark.parametrize("size", [None, 32])
    def test_every_format_decodes_to_rgb(self, kind: str, size: int | None) -> None:
        image = open_(saved(two_halves(), kind), size)
        assert image.mode == "RGB"
        assert image.size == ((120, 80) if size is None else (32, 32))
        assert shows_two_halves(image)

    def test_squashing_keeps_both_edges(self) -> None:
        image = open_(saved(two_halves(900, 60), "PNG"))
        assert near(image.getpixel((0, 16)), LEFT)
        assert near(image.getpixel((31, 16)), RIGHT)

    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("size", [None, 32])
    def test_camera_orientation_is_applied_once(self, kind: str, orientation: int, size: int | None) -> None:
        undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
        stored = two_halves() if orientation == 1 else two_halves().transpose(Image.Transpose(undo[orientation]))
        exif = Image.Exif()
        exif[0x0112] = orientation
        image = open_(saved(stored, kind, exif=exif), size)
        assert shows_two_halves(image, tolerance=20)
        assert shows_two_halves(squash(image, 32), tolerance=20)

    def test_a_lazily_opened_picture_is_turned_too(self) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        data = saved(two_halves().transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif)
        with Image.open(io.BytesIO(data)) as lazy:
            assert shows_two_halves(squash(lazy, 32))

    def test_a_damaged_orientation_is_ignored(self) -> None:
        data = saved(two_halves(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x05" + b"\x01\x12" * 9)
        assert shows_two_halves(open_(data))

    def test_jpeg_cmyk_with_adobes_inversion(self) -> None:
        data = saved(two_halves().convert("CMYK"), "JPEG", quality=95)
        assert b"Adobe" in data
        assert shows_two_halves(open_(data), tolerance=20)

    def test_jpeg_cmyk_that_was_never_inverted(self) -> None:
        inverted = Image.eval(two_halves().convert("CMYK"), lambda value: 255 - value)
        data = saved(inverted, "JPEG", quality=95)
        at = data.index(b"\xff\xee")
        plain = data[:at] + data[at + 2 + struct.unpack(">H", data[at + 2 : at + 4])[0] :]
        assert b"Adobe" not in plain
        assert shows_two_halves(open_(plain), tolerance=20)

    def test_tiff_cmyk(self) -> None:
        assert shows_two_halves(open_(saved(two_halves().convert("CMYK"), "TIFF")))

    @pytest.mark.parametrize("kind", ["PNG", "TIFF"])
    def test_16_bit_grey_keeps_its_brightness(self, kind: str) -> None:
        values = np.full((40, 40), 0x8000, np.uint16)
        values[:, 20:] = 0xF000
        image = open_(saved(Image.fromarray(values), kind))
        assert near(image.getpixel((4, 16)), (0x80,) * 3, 2)
        assert near(image.getpixel((28, 16)), (0xF0,) * 3, 2)

    @pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "PA", "La", "RGBa", "YCbCr", "HSV", "I", "I;16", "RGBX"])
    def test_every_mode_squashes_to_rgb(self, mode: str) -> None:
        via = {"La": "LA", "RGBa": "RGBA", "PA": "P", "RGBX": "RGB"}.get(mode, mode)
        source = two_halves().convert("L") if mode in {"I", "I;16", "1", "L"} else two_halves()
        before = source.convert(via).convert(mode)
        after = squash(before, 16)
        assert (after.mode, after.size) == ("RGB", (16, 16))
        assert before.mode == mode

    def test_a_lab_picture(self) -> None:
        spaces = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        assert shows_two_halves(squash(ImageCms.profileToProfile(two_halves(), *spaces, outputMode="LAB"), 16))

    @pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
    def test_transparency_lies_over_white(self, kind: str) -> None:
        image = Image.new("RGBA", (40, 40), (0, 0, 0, 0))
        image.paste((200, 30, 40, 128), (20, 0, 40, 40))
        shown = open_(saved(image, kind))
        assert near(shown.getpixel((4, 16)), (255, 255, 255), 3)
        assert near(shown.getpixel((28, 16)), (227, 142, 147), 4)

    @pytest.mark.parametrize("transparency", [0, b"\0\xff"])
    def test_palette_with_transparent_colour(self, transparency) -> None:
        image = Image.new("P", (40, 40), 0)
        image.putpalette([10, 10, 10, *LEFT])
        image.paste(1, (20, 0, 40, 40))
        shown = open_(saved(image, "PNG", transparency=transparency))
        assert near(shown.getpixel((4, 16)), (255, 255, 255), 3)
        assert near(shown.getpixel((28, 16)), LEFT, 3)

    @pytest.mark.parametrize("mode", ["RGB", "L"])
    def test_png_with_one_transparent_colour(self, mode: str) -> None:
        hidden = (0, 0, 0) if mode == "RGB" else 0
        image = Image.new(mode, (40, 40), hidden)
        assert near(open_(saved(image, "PNG", transparency=hidden)).getpixel((4, 4)), (255, 255, 255))

    @pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "AVIF", "TIFF"])
    def test_an_animation_shows_its_first_frame(self, kind: str) -> None:
        rest = [Image.new("RGB", (120, 80), colour) for colour in ("white", "black")]
        data = saved(two_halves(), kind, save_all=True, append_images=rest)
        assert shows_two_halves(open_(data))

    def test_phones_that_store_two_pictures_in_one_jpeg(self) -> None:
        data = saved(two_halves(), "MPO", save_all=True, append_images=[Image.new("RGB", (120, 80))])
        assert shows_two_halves(open_(data))

    def test_a_colour_profile_does_no_harm(self) -> None:
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        assert shows_two_halves(open_(saved(two_halves(), "JPEG", icc_profile=profile)))
        assert shows_two_halves(open_(saved(two_halves(), "JPEG", icc_profile=b"nonsense")))

    def test_a_polyglot_is_only_its_pixels(self) -> None:
        data = saved(two_halves(), "JPEG") + b"PK\x03\x04<script>alert(1)</script>"
        image = open_(data, None)
        assert shows_two_halves(image)
        assert image.info == {}

    def test_a_picture_of_one_pixel(self) -> None:
        assert open_(saved(Image.new("RGB", (1, 1), LEFT), "PNG")).getpixel((31, 31)) == LEFT

    def test_a_hairline_picture(self) -> None:
        assert open_(saved(two_halves(20_000, 1), "PNG")).size == (32, 32)

    def test_odd_metadata_does_not_warn(self) -> None:
        broken = bytearray(saved(two_halves(), "PNG", save_all=True, append_images=[Image.new("RGB", (120, 80))]))
        at = broken.index(b"acTL")
        broken[at + 4 : at + 8] = b"\0\0\0\0"
        broken[at + 12 : at + 16] = struct.pack(">I", zlib.crc32(bytes(broken[at : at + 12])))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert shows_two_halves(open_(bytes(broken)))


class TestAccuracy:
    @pytest.mark.parametrize("size", [224, 260])
    def test_scaled_decoding_gives_the_picture_of_full_decoding(self, size: int) -> None:
        data = saved(photo(), "JPEG", quality=90)
        exact = np.asarray(Image.open(io.BytesIO(data)).resize((size, size), Image.Resampling.BICUBIC), np.float32)
        fast = np.asarray(open_(data, size), np.float32)
        slow = np.asarray(squash(open_(data, None), size), np.float32)
        assert np.sqrt(np.mean((fast - exact) ** 2)) < 1.5
        assert np.sqrt(np.mean((fast - slow) ** 2)) < 1.5

    def test_scaled_decoding_is_used(self, monkeypatch: pytest.MonkeyPatch) -> None:
        seen = []
        load = ImageFile.ImageFile.load
        monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: seen.append(self.size) or load(self))
        open_(saved(photo(), "JPEG"), 224)
        assert seen[0] == (500, 375)

    def test_a_small_picture_is_enlarged_not_cropped(self) -> None:
        assert shows_two_halves(open_(saved(two_halves(16, 16), "PNG"), 224), tolerance=20)

    def test_squashing_again_changes_nothing(self) -> None:
        once = squash(photo(), 64)
        assert np.array_equal(np.asarray(once), np.asarray(squash(once, 64)))

    def test_a_picture_opened_and_not_yet_decoded_gives_the_same_pixels(self, tmp_path: Path) -> None:
        (tmp_path / "photo.jpg").write_bytes(saved(photo(), "JPEG"))
        expected = open_((tmp_path / "photo.jpg").read_bytes(), 224).tobytes()
        with Image.open(tmp_path / "photo.jpg") as lazy:
            assert squash(lazy, 224).tobytes() == expected
            assert squash(lazy, 224).tobytes() == expected
            assert lazy.size == (1000, 750)
            lazy.load()
            assert len(squash(lazy, 224).tobytes()) == len(expected)


class TestRefused:
    def test_no_bytes(self) -> None:
        assert refused(b"") == "empty"

    @pytest.mark.parametrize(
        "data", [b"hello, this is text", b"<html><body>", b"BMW, a car", b"\0" * 50, b"GIF", b"\xff\xd8", b"RIFF1234WAVE"]
    )
    def test_what_is_not_a_picture(self, data: bytes) -> None:
        assert refused(data) == "not_an_image"

    @pytest.mark.parametrize(
        ("data", "said"),
        [
            (b" <!DOCTYPE html><title>404</title>", "not a picture: it is a web page; use JPEG"),
            (b"red shoes, 2 pairs\n", r"begins with 'red shoes, 2 pairs'"),
            (b"\0\1\2\xff" * 9, "begins with the bytes 00 01 02 ff 00 01 02 ff"),
        ],
    )
    def test_what_it_is_instead_is_said(self, data: bytes, said: str) -> None:
        with pytest.raises(InvalidImage, match=said):
            open_(data)

    @pytest.mark.parametrize(
        "data",
        [
            b"\0\0\0\x18ftypheic\0\0\0\0",
            b"%PDF-1.7",
            b"8BPS\0\1",
            b'<?xml version="1.0"?><svg xmlns="">',
            b"\0\0\1\0\1\0",
            b"\xff\x0a\0",
        ],
    )
    def test_pictures_of_other_kinds(self, data: bytes) -> None:
        assert refused(data) == "unsupported"

    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
    @pytest.mark.parametrize("kept", [0.5, 0.9])
    def test_truncated(self, kind: str, kept: float) -> None:
        data = saved(photo(300, 200), kind)
        assert refused(data[: int(len(data) * kept)]) == "truncated"

    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF"])
    def test_truncated_within_the_header(self, kind: str) -> None:
        assert refused(saved(photo(300, 200), kind)[:20]) == "truncated"

    @pytest.mark.parametrize("claim", [png_header, jpeg_claiming, bmp_claiming, gif_claiming, webp_claiming])
    def test_bombs_are_refused_from_the_header(self, claim, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoding began"))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert refused(claim(30_000, 30_000)) == "too_many_pixels"
            assert refused(claim(10_000, 10_000)) == "too_many_pixels"

    def test_a_tiff_of_tiles_larger_than_the_picture(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert open_(tiled_tiff(64), size=None).size == (20, 20)
        monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoding began"))
        assert refused(tiled_tiff(20_480)) == "too_many_pixels"

    def test_megabytes_of_blanks_are_not_searched_for_a_drawing(self) -> None:
        began = time.process_time()
        assert refused(b" " * 20_000_000) == "not_an_image"
        assert time.process_time() - began < 0.1

    def test_a_damaged_picture_opened_and_not_yet_decoded(self) -> None:
        for kind in ("JPEG", "PNG"):
            data = saved(photo(300, 200), kind)
            with Image.open(io.BytesIO(data[: len(data) // 2])) as lazy, pytest.raises(InvalidImage) as caught:
                squash(lazy, 32)
            assert caught.value.reason == "truncated"

    def test_the_limit_is_ours_not_pillows(self) -> None:
        data = saved(Image.new("1", (14_000, 14_000)), "PNG")
        assert refused(data) == "too_many_pixels"
        assert decode(data, size=8, max_pixels=200_000_000).size == (8, 8)
        assert refused(saved(two_halves(), "PNG"), max_pixels=120 * 80 - 1) == "too_many_pixels"
        assert decode(saved(two_halves(), "PNG"), size=8, max_pixels=120 * 80).size == (8, 8)

    @pytest.mark.parametrize("claim", [png_header, jpeg_claiming, bmp_claiming])
    def test_no_width(self, claim) -> None:
        assert refused(claim(0, 80)) == "empty"

    def test_a_jpeg_of_endless_layers(self) -> None:
        data = saved(two_halves(), "JPEG", progressive=True)
        at = data.index(b"\xff\xda")
        assert shows_two_halves(open_(data))
        assert refused(data[:at] + data[at:-2] * MAX_JPEG_SCANS) == "unsupported"

    def test_a_picture_of_measurements(self) -> None:
        assert refused(saved(Image.new("F", (9, 9)), "TIFF")) == "unsupported"

    def test_a_giant_text_chunk(self) -> None:
        info = PngInfo()
        info.add_text("bomb", "x" * 2_000_000, zip=True)
        assert refused(saved(two_halves(), "PNG", pnginfo=info)) == "truncated"

    def test_tags_that_lie(self) -> None:
        ifd = TiffImagePlugin.ImageFileDirectory_v2()
        ifd[270] = "x" * 50
        data = bytearray(saved(two_halves(), "TIFF", tiffinfo=ifd))
        for at in range(8, len(data) - 4, 997):
            data[at : at + 4] = b"\xff\xff\xff\xff"
        assert outcome(bytes(data)) in OUTCOMES

    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
    def test_random_damage_is_a_picture_or_a_reason(self, kind: str) -> None:
        good, chance = saved(photo(64, 48), kind), random.Random(3)
        for _ in range(150):
            data = bytearray(good)
            for _ in range(chance.randint(1, 12)):
                data[chance.randrange(min(len(data), chance.choice([60, 400, 10**6])))] = chance.randrange(256)
            assert outcome(bytes(data)) in OUTCOMES


class TestReading:
    def test_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "a.jpg").write_bytes(b"12345")
        assert read_bytes(tmp_path / "a.jpg", 5) == b"12345"
        assert read_bytes(str(tmp_path / "a.jpg"), 5) == b"12345"

    def test_refusals(self, tmp_path: Path) -> None:
        (tmp_path / "empty.jpg").touch()
        (tmp_path / "big.jpg").write_bytes(b"123456")
        os.mkfifo(tmp_path / "pipe")
        cases = {"nowhere.jpg": "missing", "": "missing", "a\0b": "missing", "x" * 5000: "missing", "pipe": "missing"}
        for name, reason in {**cases, "empty.jpg": "empty", "big.jpg": "too_large"}.items():
            with pytest.raises(InvalidImage) as caught:
                read_bytes(f"{tmp_path}/{name}", 5)
            assert caught.value.reason == reason

    def test_an_endless_device(self) -> None:
        with pytest.raises(InvalidImage):
            read_bytes("/dev/zero", 5)


def test_content_is_domain_separated() -> None:
    assert len(content_of(b"a")) == 16
    assert content_of(b"a") != content_of(b"b")
    assert content_of(b"a") != hashlib.blake2b(b"a", digest_size=16).digest()


def test_many_threads_give_the_same_pixels() -> None:
    datas = [saved(photo(400 + 10 * i, 300), kind) for i in range(6) for kind in ("JPEG", "PNG", "WEBP")]
    alone = [open_(data).tobytes() for data in datas]
    filters = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda data: open_(data).tobytes(), datas * 4)) == alone * 4
    assert warnings.filters == filters


@pytest.mark.parametrize(("kind", "limit"), [("PNG", 1000), ("TIFF", 3000), ("AVIF", 64_000_000)])
def test_large_pictures_are_decoded_one_at_a_time(kind: str, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture, one whose tile is larger than it is, and one of a kind that may hold more than its header says."""
    inside, most, lock = [0], [0], threading.Lock()
    load = ImageFile.ImageFile.load

    def counted(self):
        with lock:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        time.sleep(0.005)
        loaded = load(self)
        with lock:
            inside[0] -= 1
        return loaded

    monkeypatch.setattr(ImageFile.ImageFile, "load", counted)
    monkeypatch.setattr("engine.encoders.images.LARGE_PIXELS", limit)
    data = tiled_tiff(64) if kind == "TIFF" else saved(two_halves(), kind)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(open_, [data] * 8))
    assert most[0] == 1
