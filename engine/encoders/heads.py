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
    """Widths of a head: `inputs` features, `hidden` in the layer beside the linear map, `classes` that it recognises by name."""

    inputs: int
    hidden: int = 1024
    dropout: float = 0.3
    classes: int = 0


class Recognition(nn.Module):
    """What a classifier sees in features, as the mean of the vectors of the classes' names: objects no training photo showed.

    A convex combination of class names, as in ConSE (ICLR 2014). Gradients never change it: the classifier learned from more
    pictures than any catalogue has, and the names come from the text tower. A column of `names` is as long as its class is worth
    beside the rest of the head, a vector of length 1; a classifier that is not sure mixes many names, which makes them short.
    """

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.classifier = nn.Linear(inputs, classes)
        self.names = nn.Linear(classes, DIMENSIONS, bias=False)
        nn.init.zeros_(self.names.weight)
        self.requires_grad_(False)

    def forward(self, features: Float[Tensor, "b f"]) -> Float[Tensor, "b 256"]:
        """Name what is seen."""
        named: Tensor = self.names(self.classifier(features).softmax(dim=1))
        return named


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
        self.recognition = Recognition(shape.inputs, shape.classes) if shape.classes else None

    def forward(self, features: Float[Tensor, "b f"]) -> Float[Tensor, "b 256"]:
        """Embed features."""
        x = self.dropout(features * self.scale + self.offset)
        hidden = self.dropout(nn.functional.gelu(self.widen(x)))
        learned = nn.functional.normalize(self.direct(x) + self.narrow(hidden), dim=1)
        if self.recognition is None:
            return learned
        return nn.functional.normalize(learned + self.recognition(features), dim=1)

    def standardise(self, features: Float[Tensor, "n f"]) -> None:
        """Learn mean and spread of every feature from examples; gradients never change them."""
        self.scale.copy_(1.0 / (features.std(0) + SMALLEST_SPREAD))
        self.offset.copy_(-features.mean(0) * self.scale)

    def mean(self) -> Float[Tensor, " f"]:
        """Give the features that standardise to nothing: those of no picture in particular."""
        return -self.offset / self.scale

    def weights(self) -> Iterator[nn.Parameter]:
        """List what gradients change."""
        for layer in (self.direct, self.widen, self.narrow):
            yield from layer.parameters()
