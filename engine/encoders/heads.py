"""Heads in torch: what turns a sequence of features (grid cells or tokens) into one unit vector of 256 dimensions.

Only layers that are trained from nothing belong here; the pretrained towers they sit on are in `engine.encoders.towers`.
Serving runs the exported graph and never imports this module.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from engine.datatypes import DIMENSIONS


@dataclass(frozen=True, slots=True)
class HeadShape:
    """Widths of a head: `inputs` features a cell, `queries` attention queries of `value` features, `width` inside."""

    inputs: int
    queries: int = 4
    value: int = 128
    width: int = 512
    hidden: int = 1024
    dropout: float = 0.2


class AttentionPool(nn.Module):
    """Pool a sequence by learned queries, each with its own projection of what it attends to (VSE-infinity, CVPR 2021)."""

    def __init__(self, shape: HeadShape) -> None:
        super().__init__()
        self.scores = nn.Linear(shape.inputs, shape.queries)
        self.values = nn.Parameter(torch.randn(shape.queries, shape.inputs, shape.value) * shape.inputs**-0.5)

    def forward(self, cells: Float[Tensor, "b n c"], mask: Float[Tensor, "b n"]) -> Float[Tensor, "b v"]:
        """Attend over the cells whose mask is 1; the answers of all queries side by side."""
        scores = self.scores(cells) + (mask.unsqueeze(2) - 1.0) * 1e4
        attended = torch.matmul(scores.softmax(1).transpose(1, 2), cells)
        return torch.matmul(attended.transpose(0, 1), self.values).transpose(0, 1).flatten(1)


class ResidualBlock(nn.Module):
    """x + MLP(norm(x)): refines an embedding without being able to forget it."""

    def __init__(self, shape: HeadShape) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(shape.width)
        self.widen = nn.Linear(shape.width, shape.hidden)
        self.narrow = nn.Linear(shape.hidden, shape.width)
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, x: Float[Tensor, "b w"]) -> Float[Tensor, "b w"]:
        """Add the refinement."""
        refined: Tensor = self.dropout(self.narrow(nn.functional.gelu(self.widen(self.norm(x)))))
        return x + refined


class ProjectionHead(nn.Module):
    """Mean and attention pooling side by side, one residual block, 256 outputs of unit length."""

    def __init__(self, shape: HeadShape) -> None:
        super().__init__()
        self.pool = AttentionPool(shape)
        self.mean_norm = nn.LayerNorm(shape.inputs)
        self.from_mean = nn.Linear(shape.inputs, shape.width)
        self.from_attention = nn.Linear(shape.queries * shape.value, shape.width)
        self.dropout = nn.Dropout(shape.dropout)
        self.block = ResidualBlock(shape)
        self.norm = nn.LayerNorm(shape.width)
        self.output = nn.Linear(shape.width, DIMENSIONS, bias=False)

    def forward(self, cells: Float[Tensor, "b n c"], mask: Float[Tensor, "b n"]) -> Float[Tensor, "b 256"]:
        """Embed the sequence; cells whose mask is 0 do not exist."""
        weights = mask.unsqueeze(2)
        mean = (cells * weights).sum(1) / weights.sum(1)
        pooled = self.from_mean(self.dropout(self.mean_norm(mean))) + self.from_attention(self.dropout(self.pool(cells, mask)))
        return nn.functional.normalize(self.output(self.norm(self.block(pooled))), dim=1)
