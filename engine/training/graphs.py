"""From torch modules to OpenVINO graphs: conversion and compilation, for caching features and for export."""

import warnings
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from engine.encoders.runtime import compile_for_cpu, has_bf16, openvino


def convert(module: nn.Module, example: Mapping[str, Tensor], shapes: Mapping[str, list[int]]) -> Any:  # noqa: ANN401
    """Convert a module by tracing it on `example`; a size of -1 in `shapes` may change from call to call."""
    with warnings.catch_warnings():
        # OpenVINO 2026 traces with torch.jit, which torch has deprecated; tracing also warns of shapes read as numbers.
        warnings.simplefilter("ignore")
        return openvino.convert_model(module.eval(), example_input=dict(example), input=list(shapes.items()))


def compile_module(module: nn.Module, example: Mapping[str, Tensor], shapes: Mapping[str, list[int]], threads: int) -> Any:  # noqa: ANN401
    """Convert and compile for this CPU, in bf16 where the processor has it; 0 threads means all cores."""
    return compile_for_cpu(convert(module, example, shapes), threads=threads, bf16=has_bf16())
