"""A companion network: joining it moves no vector, and a stage on both networks' features trains it alone."""

import numpy as np
import pytest
import torch

from engine.encoders.heads import HeadShape
from engine.encoders.towers import BackboneShape, ImageShape, ImageTower, StageShape, TextShape, TextTower, Towers
from engine.training.companion import Beside, join
from engine.training.features import Cut
from engine.training.trainer import Model, Stage

STAGES = (StageShape(3, 2, 1, 8, 1), StageShape(3, 1, 2, 8, 2))


def small(companion: int | None) -> ImageTower:
    torch.manual_seed(0)
    beside = BackboneShape(size=companion, stem=8, stages=STAGES, features=12) if companion else None
    head = HeadShape(28 if companion else 16, hidden=16)
    return ImageTower(ImageShape(size=32, stem=8, stages=STAGES, features=16, head=head, companion=beside)).eval()


def test_joining_a_companion_moves_no_vector() -> None:
    torch.manual_seed(0)
    tower = ImageTower(ImageShape()).eval()
    with torch.no_grad():
        tower.head.standardise(torch.rand(16, 1280))
        joined, classifier = join(tower)
        pixels = torch.randint(0, 255, (2, 256, 256, 3), dtype=torch.uint8)
        assert (joined(pixels) * tower(pixels)).sum(1).min() > 1 - 1e-5
    assert classifier.weight.shape == (1000, 1280)


@pytest.mark.parametrize("block", [0, 1, 3])
def test_the_shape_of_a_map_is_that_of_the_map(block: int) -> None:
    tower = small(None)
    with torch.no_grad():
        map_ = tower.run(tower.pixels_to_map(torch.zeros(1, 32, 32, 3, dtype=torch.uint8)), 0, block)
    assert tower.map_shape(block) == tuple(map_.shape[1:])


def test_a_companion_looks_at_its_own_size_and_decides_too() -> None:
    tower = small(companion=24)
    pixels = torch.randint(0, 255, (1, 32, 32, 3), dtype=torch.uint8)
    with torch.no_grad():
        assert tower.companion is not None
        assert tower.companion.pixels_to_map(pixels).shape[-1] == 12
        before = tower(pixels)
        next(tower.companion.features.parameters()).mul_(-2.0)
        assert (before * tower(pixels)).sum() < 0.999


def test_cached_rows_give_what_the_tower_gives_and_only_the_companion_learns() -> None:
    tower = small(companion=24)
    assert tower.companion is not None
    text = TextTower(TextShape(width=8, layers=1, heads=2, hidden=16, positions=8, head=HeadShape(8, hidden=8)))
    model = Model(Towers(tower, text), Cut(1, 1, companion=1), 4).eval()
    pixels = torch.randint(0, 255, (3, 32, 32, 3), dtype=torch.uint8)
    stage = Stage("companion", steps=1, image_rate=1e-3, alone=0.4)
    with torch.no_grad():
        maps = tower.companion.run(tower.companion.pixels_to_map(pixels), 0, 1)
        cached = torch.from_numpy(Beside(tower.look(pixels).numpy(), maps.numpy())[np.arange(3)])
        assert (model.pictures(cached) * tower(pixels)).sum(1).min() > 0.99
        whole, alone = model.embeddings(model.seen(cached), stage)
    assert (whole[0], alone[0]) == (0.6, 0.4)
    assert (whole[1] * alone[1]).sum(1).max() < 0.9999
    model.trainable(stage)
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad and name.startswith("image.")}
    networks = {name for name in learning if not name.startswith("image.head")}
    assert networks
    assert all(name.startswith("image.companion.") for name in networks)
    assert not any(name.startswith("image.companion.stages.0.") for name in networks)
