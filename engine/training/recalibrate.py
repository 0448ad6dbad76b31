"""The confidence of a finished bundle, fitted again in place: one call, without torch.

What is fitted stands in `engine.training.calibrate`.
"""

from collections.abc import Callable
from pathlib import Path

from engine.encoders.openvino import OpenVINOEncoder
from engine.training.calibrate import calibrate, put_into
from engine.training.embedding import encode_pictures
from engine.training.sources import read_default


def recalibrate_bundle(bundle: Path, data: Path, *, progress: Callable[[str, int, int], None]) -> None:
    """Embed the validation pictures of the data folder with a bundle, fit its confidence, and list that in its manifest."""
    encoder = OpenVINOEncoder.load(bundle)
    items = read_default(data)
    put_into(bundle, calibrate(encoder, items, encode_pictures(encoder, items, {"val"}, progress)))
