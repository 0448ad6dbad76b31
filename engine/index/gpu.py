"""Inverted lists on a GPU, where FAISS is built for one and finds one: the candidates of searches that admit every row.

What a filter admits is searched on the processor, which is where a selector can be applied; exact scores are computed there either
way. Product codes stay on the processor too: their fast scan has no counterpart on a GPU. `CUDA_VISIBLE_DEVICES=` keeps everything
on the processor. How segments are made and opened does not belong here.
"""

import logging
import threading
from types import ModuleType
from typing import Any

import numpy as np

logger = logging.getLogger(__name__)


class OnGpu:
    """A copy of inverted lists of bytes on the first GPU. Thread-safe: a GPU answers one call at a time."""

    def __init__(self, faiss: ModuleType, lists: Any) -> None:  # noqa: ANN401  FAISS has no type hints
        self._resources = faiss.StandardGpuResources()
        self._index = faiss.index_cpu_to_gpu(self._resources, 0, lists)
        self._faiss, self._lock = faiss, threading.Lock()

    def search(self, vectors: np.ndarray, k: int, stored: Any, parameters: Any) -> tuple[np.ndarray, np.ndarray]:  # noqa: ANN401
        """Find the `k` best rows as `AnnIndex` does: candidates from the GPU, ordered by the `stored` rows."""
        with self._lock:
            found: tuple[np.ndarray, np.ndarray] = self._faiss.IndexRefine(self._index, stored).search(
                vectors, k, params=parameters
            )
        return found


def copied(faiss: ModuleType, index: Any) -> OnGpu | None:  # noqa: ANN401
    """Copy inverted lists of bytes to the GPU; None where there is no GPU, no room on it, or another kind of index."""
    if not isinstance(index, faiss.IndexIVFScalarQuantizer) or faiss.get_num_gpus() == 0:
        return None
    try:
        return OnGpu(faiss, index)
    except RuntimeError as error:  # how FAISS reports that the GPU is full
        logger.warning("%d rows are searched on the processor, the GPU did not take them: %s", index.ntotal, error)
        return None
