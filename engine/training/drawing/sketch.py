"""The sketch: the picture a vector means on average, and how pictures differ from it, fitted in closed form in seconds.

The mean is a ridge regression on how near the vector is to landmarks, which are vectors of training data; the differences are a
Gaussian in the principal components of the latents. For a Gaussian every step from noise to picture is known exactly, so the
network of the flow only learns what is left: with a processor instead of a GPU that is the difference between a drawing and a fog.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from engine.datatypes import DIMENSIONS

SHARPNESS = 4.0
RIDGE = 3e-3


@dataclass(frozen=True, slots=True)
class SketchShape:
    """Sizes: numbers in one picture's latents, landmarks, and components that are told apart."""

    numbers: int = 2_048
    landmarks: int = 1_024
    components: int = 256


class Sketch(nn.Module):
    """Vectors -> mean latents. Runs in float32: the regression subtracts large numbers."""

    def __init__(self, shape: SketchShape) -> None:
        super().__init__()
        self.landmarks = nn.Linear(DIMENSIONS, shape.landmarks, bias=False)
        self.read = nn.Linear(shape.landmarks, shape.components)
        self.draw = nn.Linear(shape.components, shape.numbers)
        self.requires_grad_(False)

    def forward(self, vectors: Float[Tensor, "b 256"]) -> Float[Tensor, "b d"]:
        """Sketch what the vectors mean; a vector of zeros means anything, so its sketch is the mean of everything."""
        unit, given = directions(vectors)
        near = torch.exp(SHARPNESS * (self.landmarks(unit) - 1))
        mean: Tensor = self.draw(given * self.read(near))
        return mean


class Gaussian(nn.Module):
    """How far latents are from their sketch: a Gaussian, whose steps from noise to picture are exact."""

    def __init__(self, shape: SketchShape) -> None:
        super().__init__()
        self.basis = nn.Parameter(torch.zeros(shape.numbers, shape.components))
        self.spread = nn.Parameter(torch.ones(shape.components))
        self.rest = nn.Parameter(torch.ones(1))
        self.requires_grad_(False)

    def forward(
        self, at: Float[Tensor, "b d"], mean: Float[Tensor, "b d"], time: Float[Tensor, " b"], step: Float[Tensor, " b"]
    ) -> Float[Tensor, "b d"]:
        """Give the mean velocity over a step, which keeps latents at their place among the standard deviations."""
        begin, length = time[:, None], step[:, None]
        off = at - begin * mean
        rest = _growth(self.rest[None], begin, length)
        apart = (_growth(self.spread[None], begin, length) - rest) * (off @ self.basis)
        return mean + rest * off + functional.linear(apart, self.basis)


def directions(vectors: Float[Tensor, "b 256"]) -> tuple[Float[Tensor, "b 256"], Float[Tensor, "b 1"]]:
    """Give unit vectors, and 0 instead of 1 for those that say nothing because they are zero."""
    length = vectors.square().sum(1, keepdim=True).sqrt()
    return vectors / length.clamp(min=1e-6), (length > 1e-6).to(vectors.dtype)


@torch.no_grad()
def fit_sketch(
    sketch: Sketch,
    gaussian: Gaussian,
    vectors: Float[Tensor, "n 256"],
    latents: Float[Tensor, "n d"],
    landmarks: Float[Tensor, "m 256"],
) -> None:
    """Fit both; rows of `vectors`, of unit length, and `latents` belong together, `landmarks` are some of the vectors."""
    mean = latents.mean(0)
    differences = latents - mean
    _, axes = torch.linalg.eigh(differences.T @ differences / len(latents))
    basis = axes[:, -sketch.draw.in_features :]
    near = torch.cat([torch.exp(SHARPNESS * (vectors @ landmarks.T - 1)), torch.ones(len(vectors), 1)], 1)
    gram = near.T @ near / len(near) + RIDGE * near[:, :-1].var() * torch.eye(near.shape[1])
    solved = torch.linalg.solve(gram, near.T @ (differences @ basis) / len(near))
    for parameter, values in (
        (sketch.landmarks.weight, landmarks),
        (sketch.read.weight, solved[:-1].T),
        (sketch.read.bias, solved[-1]),
        (sketch.draw.weight, basis),
        (sketch.draw.bias, mean),
        (gaussian.basis, basis),
    ):
        parameter.copy_(values)
    left = differences - (near @ solved) @ basis.T
    inside = left @ basis
    outside = left.square().sum() - inside.square().sum()
    gaussian.spread.copy_(inside.var(0))
    gaussian.rest.copy_((outside / (len(left) * max(1, latents.shape[1] - basis.shape[1]))).clamp(min=1e-4))


def _growth(variance: Float[Tensor, "1 k"], begin: Float[Tensor, "b 1"], length: Float[Tensor, "b 1"]) -> Float[Tensor, "b k"]:
    """Say by which share of itself, per unit of time, the distance from the mean grows over a step.

    The length is cancelled by hand: in bfloat16 the quotient of two nearly equal spreads, less 1, is nothing but rounding.
    """
    end = begin + length
    before, after = (variance * t.square() + (1 - t).square() for t in (begin, end))
    return (variance * (begin + end) - (2 - begin - end)) / (before + (before * after).sqrt())
