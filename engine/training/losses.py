"""Losses of contrastive training: InfoNCE with several right answers a row, and following a teacher.

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

    `smoothing` of the target is spread over all columns. Rows without a right answer count nothing.
    """
    found = positive.sum(1)
    target = (1.0 - smoothing) * positive / found.clamp(min=1)[:, None] + smoothing / logits.shape[1]
    losses = -(target * functional.log_softmax(logits, dim=1)).sum(1)
    active = weights * (found > 0)
    return (losses * active).sum() / active.sum().clamp(min=1e-6)


def symmetric_nce(
    logits: Float[Tensor, "i t"],
    positive: Bool[Tensor, "i t"],
    text_weights: Float[Tensor, " t"],
    naming: Bool[Tensor, " t"],
    smoothing: float = 0.0,
) -> Float[Tensor, ""]:
    """Average both directions: every text must find its pictures, every picture the texts that name it.

    A picture weighs what the texts that name it weigh on average. Without naming texts only the first direction counts.
    """
    texts = multi_positive_nce(logits.T, positive.T, text_weights, smoothing)
    if not naming.any():
        return texts
    named = positive[:, naming].float()
    weights = named @ text_weights[naming] / named.sum(1).clamp(min=1.0)
    pictures = multi_positive_nce(logits[:, naming], positive[:, naming], weights, smoothing)
    return 0.5 * (pictures + texts)


def distance_to_teacher(states: Float[Tensor, "n w"], teacher: Float[Tensor, "n w"]) -> Float[Tensor, ""]:
    """Average 1 - cosine to the teacher's unit vectors; rows of zeros, where it knows nothing, do not count.

    Sentence embeddings of one language teach those of others (Reimers and Gurevych, EMNLP 2020).
    """
    known = teacher.any(1)
    if not known.any():
        return states.sum() * 0.0
    return 1.0 - (functional.normalize(states[known].float(), dim=1) * teacher[known]).sum(1).mean()


def prefix_cosines(images: Float[Tensor, "i 256"], texts: Float[Tensor, "t 256"], width: int) -> Float[Tensor, "i t"]:
    """Cosines of the first `width` dimensions, so that a prefix is an embedding too (Matryoshka, NeurIPS 2022)."""
    left, right = (functional.normalize(vectors[:, :width], dim=1) for vectors in (images, texts))
    return exact_cosines(left, right)


def exact_cosines(left: Float[Tensor, "i d"], right: Float[Tensor, "t d"]) -> Float[Tensor, "i t"]:
    """Multiply unit rows in float32 also where the towers run in bfloat16: temperatures below 0.02 need the digits."""
    with torch.autocast("cpu", enabled=False):
        return left.float() @ right.float().T
