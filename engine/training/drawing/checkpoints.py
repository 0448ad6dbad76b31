"""Checkpoints of a long training on a small machine, and the moving average of its weights.

A run saves everything it needs every few minutes; started again with the same folder it goes on where it was.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import nn

from engine.training.averaging import Averaged

M = TypeVar("M", bound=nn.Module)


@dataclass(slots=True)
class Run(Generic[M]):
    """A module in training, its average, its optimizer, and how far it is."""

    module: M
    averaged: Averaged[M]
    optimizer: torch.optim.Optimizer
    step: int = 0
    curve: list[dict[str, float]] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Write a checkpoint; the file appears whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        torch.save(self._state(), part)
        os.replace(part, path)

    def _state(self) -> dict[str, Any]:
        return {
            "module": self.module.state_dict(),
            "averaged": self.averaged.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "curve": self.curve,
        }

    def resume(self, path: Path) -> bool:
        """Go on from a checkpoint if there is one."""
        if not path.exists():
            return False
        state = torch.load(path, weights_only=True)
        self.module.load_state_dict(state["module"])
        self.averaged.module.load_state_dict(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.curve = int(state["step"]), list(state["curve"])
        return True


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of every group."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def ramp(step: int, steps: int, warmup: int) -> float:
    """Say which share of the peak rate a step takes: a linear rise, a plateau, a linear fall over the last 40 %."""
    rise = min(1.0, (step + 1) / max(1, warmup))
    fall = min(1.0, (steps - step) / max(1.0, 0.4 * steps))
    return max(0.02, min(rise, fall))
