"""From trained torch towers to a bundle folder: OpenVINO graphs whose constants carry the parameters' names.

The large matrices of the text tower are stored in 8 bits with one scale a row, everything else that is large in float16.
The quantised numbers are the model: `engine.encoders.towers.build_towers` reads the same ones.
"""

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Int8
from torch import nn

from engine.encoders.bundle import MANIFEST, MODEL_FILES, SCALE, WEIGHT, FileRecord, Manifest, record, write_manifest
from engine.encoders.runtime import openvino
from engine.encoders.towers import TextShape, Towers
from engine.training.card import LANGUAGES, model_card
from engine.training.graphs import convert

SMALL = 1_024
EXTRA_FILES = ("calibrator.json", "MODEL_CARD.md")


def export_bundle(towers: Towers, work: Path, output: Path, *, name: str, training: dict[str, Any]) -> Path:
    """Write graphs, tokenizer and manifest to `output`; `work` holds `tokenizer.json` and `tokens.npy`."""
    output.mkdir(parents=True, exist_ok=True)
    (output / MANIFEST).unlink(missing_ok=True)
    size, width = towers.image.size, TextShape().width
    pixels = torch.zeros(1, size, size, 3, dtype=torch.uint8)
    tokens = {"tokens": torch.zeros(1, 8, width), "mask": torch.ones(1, 8)}
    export_graph(towers.image, {"pixels": pixels}, {"pixels": [-1, size, size, 3]}, output / "image.xml", eight_bit="head.")
    export_graph(towers.text, tokens, {"tokens": [-1, -1, width], "mask": [-1, -1]}, output / "text.xml", eight_bit="")
    for file in ("tokenizer.json", "tokens.npy"):
        shutil.copyfile(work / file, output / file)
    finish_bundle(output, name=name, image=asdict(towers.image.shape), parameters=_count(towers, output), training=training)
    return output


def finish_bundle(
    output: Path, *, name: str, image: dict[str, Any], parameters: dict[str, int], training: dict[str, Any]
) -> None:
    """Write the card and, last, the manifest over whatever files are there; `image` are the sizes of the image tower."""
    sizes = {file: record(output / file) for file in MODEL_FILES}
    (output / "MODEL_CARD.md").write_text(model_card(parameters, sizes, training), encoding="utf-8")
    extra = {file: record(output / file) for file in EXTRA_FILES if (output / file).exists()}
    files: dict[str, FileRecord] = {**sizes, **extra}
    manifest = Manifest(name, image, asdict(TextShape()), LANGUAGES, parameters, training, files)
    write_manifest(output, manifest)


def export_graph(
    module: nn.Module, example: dict[str, torch.Tensor], shapes: dict[str, list[int]], path: Path, *, eight_bit: str
) -> None:
    """Convert one tower and save it; matrices whose name starts with `eight_bit` are stored in 8 bits."""
    graph = convert(module, example, shapes)
    name_constants(graph, module)
    for constant in [op for op in graph.get_ops() if op.get_type_name() == "Constant"]:
        name = constant.get_friendly_name()
        if name.startswith(WEIGHT) and constant.get_data().size >= SMALL:
            values = constant.get_data()
            eight = values.ndim == 2 and min(values.shape) > 1 and name.startswith(WEIGHT + eight_bit)
            _replace(constant, _eight_bit(values, name) if eight else _half(values, name))
    openvino.save_model(graph, path, compress_to_fp16=False)


def name_constants(graph: Any, module: nn.Module) -> None:  # noqa: ANN401  OpenVINO has no types
    """Give every constant the name of the parameter it holds; raises `ValueError` when a parameter has none."""
    names: dict[bytes, list[str]] = {}
    for name, parameter in module.named_parameters():
        names.setdefault(parameter.detach().numpy().tobytes(), []).append(name)
    for constant in (op for op in graph.get_ops() if op.get_type_name() == "Constant"):
        candidates = names.get(np.ascontiguousarray(constant.get_data()).tobytes())
        if candidates:
            constant.set_friendly_name(WEIGHT + candidates.pop(0))
    lost = sorted(name for candidates in names.values() for name in candidates)
    if lost:
        raise ValueError(f"the exported graph has no constant for {', '.join(lost[:5])}: the conversion changed them")


def quantise(values: Float32[np.ndarray, "o i"]) -> tuple[Int8[np.ndarray, "o i"], Float32[np.ndarray, "o 1"]]:
    """Quantise a matrix to 8 bits, symmetric, one scale a row."""
    scale = np.maximum(np.abs(values).max(1, keepdims=True), 1e-8).astype(np.float32) / 127.0
    return np.rint(values / scale).astype(np.int8), scale


def _eight_bit(values: Float32[np.ndarray, "o i"], name: str) -> Any:  # noqa: ANN401
    ops = openvino.opset13
    numbers, scale = quantise(values)
    stored = ops.constant(numbers, name=name)
    factor = ops.constant(scale, name=SCALE + name.removeprefix(WEIGHT))
    return ops.multiply(ops.convert(stored, "f32"), factor)


def _half(values: Float32[np.ndarray, "..."], name: str) -> Any:  # noqa: ANN401
    ops = openvino.opset13
    return ops.convert(ops.constant(values.astype(np.float16), name=name), "f32")


def _replace(constant: Any, node: Any) -> None:  # noqa: ANN401
    constant.set_friendly_name("replaced:" + constant.get_friendly_name())
    for target in list(constant.output(0).get_target_inputs()):
        target.replace_source_output(node.output(0))


def _count(towers: Towers, output: Path) -> dict[str, int]:
    rows = np.load(output / "tokens.npy", mmap_mode="r").shape[0]
    image, text = (sum(parameter.numel() for parameter in tower.parameters()) for tower in (towers.image, towers.text))
    return {"image": image, "text": text, "tokens": rows * TextShape().width}
