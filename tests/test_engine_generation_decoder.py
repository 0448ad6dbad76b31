"""The decoder of a bundle: a tiny one with random weights, in the real format, run as the shipped one is."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from engine.drawings import GenerationRequest
from engine.errors import BundleError
from engine.generation.decoder import FILES, MANIFEST, Decoder, read_manifest
from engine.protocols import Generator
from engine.training.drawing.autoencoder import Autoencoder, AutoencoderShape
from engine.training.drawing.export import Trained, export_decoder
from engine.training.drawing.flow import Drawing, FlowShape

TINY = FlowShape(outer=8, middle=16, inner=32, layers=1, heads=2, tokens=2, signal=32, landmarks=16, components=8)


def shaken(module: torch.nn.Module) -> None:
    """Give parameters that start at zero something to say."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    drawing, autoencoder = Drawing(TINY), Autoencoder(AutoencoderShape(8, 16, 8, 4))
    shaken(drawing)
    shaken(autoencoder.decoder)
    with torch.no_grad():
        drawing.flow.gaussian.spread.abs_().add_(0.1)
        drawing.flow.gaussian.rest.abs_().add_(0.1)
    trained = Trained("tiny", "0123456789abcdef", 4, 2.0, 4, 0.7, {"seed": 0})
    return export_decoder(autoencoder, drawing, tmp_path_factory.mktemp("decoder") / "decoder", trained)


@pytest.fixture(scope="module")
def decoder(folder: Path) -> Decoder:
    return Decoder.load(folder, threads=1)


def asked(seed: int = 0, **fields: object) -> GenerationRequest:
    vector = np.random.default_rng(3).normal(size=(1, 256)).astype(np.float32)
    return replace(GenerationRequest(vector / np.linalg.norm(vector), seed=seed), **fields)  # type: ignore[arg-type]


def test_it_is_a_generator(decoder: Decoder) -> None:
    assert isinstance(decoder, Generator)
    assert decoder.name.startswith("decoder:tiny@")
    assert decoder.size == 128


def test_the_same_seed_gives_the_same_pixels_and_another_seed_others(decoder: Decoder) -> None:
    first, again, other = (decoder.generate(asked(seed))[0].pixels for seed in (7, 7, 8))
    assert np.array_equal(first, again)
    assert np.abs(first.astype(int) - other).mean() > 1


def test_a_drawing_does_not_depend_on_how_many_are_drawn_with_it(decoder: Decoder) -> None:
    four = decoder.generate(asked(4, count=4))
    assert [drawing.seed for drawing in four] == [4, 5, 6, 7]
    assert np.array_equal(four[3].pixels, decoder.generate(asked(7))[0].pixels)


def test_a_drawing_depends_on_what_is_asked(decoder: Decoder) -> None:
    other = GenerationRequest(np.eye(1, 256, dtype=np.float32))
    assert not np.array_equal(decoder.generate(asked())[0].pixels, decoder.generate(other)[0].pixels)


@pytest.mark.parametrize("size", [64, 128, 200])
def test_a_drawing_has_the_size_asked_for(decoder: Decoder, size: int) -> None:
    [drawing] = decoder.generate(asked(size=size))
    assert drawing.pixels.shape == (size, size, 3)
    assert drawing.pixels.dtype == np.uint8
    assert drawing.synthetic
    assert drawing.model == decoder.name
    assert drawing.similarity is None


def test_other_numbers_of_steps_and_other_guidance_are_followed(decoder: Decoder) -> None:
    drawn = [
        decoder.generate(asked(steps=steps, guidance=guidance))[0].pixels for steps, guidance in ((4, None), (6, None), (4, 9.0))
    ]
    assert not np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])


def test_without_guidance_many_steps_do_not_ask_for_anything(decoder: Decoder) -> None:
    one, zero = (decoder.generate(asked(steps=6, guidance=guidance))[0].pixels for guidance in (1.0, 0.0))
    other = GenerationRequest(np.eye(1, 256, dtype=np.float32), steps=6, guidance=0.0)
    assert np.array_equal(zero, decoder.generate(other)[0].pixels)
    assert not np.array_equal(one, zero)


def test_redrawing_a_picture_a_little_stays_nearer_to_it_than_redrawing_it_whole(decoder: Decoder) -> None:
    picture = Image.new("RGB", (50, 40), (250, 20, 20))
    little, whole = (decoder.generate(asked(image=picture, strength=s, steps=8))[0].pixels.astype(int) for s in (0.2, 1.0))
    none = decoder.generate(asked(steps=8))[0].pixels.astype(int)
    assert np.array_equal(whole, none)
    assert not np.array_equal(little, whole)


@pytest.mark.parametrize("name", FILES)
def test_an_altered_file_is_named(folder: Path, tmp_path: Path, name: str) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    data = bytearray((copy / name).read_bytes())
    data[-1] ^= 1
    (copy / name).write_bytes(data)
    with pytest.raises(BundleError, match=rf"{name}.*digest.*copy the bundle again"):
        Decoder.load(copy)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 99}', '{"format": 1}', '{"format": 2}', '{"format": 2, "files": {}}'])
def test_a_manifest_that_cannot_be_used_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(BundleError, match=r"decoder\.json"):
        read_manifest(tmp_path)


def test_a_folder_without_a_decoder_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"holds no decoder\.json"):
        read_manifest(tmp_path)


def test_a_file_the_manifest_does_not_list_is_missed(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    fields = json.loads((copy / MANIFEST).read_text())
    del fields["files"]["flow.bin"]
    (copy / MANIFEST).write_text(json.dumps(fields))
    with pytest.raises(BundleError, match=r"does not list flow\.bin"):
        read_manifest(copy)
