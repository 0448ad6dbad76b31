"""The torch encoder: batches, arithmetic, fingerprints; the own bundle gives what OpenVINO gives."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from engine.encoders.projection import Projection, fit_projection
from engine.encoders.torch import Backbone, TorchEncoder, digest_of, pixels_of, use_threads
from engine.errors import BundleError, ConfigurationError, ModelError

BUNDLE = Path(__file__).parents[1] / "engine" / "bundles" / "default"


class Toy(nn.Module):
    """Features of a picture: its pixels mixed; of a text: its characters counted and mixed."""

    def __init__(self, width: int, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.mix = nn.Linear(3 * 8 * 8, width)


def toy(width: int = 64, seed: int = 0, digest: str = "a" * 64, batches: list[int] | None = None) -> Backbone:
    model, seen = Toy(width, seed), [] if batches is None else batches

    def read_texts(texts):
        seen.append(len(texts))
        counts = torch.zeros(len(texts), 192)
        for row, text in enumerate(texts):
            for letter in text.encode():
                counts[row, letter % 192] += 1
        return {"counts": counts}

    def read_images(images):
        seen.append(len(images))
        assert all(image.mode == "RGB" and image.size == (8, 8) for image in images)
        return {"pixels": torch.from_numpy(pixels_of(images)).float().flatten(1) / 255}

    return Backbone(
        name="toy",
        digest=digest,
        width=width,
        image_size=8,
        modules=model,
        read_images=read_images,
        read_texts=read_texts,
        embed_images=lambda inputs: model.mix(inputs["pixels"]),
        embed_texts=lambda inputs: model.mix(inputs["counts"]),
    )


def test_long_inputs_are_cut_into_batches_and_keep_their_order() -> None:
    batches: list[int] = []
    encoder = TorchEncoder(toy(batches=batches), device="cpu")
    texts = [chr(97 + n % 26) * (1 + n * 7 % 23) for n in range(75)]
    together = encoder.encode_texts(texts)
    assert sorted(batches, reverse=True) == [32, 32, 11]
    for n in (0, 31, 32, 74):
        np.testing.assert_allclose(together[n], encoder.encode_texts([texts[n]])[0], atol=1e-6)
    batches.clear()
    assert encoder.encode_images([Image.new("L", (20, 9), n) for n in range(40)]).shape == (40, 256)
    assert batches == [16, 16, 8]


def test_weights_are_not_touched_by_use() -> None:
    backbone = toy()
    encoder, before = TorchEncoder(backbone, device="cpu"), digest_of(backbone.modules)
    encoder.encode_texts(["a"])
    assert digest_of(backbone.modules) == before
    assert not encoder._backbone.modules.training
    assert encoder.text_features(["a"]).shape == (1, 64)


def test_bfloat16_is_near_float32() -> None:
    exact, rough = (TorchEncoder(toy(), device="cpu", precision=p) for p in ("fp32", "bf16"))
    one, other = exact.encode_texts(["red mug"]), rough.encode_texts(["red mug"])
    assert 0.999 < float((one @ other.T)[0, 0])
    assert not np.array_equal(one, other)


def test_numbers_out_of_range_are_an_error_with_a_remedy() -> None:
    backbone = toy()
    nn.init.constant_(backbone.modules.mix.weight, torch.inf)
    with pytest.raises(ModelError, match="SEMBLANCE_PRECISION=fp32"):
        TorchEncoder(backbone, device="cpu").encode_texts(["a"])


def test_devices() -> None:
    assert TorchEncoder(toy(), device="auto").encode_texts(["a"]).shape == (1, 256)
    with pytest.raises(ConfigurationError, match="auto, cpu or cuda"):
        TorchEncoder(toy(), device="openvino")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there() -> None:
    with pytest.raises(ConfigurationError, match="SEMBLANCE_DEVICE=cpu"):
        TorchEncoder(toy(), device="cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("precision", ["auto", "fp32", "bf16"])
def test_a_gpu_gives_what_the_processor_gives(precision: str) -> None:
    images = [Image.new("RGB", (9, 9), (n, 2 * n % 256, 7)) for n in range(300)]
    exact = TorchEncoder(toy(), device="cpu").encode_images(images)
    assert np.sum(exact * TorchEncoder(toy(), device="cuda", precision=precision).encode_images(images), axis=1).min() > 0.999


def test_the_digest_covers_names_types_values_and_preprocessing() -> None:
    one, same, other = Toy(4, seed=0), Toy(4, seed=0), Toy(4, seed=1)
    assert digest_of(one) == digest_of(same)
    assert len({digest_of(one), digest_of(other), digest_of(one, "a"), digest_of(one, "a", "b"), digest_of(one, "ab")}) == 5
    assert digest_of(one.bfloat16()) != digest_of(same)
    flat, tall = (nn.Linear(*shape, bias=False) for shape in ((2, 3), (3, 2)))
    nn.init.zeros_(flat.weight), nn.init.zeros_(tall.weight)
    assert digest_of(flat) != digest_of(tall)
    with torch.no_grad():
        same.mix.bias[2] += 1e-6
    assert digest_of(same) != digest_of(Toy(4, seed=0))


def test_the_fingerprint_covers_model_and_projection() -> None:
    rows = np.random.default_rng(0).standard_normal((2, 300, 300)).astype(np.float32)
    fitted = [fit_projection(some, some[:0]) for some in rows]
    encoders = [
        TorchEncoder(toy(300), device="cpu"),
        TorchEncoder(toy(300, digest="b" * 64), device="cpu"),
        *(TorchEncoder(toy(300), projection=p, device="cpu") for p in fitted),
    ]
    assert len({encoder.fingerprint for encoder in encoders}) == 4
    assert encoders[0].fingerprint == TorchEncoder(toy(300), projection=Projection.default(300), device="cpu").fingerprint
    assert TorchEncoder(toy(256, digest="c" * 64), device="cpu").fingerprint == "c" * 16


def test_threads_are_set_when_asked_for() -> None:
    before = torch.get_num_threads()
    use_threads(0)
    assert torch.get_num_threads() == before
    use_threads(1)
    assert torch.get_num_threads() == 1
    use_threads(before)


class TestBundle:
    def test_is_interchangeable_with_openvino(self) -> None:
        from engine.encoders.openvino import OpenVINOEncoder

        torch_encoder, openvino_encoder = TorchEncoder.from_bundle(BUNDLE, device="cpu"), OpenVINOEncoder.load(BUNDLE)
        assert torch_encoder.fingerprint == openvino_encoder.fingerprint
        assert torch_encoder.name == openvino_encoder.name
        assert torch_encoder.image_size == openvino_encoder.image_size
        texts = ["a red mug", "两只狗在雪地里跑", "", "blue running shoes for men, size 44"]
        images = [Image.effect_mandelbrot((300, 200), (-2, -1, 1, 1), n).convert("RGB") for n in (20, 60)]
        assert np.sum(torch_encoder.encode_texts(texts) * openvino_encoder.encode_texts(texts), axis=1).min() > 0.98
        assert np.sum(torch_encoder.encode_images(images) * openvino_encoder.encode_images(images), axis=1).min() > 0.95

    def test_no_bundle(self, tmp_path: Path) -> None:
        with pytest.raises(BundleError):
            TorchEncoder.from_bundle(tmp_path, device="cpu")
