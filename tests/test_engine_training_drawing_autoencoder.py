"""The autoencoder: a linear encoder known before training, and a decoder that starts as its inverse and gets better."""

from pathlib import Path

import numpy as np
import pytest
import torch

from engine.training.drawing.autoencoder import Autoencoder
from engine.training.drawing.fitting import Fit, fit_autoencoder, latents_of, picture_loss, to_model


def quiet(_what: str, _done: int, _total: int) -> None:
    pass


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    """Smooth colour gradients with one sharp edge each."""
    random = np.random.default_rng(0)
    ramp = np.linspace(0, 1, 64)
    pixels = [np.outer(ramp, np.ones(64))[..., None] * random.integers(60, 255, 3) for _ in range(24)]
    for number, picture in enumerate(pixels):
        picture[:, : 8 + number] = 255
    return np.stack(pixels).astype(np.uint8)


def test_pixels_are_scaled_and_their_channels_come_first(pictures: np.ndarray) -> None:
    scaled = to_model(pictures)
    assert scaled.shape == (24, 3, 64, 64)
    assert (scaled.min(), scaled.max()) == (-1.0, 1.0)
    assert np.allclose((scaled[3, 1].numpy() + 1) * 127.5, pictures[3, :, :, 1])


def test_it_starts_at_a_usable_picture(pictures: np.ndarray) -> None:
    module = Autoencoder()
    module.start(to_model(pictures))
    with torch.no_grad():
        drawn = module(to_model(pictures))
    assert (drawn - to_model(pictures)).square().mean() < 0.05 * to_model(pictures).var()


def test_colours_have_variance_one_and_come_first(pictures: np.ndarray) -> None:
    module = Autoencoder()
    module.start(to_model(pictures))
    latents = latents_of(module, pictures, quiet).astype(np.float32)
    assert latents.shape == (24, 8, 8, 8)
    assert latents[:, :2].std((0, 2, 3)) == pytest.approx([1, 1], abs=0.1)
    assert (np.diff(latents[:, 3:].std((0, 2, 3))) < 0).all()


def test_the_loss_sees_a_lost_edge(pictures: np.ndarray) -> None:
    wanted = to_model(pictures)
    shifted = torch.roll(wanted, 1, 3)
    assert picture_loss(wanted, wanted, 1.0) == 0
    assert picture_loss(shifted, wanted, 1.0) > picture_loss(shifted, wanted, 0.0)


def test_fitting_lowers_the_loss_and_goes_on_where_it_was(pictures: np.ndarray, tmp_path: Path) -> None:
    checkpoint = tmp_path / "autoencoder.pt"
    fit = Fit(steps=3, batch=8, crop=32, warmup=1, average=0.5)
    fit_autoencoder(pictures, checkpoint, fit, 0, quiet)
    assert torch.load(checkpoint, weights_only=True)["step"] == 3
    steps: list[int] = []
    fitted = fit_autoencoder(
        pictures, checkpoint, Fit(steps=50, batch=8, crop=32, warmup=1, average=0.5), 0, lambda _w, d, _t: steps.append(d)
    )
    assert steps == [50]
    start = Autoencoder()
    start.start(to_model(pictures))
    with torch.no_grad():
        losses = [float(picture_loss(module(to_model(pictures)), to_model(pictures), 1.0)) for module in (start.eval(), fitted)]
    assert losses[1] < losses[0]
