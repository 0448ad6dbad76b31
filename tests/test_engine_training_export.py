"""Export: the bundle's graphs carry the very numbers that torch runs, in eight bits or sixteen."""

from pathlib import Path

import numpy as np
import pytest
import torch

from engine.encoders.heads import HeadShape
from engine.encoders.runtime import compile_for_cpu
from engine.encoders.towers import TextShape, TextTower
from engine.training.export import export_graph, name_constants, quantise
from engine.training.graphs import convert

SHAPE = TextShape(width=32, layers=2, heads=4, hidden=64, positions=16, head=HeadShape(inputs=32, hidden=64))


@pytest.fixture
def tower() -> TextTower:
    torch.manual_seed(0)
    tower = TextTower(SHAPE).eval()
    with torch.no_grad():
        for parameter in tower.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return tower


def test_a_graph_computes_what_its_tower_does(tower: TextTower, tmp_path: Path) -> None:
    example = {"tokens": torch.zeros(1, 8, 32), "mask": torch.ones(1, 8)}
    export_graph(tower, example, {"tokens": [-1, -1, 32], "mask": [-1, -1]}, tmp_path / "text.xml", eight_bit="")
    compiled = compile_for_cpu(tmp_path / "text.xml", threads=1, bf16=False)
    tokens, mask = torch.randn(3, 11, 32), torch.ones(3, 11)
    mask[1, 4:] = 0
    with torch.no_grad():
        expected = tower(tokens, mask).numpy()
    answer = compiled([tokens.numpy(), mask.numpy()])[0]
    assert (answer * expected).sum(1).min() > 0.995


def test_a_masked_token_changes_nothing(tower: TextTower) -> None:
    tokens, mask = torch.randn(1, 6, 32), torch.ones(1, 6)
    longer = torch.cat([tokens, torch.full((1, 3, 32), 9.0)], 1)
    with torch.no_grad():
        padded = tower(longer, torch.cat([mask, torch.zeros(1, 3)], 1))
        assert torch.allclose(tower(tokens, mask), padded, atol=1e-4)


def test_eight_bits_keep_each_row_to_half_a_step() -> None:
    values = np.random.default_rng(0).normal(size=(20, 30)).astype(np.float32) * np.logspace(-3, 1, 20, dtype=np.float32)[:, None]
    numbers, scale = quantise(values)
    assert numbers.dtype == np.int8
    assert (np.abs(numbers * scale - values) <= scale * 0.501).all()


def test_a_lost_parameter_is_named(tower: TextTower) -> None:
    example = {"tokens": torch.zeros(1, 8, 32), "mask": torch.ones(1, 8)}
    graph = convert(tower, example, {"tokens": [-1, -1, 32], "mask": [-1, -1]})
    tower.head.narrow.weight = torch.nn.Parameter(torch.randn(256, 64))
    with pytest.raises(ValueError, match=r"no constant for head\.narrow\.weight"):
        name_constants(graph, tower)
