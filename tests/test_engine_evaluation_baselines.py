"""The two plain models: they find a linear relation that is there, and never see what they are asked."""

import numpy as np
import pytest

from engine.evaluation.baselines import BASELINES, crossed, halves


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def turned(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Texts, and pictures that are the same after a rotation nobody was told, seen through noise."""
    random = np.random.default_rng(0)
    thoughts = random.normal(size=(count, 24))
    to_text, to_image = random.normal(size=(2, 24, 256))
    return unit(thoughts @ to_text), unit(thoughts @ to_image + 0.1 * random.normal(size=(count, 256)))


@pytest.mark.parametrize("name", BASELINES)
def test_a_linear_relation_is_found_on_unseen_pairs(name: str) -> None:
    texts, images = turned(200)
    groups = np.arange(200)
    mapped, pictures = crossed(texts, images, groups, BASELINES[name], seed=0)(images)
    half = halves(groups, 0)
    right = [int(np.argmax(pictures[half[row]] @ mapped[row]) == row) for row in range(200)]
    untrained = np.mean(np.argmax(texts @ images.T, axis=1) == groups)
    assert untrained < 0.1
    assert np.mean(right) > 0.6


@pytest.mark.parametrize("name", BASELINES)
def test_chance_stays_chance(name: str) -> None:
    random = np.random.default_rng(1)
    texts, images = (unit(random.normal(size=(200, 256))) for _ in range(2))
    mapped, pictures = crossed(texts, images, np.arange(200), BASELINES[name], seed=0)(images)
    half = halves(np.arange(200), 0)
    right = [int(np.argmax(pictures[half[row]] @ mapped[row]) == row) for row in range(200)]
    assert np.mean(right) < 0.05


def test_what_belongs_together_stays_in_one_half() -> None:
    groups = np.repeat(np.arange(50), 3)
    half = halves(groups, 0).reshape(50, 3)
    assert (half == half[:, :1]).all()
    assert 0.3 < half.mean() < 0.7
