"""Training a language model as text tower (`engine.encoders.causal`) on a catalogue's pairs of titles and pictures.

The adapter alone is trained on states computed once, in seconds. With LoRA (Hu et al. 2021) the attention learns too, through a
low-rank part of less than 1 % of the model's parameters. That takes a pass through the model at every step: for a large one a GPU.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from engine.datatypes import Vectors
from engine.encoders.causal import CausalTower
from engine.training.adapt import Pairings, Report

LEAST_SHARE = 0.01
MOST_RANK = 16
TEMPERATURE = 0.05
TEXTS_PER_CALL = 32


@dataclass(frozen=True, slots=True)
class TowerCourse:
    """How a tower is trained: steps of the adapter on cached states, then steps with LoRA, if any."""

    steps: int = 400
    lora_steps: int = 0
    batch: int = 256
    lora_batch: int = 32
    rate: float = 1e-3
    lora_rate: float = 2e-4


def train_tower(
    tower: CausalTower, titles: Sequence[str], pairs: Pairings, course: TowerCourse, *, seed: int = 0, report: Report | None = None
) -> None:
    """Train in place; `titles` and the rows of `pairs` belong together, and only rows of the split `train` are learned from."""
    torch.manual_seed(seed)
    random, rows, told = np.random.default_rng(seed), pairs.part("train"), report or (lambda _done, _total: None)
    states = states_of(tower, titles)
    with torch.no_grad():
        tower.adapter.standardise(states[rows])
    optimizer = torch.optim.AdamW(tower.adapter.weights(), course.rate, weight_decay=0.05)
    for step, batch in _batches(rows, course.batch, course.steps, random):
        _learn(optimizer, tower.adapter.train()(states[batch]), pairs, batch)
        told(step, course.steps + course.lora_steps)
    if course.lora_steps:
        _train_lora(tower, titles, pairs, course, random, told)
    tower.eval()


def _train_lora(
    tower: CausalTower, titles: Sequence[str], pairs: Pairings, course: TowerCourse, random: np.random.Generator, told: Report
) -> None:
    device = _device()
    tower.model = with_lora(tower.model)
    tower.to(device)
    learned = [parameter for parameter in tower.model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW([*learned, *tower.adapter.weights()], course.lora_rate)
    for step, batch in _batches(pairs.part("train"), course.lora_batch, course.lora_steps, random):
        inputs = {name: tensor.to(device) for name, tensor in tower.read([titles[row] for row in batch]).items()}
        _learn(optimizer, tower.train()(inputs), pairs, batch)
        told(course.steps + step, course.steps + course.lora_steps)
    tower.adapter.cpu()


def with_lora(model: nn.Module) -> Any:  # noqa: ANN401  peft's own
    """Lay LoRA over every matrix of the attention, of the highest rank under 1 % of the model's parameters."""
    from peft import LoraConfig, get_peft_model  # noqa: PLC0415  seconds to import

    matrices = {name: m for name, m in model.named_modules() if isinstance(m, nn.Linear) and "attn" in name}
    most = LEAST_SHARE * sum(parameter.numel() for parameter in model.parameters())
    rank = int(min(MOST_RANK, most // max(1, sum(m.in_features + m.out_features for m in matrices.values()))))
    if rank < 1:
        raise ValueError("a low-rank part of 1 % does not exist for a model this small: train its adapter alone")
    return get_peft_model(model, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=list(matrices)))


@torch.no_grad()
def states_of(tower: CausalTower, titles: Sequence[str]) -> Float[Tensor, "n w"]:
    """Compute the model's states of all titles once."""
    tower.eval().model.to(device := _device())
    parts = (titles[start : start + TEXTS_PER_CALL] for start in range(0, len(titles), TEXTS_PER_CALL))
    return torch.cat([tower.states({n: t.to(device) for n, t in tower.read(part).items()}).cpu() for part in parts])


@torch.no_grad()
def embed_titles(tower: CausalTower, titles: Sequence[str]) -> Vectors:
    """Embed titles as the trained tower does, to compare it with what was there before."""
    embedded: Vectors = tower.adapter(states_of(tower, titles)).numpy()
    return embedded


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _batches(
    rows: Int64[np.ndarray, " n"], size: int, steps: int, random: np.random.Generator
) -> Iterator[tuple[int, Int64[np.ndarray, " b"]]]:
    for step in range(1, steps + 1):
        yield step, random.choice(rows, min(size, len(rows)), replace=False)


def _learn(
    optimizer: torch.optim.Optimizer, texts: Float[Tensor, "b 256"], pairs: Pairings, batch: Int64[np.ndarray, " b"]
) -> None:
    """Take one step of symmetric InfoNCE towards the pictures, in which every row of the same key is right."""
    pictures = torch.from_numpy(pairs.images[batch]).to(texts.device)
    keys = torch.from_numpy(pairs.keys[batch]).to(texts.device)
    right = (keys[:, None] == keys[None, :]).float()
    right = right / right.sum(1, keepdim=True)
    logits = texts @ pictures.T / TEMPERATURE
    loss = functional.cross_entropy(logits, right) + functional.cross_entropy(logits.T, right)
    optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    optimizer.step()
