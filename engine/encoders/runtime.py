"""OpenVINO, imported so that it does not phone home.

OpenVINO 2026's converter sends a usage event when it is imported, unless its telemetry package is absent. Everything in this
project that needs OpenVINO imports it from here, after that package has been made to look absent for this process.
"""

import os
import sys
from importlib import import_module
from typing import Any

sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None makes an import of it fail

openvino: Any = import_module("openvino")
openvino.Type.f32.to_dtype()  # fills a table; two threads that did it first at once would wait for each other for ever


def has_bf16() -> bool:
    """Say whether this processor computes in bfloat16."""
    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def cores() -> int:
    """Count the processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def compile_for_cpu(graph: Any, *, threads: int, bf16: bool, exact: bool = False, streams: int = 1) -> Any:  # noqa: ANN401  no types
    """Compile a graph for this processor; 0 threads means all cores. With one stream a call uses every thread.

    Several streams share the threads: as many calls run side by side, each slower, all of them together faster.

    Where a matrix is stored in 8 bits OpenVINO rounds the numbers it meets to 8 bits too, which is faster; `exact` forbids it.
    """
    hints: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": streams,
        "PERFORMANCE_HINT": "LATENCY" if streams == 1 else "THROUGHPUT",
    }
    if exact:
        hints["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = 0
    return openvino.Core().compile_model(graph, "CPU", hints)
