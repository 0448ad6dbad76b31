"""The sketch: what is known in closed form must be exactly so."""

import pytest
import torch

from engine.training.drawing.sketch import Gaussian, Sketch, SketchShape, fit_sketch

SHAPE = SketchShape(numbers=24, landmarks=32, components=6)


def unit(rows: int, seed: int) -> torch.Tensor:
    vectors = torch.randn(rows, 256, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(vectors, dim=1)


@pytest.fixture
def fitted() -> tuple[Sketch, Gaussian, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    centres, which = unit(8, 1), torch.arange(400) % 8
    vectors = torch.nn.functional.normalize(centres[which] + 0.02 * torch.randn(400, 256), dim=1)
    latents = torch.randn(8, 24)[which] + 0.1 * torch.randn(400, 24)
    sketch, gaussian = Sketch(SHAPE), Gaussian(SHAPE)
    fit_sketch(sketch, gaussian, vectors, latents, vectors[:32])
    return sketch, gaussian, vectors, latents


def test_a_sketch_is_near_what_the_vector_means(fitted: tuple[Sketch, Gaussian, torch.Tensor, torch.Tensor]) -> None:
    sketch, _, vectors, latents = fitted
    around = (latents - latents.mean(0)).square().mean()
    assert (sketch(vectors) - latents).square().mean() < 0.2 * around


def test_the_sketch_of_nothing_is_the_mean_of_everything(fitted: tuple[Sketch, Gaussian, torch.Tensor, torch.Tensor]) -> None:
    sketch, _, _, latents = fitted
    assert torch.allclose(sketch(torch.zeros(1, 256))[0], latents.mean(0), atol=1e-5)


def test_only_the_direction_of_a_vector_counts(fitted: tuple[Sketch, Gaussian, torch.Tensor, torch.Tensor]) -> None:
    sketch, _, vectors, _ = fitted
    assert torch.allclose(sketch(vectors[:3]), sketch(7 * vectors[:3]), atol=1e-3)


def test_a_whole_step_is_its_two_halves(fitted: tuple[Sketch, Gaussian, torch.Tensor, torch.Tensor]) -> None:
    _, gaussian, _, _ = fitted
    at, mean = torch.randn(5, 24), torch.randn(5, 24)
    time, step = torch.full((5,), 0.25), torch.full((5,), 0.5)
    whole = at + 0.5 * gaussian(at, mean, time, step)
    half = at + 0.25 * gaussian(at, mean, time, step / 2)
    assert torch.allclose(whole, half + 0.25 * gaussian(half, mean, time + 0.25, step / 2), atol=1e-4)


def test_one_step_from_noise_draws_the_fitted_spread(fitted: tuple[Sketch, Gaussian, torch.Tensor, torch.Tensor]) -> None:
    _, gaussian, _, _ = fitted
    noise, mean = torch.randn(20_000, 24), torch.randn(1, 24).expand(20_000, -1)
    drawn = noise + gaussian(noise, mean, torch.zeros(20_000), torch.ones(20_000))
    assert torch.allclose(drawn.mean(0), mean[0], atol=0.05)
    assert torch.allclose(((drawn - mean) @ gaussian.basis).var(0), gaussian.spread, rtol=0.1)


@pytest.mark.parametrize("length", [0.0, 0.125, 1.0])
def test_steps_of_any_length_survive_the_arithmetic_they_are_drawn_in(
    fitted: tuple[Sketch, Gaussian, torch.Tensor, torch.Tensor], length: float
) -> None:
    _, gaussian, _, _ = fitted
    at, mean = torch.randn(64, 24), torch.randn(64, 24)
    time, step = torch.linspace(0, 0.9, 64) * (1 - length), torch.full((64,), length)
    exact = gaussian(at, mean, time, step)
    rounded = gaussian.bfloat16()(*(x.bfloat16() for x in (at, mean, time, step))).float()
    assert (rounded - exact).square().mean().sqrt() < 0.03 * exact.std()
