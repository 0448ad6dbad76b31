"""The serving encoder: any input, any batch, any thread, the same vectors; and no torch."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from engine.build import BUNDLES
from engine.encoders.openvino import MANY_IMAGES, TOKENS_PER_BATCH, OpenVINOEncoder, _by_length
from engine.encoders.texts import STEP
from engine.encoders.torch import TorchEncoder
from engine.errors import InvalidImage

DEFAULT = BUNDLES / "default"
GOLDEN = Path(__file__).parent / "golden"
PICTURES = Path(__file__).parents[1] / "examples" / "emoji" / "images"
TOLERANCE = {"fp32": 0.9995, "bf16": 0.985, "auto": 0.985}


@pytest.fixture(scope="module")
def encoder() -> OpenVINOEncoder:
    return OpenVINOEncoder.load(DEFAULT)


@pytest.fixture(scope="module")
def golden() -> dict[str, object]:
    return json.loads((GOLDEN / "encoder.json").read_text(encoding="utf-8")) | dict(np.load(GOLDEN / "encoder.npz"))


def noise(size: tuple[int, int], mode: str = "RGB", seed: int = 0) -> Image.Image:
    data = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(data).convert(mode)


def cosines(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    assert np.linalg.norm(left, axis=1) == pytest.approx(np.ones(len(left)), abs=1e-3)
    return (left * right).sum(1)


@pytest.mark.parametrize("precision", sorted(TOLERANCE))
def test_golden_vectors(precision: str, golden: dict[str, object]) -> None:
    encoder = OpenVINOEncoder.load(DEFAULT, precision=precision)  # type: ignore[arg-type]
    assert encoder.fingerprint == golden["fingerprint"], "a new bundle: run python tests/golden/write_encoder.py"
    images = [Image.open(PICTURES / name).convert("RGB") for name in golden["pictures"]]  # type: ignore[attr-defined]
    assert cosines(encoder.encode_texts(golden["texts"]), golden["texts_vectors"]).min() >= TOLERANCE[precision]  # type: ignore[arg-type]
    assert cosines(encoder.encode_images(images), golden["images"]).min() >= TOLERANCE[precision]  # type: ignore[arg-type]


def test_torch_runs_the_same_model() -> None:
    ours, theirs = (
        OpenVINOEncoder.load(DEFAULT, precision="fp32"),
        TorchEncoder.from_bundle(DEFAULT, device="cpu", precision="fp32"),
    )
    texts = ["red shoes", "", "两个孩子在草地上玩耍", "x" * 2_000]
    assert cosines(ours.encode_texts(texts), theirs.encode_texts(texts)).min() >= 0.999
    images = [noise((64, 48)), noise((256, 256), seed=1), Image.new("RGB", (300, 100), "red")]
    assert cosines(ours.encode_images(images), theirs.encode_images(images)).min() >= 0.999
    assert ours.image_size == theirs.image_size


def test_nothing_gives_no_rows(encoder: OpenVINOEncoder) -> None:
    for vectors in (encoder.encode_texts([]), encoder.encode_images([])):
        assert vectors.shape == (0, 256)
        assert vectors.dtype == np.float32


def test_a_batch_is_its_parts(encoder: OpenVINOEncoder) -> None:
    texts = ["shoes", "a much longer sentence about a dog that runs along a beach at sunset", "", "红色的鞋", "a b c d e f g"] * 9
    batch = encoder.encode_texts(texts)
    assert cosines(batch, np.concatenate([encoder.encode_texts([text]) for text in texts])).min() > 0.999
    images = [noise((90, 60), seed=seed) for seed in range(11)]
    parts = np.concatenate([encoder.encode_images([image]) for image in images])
    assert cosines(encoder.encode_images(images), parts).min() > 0.995


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "CMYK", "1", "LA"])
@pytest.mark.parametrize("size", [(1, 1), (256, 256), (999, 3)])
def test_any_mode_and_size_is_embedded(encoder: OpenVINOEncoder, mode: str, size: tuple[int, int]) -> None:
    vector = encoder.encode_images([noise(size, mode)])
    assert np.isfinite(vector).all()
    assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-3)


def test_a_picture_already_squashed_gives_the_same_vector(encoder: OpenVINOEncoder) -> None:
    from engine.encoders.images import squash

    image = noise((700, 400))
    both = encoder.encode_images([image, squash(image, encoder.image_size)])
    assert both[0] @ both[1] > 0.9999


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.characters(), max_size=200))
def test_any_unicode_is_embedded(encoder: OpenVINOEncoder, text: str) -> None:
    vector = encoder.encode_texts([text])
    assert np.isfinite(vector).all()
    assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize(
    "text", ["", " ", "\x00", "\ud800", "a" * 10_000, "字" * 10_000, "👩‍👩‍👧‍👦" * 500, "<s></s><pad>", "\n\t\r"]
)
def test_awkward_texts_are_embedded(encoder: OpenVINOEncoder, text: str) -> None:
    assert np.linalg.norm(encoder.encode_texts([text])) == pytest.approx(1.0, abs=1e-3)


def test_threads_get_their_own_answers(encoder: OpenVINOEncoder) -> None:
    texts = [f"product number {n}" for n in range(24)]
    images = [noise((40, 40), seed=seed) for seed in range(8)]
    alone_texts, alone_images = encoder.encode_texts(texts), encoder.encode_images(images)
    with ThreadPoolExecutor(8) as pool:
        many_texts = list(pool.map(lambda n: encoder.encode_texts([texts[n]])[0], range(24)))
        many_images = list(pool.map(lambda n: encoder.encode_images([images[n]])[0], range(8)))
    assert cosines(np.stack(many_texts), alone_texts).min() > 0.999
    assert cosines(np.stack(many_images), alone_images).min() > 0.995


def test_many_pictures_at_once_are_their_parts(encoder: OpenVINOEncoder) -> None:
    images = [Image.open(file) for file in sorted(PICTURES.iterdir())[: MANY_IMAGES + 3]]
    alone = np.concatenate([encoder.encode_images([image]) for image in images])
    with ThreadPoolExecutor(2) as pool:
        for together in pool.map(encoder.encode_images, [images] * 2):
            assert cosines(together, alone).min() > 0.995
            assert ((together @ alone.T).argmax(axis=1) == np.arange(len(images))).all()


def test_an_error_of_one_among_many_pictures_is_raised(encoder: OpenVINOEncoder) -> None:
    with pytest.raises(InvalidImage):
        encoder.encode_images([noise((300, 300))] * MANY_IMAGES + [Image.new("F", (9, 9))])


def test_texts_come_in_few_shapes(encoder: OpenVINOEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The runtime keeps kernels of every shape it has met: with a shape for each batch a job grew by 18 KB a row."""
    shapes, run = set(), encoder._text.run
    monkeypatch.setattr(encoder._text, "run", lambda tokens, mask: shapes.add(mask.shape) or run(tokens, mask))
    random = np.random.default_rng(0)
    for _ in range(12):
        encoder.encode_texts(["shoe " * n for n in random.integers(1, 80, random.integers(1, 65))])
    assert all(texts.bit_count() == 1 and tokens % STEP == 0 for texts, tokens in shapes)


