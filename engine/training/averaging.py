"""The moving average of a module's weights that training ships."""

from copy import deepcopy
from typing import Generic, TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)


class Averaged(Generic[M]):
    """A moving average of a module's weights and statistics, short at first; `module` is what is evaluated and shipped."""

    def __init__(self, module: M, decay: float) -> None:
        self.module: M = deepcopy(module).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, module: M, step: int) -> None:
        """Take one step of the average."""
        keep = min(self.decay, (1 + step) / (10 + step))
        for mine, theirs in zip(self.module.state_dict().values(), module.state_dict().values(), strict=True):
            if mine.is_floating_point():
                mine.lerp_(theirs, 1 - keep)
            else:
                mine.copy_(theirs)
