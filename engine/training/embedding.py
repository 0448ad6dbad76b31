"""Pictures of items embedded by a finished encoder, from their files; needs no torch.

Features of unfinished towers are in `engine.training.features`.
"""

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from engine.datatypes import DIMENSIONS, Vectors
from engine.protocols import Encoder
from engine.training.pairs import Item, Split

PICTURES_PER_CALL = 64


def encode_pictures(
    encoder: Encoder, items: Sequence[Item], splits: set[Split], progress: Callable[[str, int, int], None]
) -> Vectors:
    """Embed the pictures of some splits; the other rows stay zero."""
    vectors = np.zeros((len(items), DIMENSIONS), np.float32)
    rows = [row for row, item in enumerate(items) if item.split in splits]
    for start in range(0, len(rows), PICTURES_PER_CALL):
        chosen = rows[start : start + PICTURES_PER_CALL]
        vectors[chosen] = encoder.encode_images([Image.open(items[row].image) for row in chosen])
        progress("pictures of the bundle", start, len(rows))
    return vectors
