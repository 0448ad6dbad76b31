"""Evidence of the views -> one relevance score per document.

A document is seen under two views, its pictures and its title. Their cosines are combined convexly; the result is itself a
cosine, that of the concatenated vectors `[sqrt(w_i) q, sqrt(w_t) q]` and `[sqrt(w_i) image, sqrt(w_t) title]`. Which vectors are
compared and how candidates are found does not belong here.
"""

from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Float32

Kind: TypeAlias = Literal["words", "picture"]

# Of words, the title takes a little more than the pictures (measured: docs/decisions/0004); a picture is compared only with
# pictures, so that the same photo scores 1.
TITLE_SHARE = 0.6


def view_weights(kinds: Sequence[Kind], weights: Sequence[float], target: str) -> tuple[float, float]:
    """Weigh (image, title) for a query whose terms are of `kinds` with `weights`; `target` restricts to one view."""
    if target != "any":
        return (1.0, 0.0) if target == "image" else (0.0, 1.0)
    total = sum(abs(weight) for weight in weights)
    words = sum(abs(weight) for kind, weight in zip(kinds, weights, strict=True) if kind == "words")
    title = TITLE_SHARE * words / total
    return 1.0 - title, title


def fuse(
    image: Float32[np.ndarray, " n"], title: Float32[np.ndarray, " n"], weights: Float32[np.ndarray, "2"]
) -> Float32[np.ndarray, " n"]:
    """Combine the cosines of `n` documents; NaN marks a view the document does not have.

    A document without one view is scored by the other alone; without either, or when only absent views have weight, it
    scores -inf.
    """
    cosines = np.stack([image, title])
    shares = np.where(np.isnan(cosines), 0.0, np.asarray(weights, np.float32)[:, None])
    total = shares.sum(axis=0)
    combined = (np.nan_to_num(cosines) * shares).sum(axis=0)
    scores = np.full(len(image), -np.inf, np.float32)
    np.divide(combined, total, out=scores, where=total > 0, casting="same_kind")
    return scores
