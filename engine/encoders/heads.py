"""Heads in torch: what turns the pooled features of a tower into one unit vector of 256 dimensions.

Only layers that are trained from nothing belong here; the pretrained towers they sit on are in `engine.encoders.towers`.
Serving runs the exported graph and never imports this module.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from engine.datatypes import DIMENSIONS

SMALLEST_SPREAD = 1e-3


@dataclass(frozen=True, slots=True)
class HeadShape:
    """Widths of a head: `inputs` features, `hidden` in the layer beside the linear map."""

    inputs: int
    hidden: int = 1024
    dropout: float = 0.3


class ProjectionHead(nn.Module):
    """Standardised features through a linear map and, beside it, one hidden layer; 256 outputs of unit length.

    On frozen features it beats attention over cells and tokens by two points of Flickr8k's R@1: `engine/training/README.md`.
    """

    def __init__(self, shape: HeadShape) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(shape.inputs), requires_grad=False)
        self.offset = nn.Parameter(torch.zeros(shape.inputs), requires_grad=False)
        self.direct = nn.Linear(shape.inputs, DIMENSIONS)
        self.widen = nn.Linear(shape.inputs, shape.hidden)
        self.narrow = nn.Linear(shape.hidden, DIMENSIONS)
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, features: Float[Tensor, "b f"]) -> Float[Tensor, "b 256"]:
        """Embed features."""
        x = self.dropout(features * self.scale + self.offset)
        hidden = self.dropout(nn.functional.gelu(self.widen(x)))
        return nn.functional.normalize(self.direct(x) + self.narrow(hidden), dim=1)

    def standardise(self, features: Float[Tensor, "n f"]) -> None:
        """Learn mean and spread of every feature from examples; gradients never change them."""
        self.scale.copy_(1.0 / (features.std(0) + SMALLEST_SPREAD))
        self.offset.copy_(-features.mean(0) * self.scale)

    def weights(self) -> Iterator[nn.Parameter]:
        """List what gradients change."""
        for layer in (self.direct, self.widen, self.narrow):
            yield from layer.parameters()
