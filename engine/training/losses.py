"""Losses of contrastive training: symmetric InfoNCE with several right answers a row.

A loss takes similarities and a mask of what is right, never towers or batches of data.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

MAX_LOGIT_SCALE = 100.0
INITIAL_TEMPERATURE = 0.07


class Temperature(nn.Module):
    """The learned inverse temperature of CLIP (ICML 2021), kept at or below 100."""

    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(1.0 / INITIAL_TEMPERATURE).log())

    def forward(self, cosines: Float[Tensor, "n m"]) -> Float[Tensor, "n m"]:
        """Sharpen cosines into logits."""
        return cosines * self.log_scale.exp().clamp(max=MAX_LOGIT_SCALE)


def multi_positive_nce(
    logits: Float[Tensor, "n m"], positive: Bool[Tensor, "n m"], weights: Float[Tensor, " n"], smoothing: float = 0.0
) -> Float[Tensor, ""]:
    """Cross entropy against the uniform distribution over each row's right answers (SupCon's L_out, NeurIPS 2020).

    Rows without a right answer count nothing; `smoothing` moves that share of the target to all columns.
    """
    found = positive.sum(1)
    target = positive / found.clamp(min=1)[:, None]
    target = target * (1.0 - smoothing) + smoothing / logits.shape[1]
    losses = -(target * functional.log_softmax(logits, dim=1)).sum(1)
    active = weights * (found > 0)
    return (losses * active).sum() / active.sum().clamp(min=1e-6)


def symmetric_nce(
    logits: Float[Tensor, "i t"], positive: Bool[Tensor, "i t"], text_weights: Float[Tensor, " t"], smoothing: float = 0.0
) -> Float[Tensor, ""]:
    """Average both directions: every picture must find its texts, every text its pictures."""
    pictures = multi_positive_nce(logits, positive, torch.ones(len(logits)), smoothing)
    texts = multi_positive_nce(logits.T, positive.T, text_weights, smoothing)
    return 0.5 * (pictures + texts)


def prefix_cosines(images: Float[Tensor, "i 256"], texts: Float[Tensor, "t 256"], width: int) -> Float[Tensor, "i t"]:
    """Cosines of the first `width` dimensions, so that a prefix is an embedding too (Matryoshka, NeurIPS 2022)."""
    left, right = (functional.normalize(vectors[:, :width], dim=1) for vectors in (images, texts))
    return exact_cosines(left, right)


def exact_cosines(left: Float[Tensor, "i d"], right: Float[Tensor, "t d"]) -> Float[Tensor, "i t"]:
    """Multiply unit rows in float32 also where the towers run in bfloat16: temperatures below 0.02 need the digits."""
    with torch.autocast("cpu", enabled=False):
        return left.float() @ right.float().T
