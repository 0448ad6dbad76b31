"""The confidence of a finished bundle, fitted again in place: one call, without torch.

What is fitted stands in `engine.training.calibrate`.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from engine.datatypes import DIMENSIONS
from engine.encoders.openvino import OpenVINOEncoder
from engine.training.calibrate import calibrate, put_into
from engine.training.sources import read_default

PICTURES_PER_CALL = 64


def recalibrate_bundle(bundle: Path, data: Path, *, progress: Callable[[str, int, int], None]) -> None:
    """Embed the validation pictures of the data folder with a bundle, fit its confidence, and list that in its manifest."""
    encoder = OpenVINOEncoder.load(bundle)
    items = read_default(data)
    images = np.zeros((len(items), DIMENSIONS), np.float32)
    rows = [row for row, item in enumerate(items) if item.split == "val"]
    for start in range(0, len(rows), PICTURES_PER_CALL):
        chosen = rows[start : start + PICTURES_PER_CALL]
        images[chosen] = encoder.encode_images([Image.open(items[row].image) for row in chosen])
        progress("pictures of the bundle", start, len(rows))
    put_into(bundle, calibrate(encoder, items, images))
