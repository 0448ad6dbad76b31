"""A GPU, where there is one. FAISS for processors stands in for it here: which searches go there is tested, and the way back."""

import logging
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

from engine.index import ann, gpu
from engine.index.ann import AnnIndex, Kind, RowSet
from tests.storage import unit

VECTORS, QUERIES = unit(3000, seed=1).astype(np.float16), unit(5, seed=2)


@pytest.fixture
def copies(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The indexes that were copied to one pretended GPU."""
    made: list[Any] = []

    def copy(resources: object, device: int, index: Any) -> Any:
        made.append(faiss.clone_index(index))
        return made[-1]

    monkeypatch.setattr(ann, "FLAT_ROWS", 1000)
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 1)
    monkeypatch.setattr(faiss, "StandardGpuResources", object, raising=False)
    monkeypatch.setattr(faiss, "index_cpu_to_gpu", copy, raising=False)
    return made


def opened(folder: Path, kind: Kind = "ivf-sq8") -> AnnIndex:
    AnnIndex.build(VECTORS, kind=kind, threads=1).save(folder / "x.faiss")
    return AnnIndex.open(folder / "x.faiss", VECTORS, threads=1)


def test_an_unfiltered_search_goes_to_the_gpu_and_a_filtered_one_does_not(
    copies: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    index, everything = opened(tmp_path), RowSet(np.ones(len(VECTORS), bool))
    assert len(copies) == 1
    expected = index.search(QUERIES, 10, everything, probes=8)
    found = index.search(QUERIES, 10, None, probes=8)
    assert np.array_equal(found[1], expected[1])
    assert np.array_equal(found[0], expected[0])
    asked = []
    monkeypatch.setattr(gpu.OnGpu, "search", lambda *arguments: asked.append(arguments))
    index.search(QUERIES, 10, everything, probes=8)
    assert asked == []
    index.search(QUERIES, 10, None, probes=8)
    assert len(asked) == 1


def test_other_kinds_stay_on_the_processor(copies: list[Any], tmp_path: Path):
    opened(tmp_path, "flat")
    opened(tmp_path, "ivf-pq")
    assert copies == []


def test_a_full_gpu_is_said_and_the_processor_answers(
    copies: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def full(*_: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(faiss, "index_cpu_to_gpu", full, raising=False)
    with caplog.at_level(logging.WARNING):
        index = opened(tmp_path)
    assert "3000 rows are searched on the processor" in caplog.text
    assert (index.search(QUERIES, 10, None)[1] >= 0).all()


def test_without_a_gpu_nothing_is_copied(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ann, "FLAT_ROWS", 1000)
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 0)
    assert gpu.copied(faiss, AnnIndex.build(VECTORS, threads=1)._index) is None
