"""The shape of the joint space, on spaces whose shape is known."""

import sys

import numpy as np
import pytest

from engine.evaluation.space import flatten, shape_of


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def cloud(count: int, seed: int) -> np.ndarray:
    return unit(np.random.default_rng(seed).normal(size=(count, 256)))


def test_one_and_the_same_cloud_has_no_gap() -> None:
    shape = shape_of(cloud(100, 0), cloud(100, 0))
    assert shape.gap == pytest.approx(0.0, abs=1e-6)
    assert shape.alignment == pytest.approx(1.0, abs=1e-5)


def test_opposite_clouds_are_as_far_apart_as_can_be() -> None:
    axis = np.zeros((100, 256), np.float32)
    axis[:, 0] = 1.0
    assert shape_of(axis, -axis).gap == pytest.approx(2.0)


def test_a_picture_near_everything_is_a_hub() -> None:
    texts, images = cloud(200, 1), cloud(200, 2)
    texts[:, 0] += 0.3
    crowded = images.copy()
    crowded[0] = np.eye(256, dtype=np.float32)[0]
    plain, hub = shape_of(unit(texts), images), shape_of(unit(texts), crowded)
    assert hub.hubness > plain.hubness + 1


def test_few_points_are_laid_out_by_their_main_components() -> None:
    points, method = flatten(cloud(10, 3))
    assert points.shape == (10, 2)
    assert method == "principal components"


def test_without_pacmap_the_map_still_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pacmap", None)
    points, method = flatten(cloud(300, 4))
    assert np.isfinite(points).all()
    assert method == "principal components"


@pytest.mark.slow
def test_two_clouds_stay_apart_on_the_map() -> None:
    pytest.importorskip("pacmap")
    first, second = (unit(cloud(160, seed) + 0.5 * np.eye(256, dtype=np.float32)[seed]) for seed in (5, 6))
    points, method = flatten(np.concatenate([first, second]))
    assert method == "PaCMAP"
    middles = points[:160].mean(0), points[160:].mean(0)
    inner = np.linalg.norm(points[:160] - middles[0], axis=1).mean()
    assert np.linalg.norm(middles[0] - middles[1]) > inner
