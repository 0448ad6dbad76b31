"""Losses of contrastive training: symmetric InfoNCE with several right answers a row.

A loss takes similarities and a mask of what is right, never towers or batches of data.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

MAX_LOGIT_SCALE = 100.0
INITIAL_TEMPERATURE = 0.07
TEACHER_TEMPERATURE = 0.06


class Temperature(nn.Module):
    """The learned inverse temperature of CLIP (ICML 2021), kept at or below 100."""

    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(1.0 / INITIAL_TEMPERATURE).log())

    def forward(self, cosines: Float[Tensor, "n m"]) -> Float[Tensor, "n m"]:
        """Sharpen cosines into logits."""
        return cosines * self.log_scale.exp().clamp(max=MAX_LOGIT_SCALE)


@dataclass(frozen=True, slots=True)
class Softening:
    """How targets are softened: `smoothing` is spread over all columns, `share` follows the teacher's `logits`."""

    smoothing: float = 0.0
    share: float = 0.0
    logits: Float[Tensor, "n m"] | None = None

    def transposed(self) -> "Softening":
        """Soften the other direction."""
        return Softening(self.smoothing, self.share, None if self.logits is None else self.logits.T)

    def apply(self, target: Float[Tensor, "n m"]) -> Float[Tensor, "n m"]:
        """Mix a target with the teacher's view and with the uniform distribution."""
        if self.logits is not None and self.share:
            target = (1.0 - self.share) * target + self.share * self.logits.softmax(1)
        return (1.0 - self.smoothing) * target + self.smoothing / target.shape[1]


def multi_positive_nce(
    logits: Float[Tensor, "n m"], positive: Bool[Tensor, "n m"], weights: Float[Tensor, " n"], softening: Softening
) -> Float[Tensor, ""]:
    """Cross entropy against the uniform distribution over each row's right answers (SupCon's L_out, NeurIPS 2020), softened.

    Rows without a right answer count nothing.
    """
    found = positive.sum(1)
    target = softening.apply(positive / found.clamp(min=1)[:, None])
    losses = -(target * functional.log_softmax(logits, dim=1)).sum(1)
    active = weights * (found > 0)
    return (losses * active).sum() / active.sum().clamp(min=1e-6)


def symmetric_nce(
    logits: Float[Tensor, "i t"], positive: Bool[Tensor, "i t"], text_weights: Float[Tensor, " t"], softening: Softening
) -> Float[Tensor, ""]:
    """Average both directions: every picture must find its texts, every text its pictures."""
    pictures = multi_positive_nce(logits, positive, torch.ones(len(logits)), softening)
    texts = multi_positive_nce(logits.T, positive.T, text_weights, softening.transposed())
    return 0.5 * (pictures + texts)


def taught_logits(
    pictures: Float[Tensor, "i w"], texts: Float[Tensor, "t w"], positive: Bool[Tensor, "i t"]
) -> Float[Tensor, "i t"]:
    """Say how close the teacher finds each text to each picture's captions; where it knows nothing, only what is right is close."""
    logits = exact_cosines(pictures, texts) / TEACHER_TEMPERATURE
    known = pictures.any(1)[:, None] & texts.any(1)[None, :]
    return torch.where(known, logits, (positive.float() - 1.0) * MAX_LOGIT_SCALE + 1.0 / TEACHER_TEMPERATURE)


def prefix_cosines(images: Float[Tensor, "i 256"], texts: Float[Tensor, "t 256"], width: int) -> Float[Tensor, "i t"]:
    """Cosines of the first `width` dimensions, so that a prefix is an embedding too (Matryoshka, NeurIPS 2022)."""
    left, right = (functional.normalize(vectors[:, :width], dim=1) for vectors in (images, texts))
    return exact_cosines(left, right)


def exact_cosines(left: Float[Tensor, "i d"], right: Float[Tensor, "t d"]) -> Float[Tensor, "i t"]:
    """Multiply unit rows in float32 also where the towers run in bfloat16: temperatures below 0.02 need the digits."""
    with torch.autocast("cpu", enabled=False):
        return left.float() @ right.float().T
