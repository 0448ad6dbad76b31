"""Views of pictures: what they look like, and that training draws what there is."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.training.views import CachedView, Views, read_pixels


@pytest.fixture
def path(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


def test_a_flipped_picture_is_the_mirror_image(path: Path) -> None:
    assert np.array_equal(read_pixels(path, 32, "flipped"), read_pixels(path, 32)[:, ::-1])


def test_a_seed_crops_one_way(path: Path) -> None:
    assert np.array_equal(read_pixels(path, 32, "cropped", 1), read_pixels(path, 32, "cropped", 1))
    assert not np.array_equal(read_pixels(path, 32, "cropped", 1), read_pixels(path, 32, "cropped", 2))
    assert not np.array_equal(read_pixels(path, 32, "cropped", 1), read_pixels(path, 32))


def test_pictures_are_drawn_in_every_view_they_have() -> None:
    plain = CachedView(np.zeros((6, 1), np.float16), np.arange(6))
    flipped = CachedView(np.ones((3, 1), np.float16), np.array([1, 3, 5]))
    cropped = CachedView(np.full((1, 1), 2, np.float16), np.array([5]))
    views, random = Views(plain, {"flipped": flipped, "cropped": cropped}), np.random.default_rng(0)
    rows = np.array([5, 0, 1])
    seen = np.stack([views.draw(rows, random)[:, 0] for _ in range(200)])
    assert [set(column) for column in seen.T] == [{0, 1, 2}, {0}, {0, 1}]
    assert views.at(rows)[:, 0].tolist() == [0, 0, 0]
