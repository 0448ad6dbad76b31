"""Finishing the picture decoder on what the flow draws: it learns what was meant, through the eyes of a tower."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.encoders.heads import HeadShape
from engine.encoders.towers import ImageShape, ImageTower, StageShape
from engine.training.drawing.autoencoder import Autoencoder, AutoencoderShape
from engine.training.drawing.finishing import Finish, Finishable, Sight, chosen_vectors, finish_picture_decoder, losses
from engine.training.drawing.fitting import latents_of, to_model

SMALL = AutoencoderShape(8, 16, 8, 4, signal=8)
STAGES = tuple(StageShape(3, 2 if number in (1, 3, 5) else 1, 1, 8, 1) for number in range(7))
QUICK = Finish(steps=60, batch=16, rate=2e-2, warmup=1, average=0.5, noise=0.0, real=0.0, coarse=5.0)


@pytest.fixture(scope="module")
def tower() -> ImageTower:
    torch.manual_seed(0)
    return ImageTower(ImageShape(size=64, stem=8, stages=STAGES, features=32, head=HeadShape(inputs=32, hidden=16)))


@pytest.fixture(scope="module")
def material() -> tuple[Autoencoder, Finishable]:
    """Pictures of two kinds; the flow drew the same grey for all of them, and only the sketch tells which kind was meant."""
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    pixels = np.full((16, 128, 128, 3), 255, np.uint8)
    pixels[::2, 30:100, 30:100] = (220, 20, 20)
    pixels[1::2, 30:100, 30:100] = (20, 20, 220)
    autoencoder = Autoencoder(SMALL)
    autoencoder.start(to_model(pixels))
    latents = latents_of(autoencoder, pixels, lambda *_: None)
    means = np.zeros((16, 2_048), np.float16)
    means[::2, :8], means[1::2, :8] = 1.0, -1.0
    means += random.normal(size=means.shape).astype(np.float16) * np.float16(0.01)
    drawn = np.repeat(latents.astype(np.float32).mean(0, keepdims=True), 16, 0).astype(np.float16)
    return autoencoder, Finishable(drawn, means, np.arange(16), latents, pixels)


def test_it_learns_from_the_sketch_what_the_flow_left_open(
    material: tuple[Autoencoder, Finishable], tower: ImageTower, tmp_path: Path
) -> None:
    autoencoder, finishable = material
    finished = finish_picture_decoder(autoencoder.decoder, (finishable, [tower]), QUICK, (tmp_path / "run.pt", 0), lambda *_: None)
    latents, means = (torch.from_numpy(x[:2].astype(np.float32)) for x in (finishable.drawn, finishable.means))
    with torch.no_grad():
        red, blue = finished(latents, means)[:, :, 64, 64]
    assert red[0] - red[2] > 0.1, f"the red thing has the colour {red.tolist()}"
    assert blue[2] - blue[0] > 0.1, f"the blue thing has the colour {blue.tolist()}"


def test_it_goes_on_where_it_was(material: tuple[Autoencoder, Finishable], tower: ImageTower, tmp_path: Path) -> None:
    autoencoder, finishable = material
    steps: list[int] = []
    short = replace(QUICK, steps=2)
    finish_picture_decoder(autoencoder.decoder, (finishable, [tower]), short, (tmp_path / "run.pt", 0), lambda *_: None)
    saved = torch.load(tmp_path / "run.pt", weights_only=True)
    assert saved["step"] == 2
    longer = replace(QUICK, steps=50)
    again = (tmp_path / "run.pt", 0)
    finish_picture_decoder(autoencoder.decoder, (finishable, [tower]), longer, again, lambda _what, done, _all: steps.append(done))
    assert steps == [50]
    assert torch.load(tmp_path / "run.pt", weights_only=True)["curve"][-1]["step"] == 50


def test_the_losses_are_nothing_for_the_same_picture_and_grow_with_the_difference(tower: ImageTower) -> None:
    torch.manual_seed(0)
    wanted = torch.rand(4, 3, 128, 128) * 2 - 1
    sight = Sight(tower, (wanted.permute(0, 2, 3, 1).numpy() * 127 + 128).astype(np.uint8))
    with torch.no_grad():
        same, swapped = (losses(sight, pictures, wanted, QUICK) for pictures in (wanted.clone(), wanted.flip(0)))
    for name in ("coarse", "fine", "stages", "pooled"):
        assert same[name] < 1e-4, name
        assert swapped[name] > same[name] + 1e-4, name
    assert swapped["contrast"] > same["contrast"]


def test_texts_are_drawn_for_the_picture_they_describe() -> None:
    pictures, texts = np.eye(6, 256, dtype=np.float32), np.eye(4, 256, 100, dtype=np.float32)
    owners = np.array([0, 0, 2, 5])
    vectors, rows = chosen_vectors(pictures, texts, owners, 0)
    told = vectors[:, 100:].any(1)
    assert sorted(rows[told]) == [0, 2, 5]
    assert (~told).sum() == 2
    for vector, row, text in zip(vectors, rows, told, strict=True):
        assert owners[vector.argmax() - 100] == row if text else vector.argmax() == row
