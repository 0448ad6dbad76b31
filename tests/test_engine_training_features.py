"""Cached features: they are what the tower computes, and an interrupted run goes on where it stopped."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from engine.encoders.heads import HeadShape
from engine.encoders.towers import ImageShape, ImageTower, StageShape
from engine.training.features import GrowingArray, MapJob, States, cache_maps, digest_of, means_of, pooled_of
from engine.training.views import read_pixels


@pytest.fixture
def tower() -> ImageTower:
    torch.manual_seed(0)
    stages = (StageShape(3, 2, 1, 8, 1), StageShape(3, 1, 2, 8, 2))
    return ImageTower(ImageShape(size=32, stem=8, stages=stages, features=16, head=HeadShape(inputs=16, hidden=16))).eval()


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    files = [tmp_path / f"{n}.png" for n in range(20)]
    for n, path in enumerate(files):
        pixels = np.random.default_rng(n).integers(0, 255, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return files


def test_cached_maps_and_features_are_those_of_the_tower(tower: ImageTower, paths: list[Path], tmp_path: Path) -> None:
    rows = np.array([1, 3, 4, 17])
    cached = cache_maps(tower, MapJob(paths, rows, 32, 1), tmp_path / "work", 1, lambda *_: None)
    pooled = pooled_of(tower, cached.features, 1)
    pixels = torch.from_numpy(np.stack([read_pixels(paths[row], 32) for row in rows]))
    with torch.no_grad():
        expected = tower.run(tower.pixels_to_map(pixels), 0, 1)
        assert np.allclose(cached.features, expected, atol=0.05, rtol=0.05)
        assert np.allclose(pooled, tower.pool(tower.run(expected, 1, 3)), atol=0.05, rtol=0.05)


def test_an_interrupted_cache_goes_on(tmp_path: Path) -> None:
    first = GrowingArray(tmp_path, "states", (10, 4), "abc")
    first.array[:6] = 1
    first.mark(6)
    second = GrowingArray(tmp_path, "states", (10, 4), "abc")
    assert second.done == 6
    assert (second.array[:6] == 1).all()


def test_other_content_starts_anew(tmp_path: Path) -> None:
    GrowingArray(tmp_path, "states", (10, 4), "abc").mark(6)
    assert GrowingArray(tmp_path, "states", (12, 4), "def").done == 0


def test_digests_tell_lists_apart() -> None:
    assert digest_of(["ab", "c"]) != digest_of(["a", "bc"])
    assert digest_of(["\ud800"]) != digest_of([""])


def test_states_are_gathered_padded_and_masked() -> None:
    rows = np.arange(12, dtype=np.float16).reshape(6, 2)
    states = States(rows, np.array([0, 1, 4, 6]), 3)
    tokens, mask = states.batch(np.array([1, 0]))
    assert tokens.shape == (2, 3, 2)
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]
    assert tokens[0].tolist() == rows[1:4].tolist()
    assert tokens[1].tolist() == [[0, 1], [0, 0], [0, 0]]
    assert states.by_length(np.array([1, 0, 2])).tolist() == [1, 2, 0]


def test_means_stand_for_the_states_of_a_text() -> None:
    states = States(np.arange(12, dtype=np.float16).reshape(6, 2), np.array([0, 1, 4, 6]), 2)
    means = means_of(states)
    assert means.done == 2
    tokens, mask = means.batch(np.array([1, 0]))
    assert tokens.tolist() == [[[4, 5]], [[0, 1]]]
    assert mask.tolist() == [[1], [1]]
