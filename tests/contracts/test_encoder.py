"""Every `Encoder`: unit rows in input order, one picture one vector however it comes, and no input that breaks it."""

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.config import Settings
from engine.encoders.images import ENOUGH, decode, read_bytes
from engine.protocols import Encoder
from engine.testing import FakeEncoder

BUNDLE = Path(__file__).parents[2] / "engine" / "bundles" / "default"
TEXTS = ["red mug", "blue shoe", "a photo of a green mug", "mug", "red", "green shoe", "a photo of a blue mug, red and green"]


def fake(_) -> Encoder:
    return FakeEncoder()


def openvino(_) -> Encoder:
    from engine.encoders.openvino import OpenVINOEncoder

    return OpenVINOEncoder.load(BUNDLE)


def torch_bundle(_) -> Encoder:
    from engine.encoders.torch import TorchEncoder, use_threads

    use_threads(1)  # OpenMP's threads wait by spinning: beside other work on few cores two are slower than one
    return TorchEncoder.from_bundle(BUNDLE, device="cpu")


def foreign(fixture: str, kind: str):
    def build(request: pytest.FixtureRequest) -> Encoder:
        from engine.encoders.backbones import load_encoder

        return load_encoder(f"{kind}:{request.getfixturevalue(fixture)}", Settings(device="cpu"))

    build.__name__ = fixture
    return build


KINDS = [
    fake,
    openvino,
    torch_bundle,
    foreign("open_clip_folder", "open_clip"),
    foreign("hf_clip", "hf"),
    foreign("hf_siglip", "hf"),
]


@pytest.fixture(scope="module", params=KINDS, ids=lambda build: build.__name__)
def encoder(request: pytest.FixtureRequest) -> Iterator[Encoder]:
    return request.param(request)


def picture(seed: int, width: int = 90, height: int = 60) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def check_rows(vectors: np.ndarray, count: int) -> None:
    assert vectors.shape == (count, 256)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-3)


def cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.sum(one * other, axis=1)


def test_says_what_it_is(encoder: Encoder) -> None:
    assert encoder.name
    assert 8 <= len(encoder.fingerprint) <= 64
    assert encoder.image_size >= 16


def test_nothing_in_nothing_out(encoder: Encoder) -> None:
    check_rows(encoder.encode_texts([]), 0)
    check_rows(encoder.encode_images([]), 0)


def test_a_batch_equals_its_rows(encoder: Encoder) -> None:
    texts = [f"{text} {'red mug ' * (n % 5)}" for n, text in enumerate(TEXTS * 6)]
    images = [picture(seed, 40 + seed, 90 - seed) for seed in range(18)]
    for encode, items in ((encoder.encode_texts, texts), (encoder.encode_images, images)):
        together = encode(items)
        check_rows(together, len(items))
        alone = np.concatenate([encode([item]) for item in items])
        assert cosines(together, alone).min() > 0.999


def test_the_same_again_is_the_same(encoder: Encoder) -> None:
    images = [picture(seed) for seed in range(3)]
    np.testing.assert_allclose(encoder.encode_texts(TEXTS), encoder.encode_texts(TEXTS), atol=1e-5)
    np.testing.assert_allclose(encoder.encode_images(images), encoder.encode_images(images), atol=1e-5)


def test_different_things_differ(encoder: Encoder) -> None:
    red, blue = (Image.new("RGB", (50, 50), colour) for colour in ("red", "blue"))
    assert cosines(encoder.encode_images([red]), encoder.encode_images([blue]))[0] < 0.9999
    assert cosines(encoder.encode_texts(["red mug"]), encoder.encode_texts(["blue shoe"]))[0] < 0.9999


def test_one_picture_has_one_vector_however_it_comes(encoder: Encoder, tmp_path: Path) -> None:
    for width, height in ((700, 380), (90, 60), (1200, 900)):
        buffer = io.BytesIO()
        picture(1, width, height).save(buffer, "JPEG", quality=92)
        (tmp_path / "photo.jpg").write_bytes(buffer.getvalue())
        read = decode(read_bytes(tmp_path / "photo.jpg", 10**7), size=encoder.image_size, max_pixels=10**7)
        with Image.open(buffer) as undecoded:
            vectors = encoder.encode_images([read, undecoded, decode(buffer.getvalue(), size=None, max_pixels=10**7)])
        scaled = min(width, height) >= 2 * ENOUGH * encoder.image_size  # its pixels differ a little from those decoded in full
        assert cosines(vectors[:1], vectors[1:]).min() > (0.99 if scaled else 0.9999)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16", "YCbCr"])
@pytest.mark.parametrize("size", [(1, 1), (300, 2), (7, 500)])
def test_any_mode_and_size(encoder: Encoder, mode: str, size: tuple[int, int]) -> None:
    image = picture(2, *size).convert("L").convert(mode) if mode == "I;16" else picture(2, *size).convert(mode)
    check_rows(encoder.encode_images([image]), 1)
    assert (image.mode, image.size) == (mode, size)


@pytest.mark.parametrize(
    "text", ["", "   ", "红色的杯子", "🥿👟", "a\x00b", "\ud800", "x" * 20_000, "word " * 3_000, "<|endoftext|> <eos>"]
)
def test_any_text(encoder: Encoder, text: str) -> None:
    check_rows(encoder.encode_texts([text, "red mug"]), 2)


def test_several_threads_at_once(encoder: Encoder) -> None:
    images = [picture(seed) for seed in range(8)]
    texts, pictures = encoder.encode_texts(TEXTS), encoder.encode_images(images)
    with ThreadPoolExecutor(6) as pool:
        some_texts = [pool.submit(encoder.encode_texts, TEXTS) for _ in range(6)]
        some_images = [pool.submit(encoder.encode_images, images) for _ in range(6)]
        assert all(cosines(texts, future.result()).min() > 0.999 for future in some_texts)
        assert all(cosines(pictures, future.result()).min() > 0.999 for future in some_images)
