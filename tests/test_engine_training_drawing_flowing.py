"""Training of the flow: it starts at the exact Gaussian, resumes, forgets and blurs as told, and learns shortcuts from itself."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.training.averaging import Averaged
from engine.training.drawing.checkpoints import ramp
from engine.training.drawing.flow import Drawing, FlowShape
from engine.training.drawing.flowing import Course, Drawables, FlowTrainer, Placed, shortcut_targets

TINY = FlowShape(outer=8, middle=16, inner=32, layers=1, heads=2, tokens=2, signal=32, landmarks=16, components=8)


def quiet(_what: str, _done: int, _total: int) -> None:
    pass


def unit(random: np.random.Generator, rows: int) -> np.ndarray:
    vectors = random.normal(size=(rows, 256)).astype(np.float32)
    rows_of_one: np.ndarray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return rows_of_one


@pytest.fixture
def drawables() -> Drawables:
    random = np.random.default_rng(0)
    latents = random.normal(size=(40, 8, 16, 16)).astype(np.float16)
    return Drawables(latents, unit(random, 40), unit(random, 60), np.sort(random.integers(0, 30, 60)))


def test_pictures_without_a_text_are_drawn_from_themselves(drawables: Drawables) -> None:
    course = Course(batch=40, forgotten=0.0, blur=0.0, pictured=0.0)
    latents, vectors = next(drawables.batches(course, np.random.default_rng(0)))
    rows = [int(np.flatnonzero((drawables.latents == picture.numpy().astype(np.float16)).all((1, 2, 3)))[0]) for picture in latents]
    for row, vector in zip(rows, vectors.numpy(), strict=True):
        choices = drawables.texts[drawables.owners == row]
        allowed = choices if len(choices) else drawables.pictures[row : row + 1]
        assert (allowed == vector).all(1).any()


def test_a_share_is_forgotten_and_the_rest_blurred(drawables: Drawables) -> None:
    course = Course(batch=40, forgotten=0.25, blur=0.5)
    vectors = torch.cat([v for _, v in islice(drawables.batches(course, np.random.default_rng(0)), 50)])
    silent = ~vectors.any(1)
    assert 0.2 < silent.float().mean() < 0.3
    lengths = vectors[~silent].norm(dim=1)
    assert lengths.min() > 0.9
    assert 1.1 < lengths.max() < 1.3


def test_an_untrained_flow_is_the_gaussian(drawables: Drawables, tmp_path: Path) -> None:
    drawing = FlowTrainer(drawables, Course(), tmp_path / "flow.pt", 0, TINY).module
    at, time, step = torch.randn(3, 8, 16, 16), torch.rand(3) / 2, torch.zeros(3)
    vectors = torch.from_numpy(drawables.pictures[:3])
    with torch.no_grad():
        answer = drawing(at, time, step, vectors)
        exact = drawing.flow.gaussian(at.flatten(1), drawing.sketch(vectors), time, step)
    assert torch.allclose(answer.flatten(1), exact, atol=0.1, rtol=0.05)


def test_training_corrects_a_wrong_sketch_and_goes_on_where_it_was(drawables: Drawables, tmp_path: Path) -> None:
    checkpoint, losses = tmp_path / "flow.pt", []
    for steps in (30, 60):
        trainer = FlowTrainer(drawables, Course(steps=steps, batch=32, rate=3e-3, warmup=5, plain=0.8), checkpoint, 0, TINY)
        assert trainer.run.step == steps - 30
        if steps == 30:
            for drawing in (trainer.module, trainer.averaged):
                with torch.no_grad():
                    drawing.sketch.draw.bias.add_(2.0)
            losses.append(_loss(trainer.averaged, drawables))
        trainer.train(quiet)
        assert torch.load(checkpoint, weights_only=True)["step"] == steps
        losses.append(_loss(trainer.averaged, drawables))
    assert losses[0] > losses[1] > losses[2]


@torch.no_grad()
def _loss(drawing: Drawing, drawables: Drawables) -> float:
    torch.manual_seed(1)
    latents = torch.from_numpy(drawables.latents.astype(np.float32))
    noise, time = torch.randn_like(latents), torch.full((len(latents),), 0.5)
    answer = drawing((latents + noise) / 2, time, torch.zeros_like(time), torch.from_numpy(drawables.pictures))
    return float((answer - (latents - noise)).square().mean())


def test_a_shortcut_of_the_gaussian_is_its_own_target(drawables: Drawables, tmp_path: Path) -> None:
    drawing = FlowTrainer(drawables, Course(), tmp_path / "flow.pt", 0, TINY).module.eval()
    at, vectors = torch.randn(4, 8, 16, 16), torch.from_numpy(drawables.pictures[:4])
    placed = Placed(at, torch.zeros(4), torch.full((4,), 0.5), vectors, at)
    with torch.no_grad():
        own = drawing(at, placed.time, placed.step, vectors)
    assert torch.allclose(shortcut_targets(drawing, placed, 2.0), own, atol=0.1, rtol=0.05)


def test_the_shortest_shortcuts_contain_the_guidance(drawables: Drawables, tmp_path: Path) -> None:
    drawing = FlowTrainer(drawables, Course(), tmp_path / "flow.pt", 0, TINY).module.eval()
    at, vectors = torch.randn(4, 8, 16, 16), torch.from_numpy(drawables.pictures[:4])
    shortest = Placed(at, torch.zeros(4), torch.full((4,), 1 / 8), vectors, at)
    plain, guided = (shortcut_targets(drawing, shortest, guidance) for guidance in (1.0, 3.0))
    assert not torch.allclose(plain, guided, atol=0.05)
    longer = Placed(at, torch.zeros(4), torch.full((4,), 1 / 2), vectors, at)
    assert torch.equal(shortcut_targets(drawing, longer, 1.0), shortcut_targets(drawing, longer, 3.0))


def test_the_rate_rises_stays_and_falls() -> None:
    rates = [ramp(step, 100, 10) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[30] == rates[59] == 1.0
    assert rates[99] < 0.05


def test_the_average_follows_slowly() -> None:
    module = torch.nn.Linear(1, 1)
    averaged = Averaged(module, 0.9)
    weight = averaged.module.get_parameter("weight")
    with torch.no_grad():
        module.weight.add_(1.0)
    before = float(weight)
    averaged.update(module, step=1_000)
    assert float(weight) == pytest.approx(before + 0.1, abs=1e-5)