@given(lengths=st.lists(st.integers(1, 16).map(lambda steps: STEP * steps), max_size=200))
def test_every_text_is_in_a_batch_that_fits(lengths: list[int]) -> None:
    batches = list(_by_length(lengths))
    assert {row for batch in batches for row in batch} == set(range(len(lengths)))
    assert sum(len(set(batch)) for batch in batches) == len(lengths)
    assert all(len(batch).bit_count() == 1 for batch in batches)
    assert all(len(batch) * max(lengths[row] for row in batch) <= TOKENS_PER_BATCH for batch in batches)


@pytest.mark.parametrize(
    ("lengths", "shapes"),
    [
        ([8], [(1, 8)]),
        ([8, 12, 8, 8], [(4, 12)]),
        ([8, 8, 8], [(4, 8)]),
        ([12, 8, 12, 8, 12, 8, 12], [(4, 8), (4, 12)]),
        ([8] * 8 + [40], [(1, 40), (8, 8)]),
        ([64] * 20, [(4, 64), (16, 64)]),
    ],
)
def test_texts_are_cut_where_tokens_and_calls_cost_least(lengths: list[int], shapes: list[tuple[int, int]]) -> None:
    batches = list(_by_length(lengths))
    assert sorted((len(batch), max(lengths[row] for row in batch)) for batch in batches) == shapes


def test_it_finds_what_is_named(encoder: OpenVINOEncoder) -> None:
    images = encoder.encode_images([Image.open(PICTURES / name) for name in ("red-apple.webp", "dog-face.webp", "automobile.webp")])
    for texts in (["a red apple", "a dog", "a car"], ["苹果", "狗", "汽车"], ["Apfel", "Hund", "Auto"]):
        assert (encoder.encode_texts(texts) @ images.T).argmax(1).tolist() == [0, 1, 2]


SERVING = """
import sys, pathlib
from engine.encoders.openvino import OpenVINOEncoder
OpenVINOEncoder.load(pathlib.Path(sys.argv[1])).encode_texts(["shoes"])
print([name for name in ("torch", "timm", "transformers") if name in sys.modules])
print(sys.modules.get("openvino_telemetry"))
"""


def test_serving_needs_no_torch_and_phones_nobody() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SERVING, str(DEFAULT)], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1]
    )
    assert done.stdout.split("\n")[:2] == ["[]", "None"]
