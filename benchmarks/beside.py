"""Building and measuring peers (`benchmarks.peers`), each in a process of its own; used by `benchmarks.search`.

A peer is asked with more and more effort until it reaches each recall of `TARGETS`; then one query at a time and all in one batch
are timed.
"""

import importlib
import json
import multiprocessing
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.peers import PEERS, Ask, K
from engine.datatypes import Vectors

TARGETS = (0.95, 0.99)
EFFORTS = (4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
PATIENCE_S = 8.0  # a peer too slow to answer all queries in so long is asked as many as it can, with no more effort than that


def build_peers(folder: Path, names: Sequence[str]) -> None:
    """Build each named peer from `vectors.npy` into its own folder; what is built already is kept."""
    for peer in (peer for peer in PEERS if peer.name in names):
        place = folder / peer.name
        if not (place / "built.json").exists():
            place.mkdir(exist_ok=True)
            _apart(_build, (peer.name, folder), place / "built.json")
        print(peer.name, (place / "built.json").read_text(encoding="utf-8"), flush=True)


def measure_peers(folder: Path, names: Sequence[str]) -> list[dict[str, object]]:
    """Measure each named peer that was built; the others are named with the reason why not."""
    results = []
    for peer in (peer for peer in PEERS if peer.name in names):
        built = folder / peer.name / "built.json"
        made = json.loads(built.read_text(encoding="utf-8")) if built.exists() else {"skipped": "it was not built"}
        found = made if "skipped" in made else made | _apart(_measure, (peer.name, folder), folder / peer.name / "measured.json")
        results.append({"name": peer.name, **found})
        print(results[-1], flush=True)
    return results


def memory_mb() -> dict[str, int]:
    """Read how much of this process is in memory: its own, and pages of files it maps."""
    status = dict(line.split(":") for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines())
    return {kind: int(status[name].split()[0]) // 1024 for kind, name in (("own", "RssAnon"), ("mapped", "RssFile"))}


def _apart(work: Callable[..., dict[str, object]], arguments: tuple[object, ...], result: Path) -> dict[str, object]:
    """Run `work` in a process of its own, so that neither memory nor an accident of one peer touches another."""
    result.unlink(missing_ok=True)
    process = multiprocessing.get_context("spawn").Process(target=_written, args=(work, arguments, result))
    process.start()
    process.join()
    if not result.exists():
        result.write_text(json.dumps({"skipped": f"its process ended with {process.exitcode}"}), encoding="utf-8")
    found: dict[str, object] = json.loads(result.read_text(encoding="utf-8"))
    return found


def _written(work: Callable[..., dict[str, object]], arguments: tuple[object, ...], result: Path) -> None:
    try:
        found = work(*arguments)
    except Exception as error:
        found = {"skipped": f"{type(error).__name__}: {error}"[:300]}
    result.write_text(json.dumps(found), encoding="utf-8")


def _build(name: str, folder: Path) -> dict[str, object]:
    peer = next(peer for peer in PEERS if peer.name == name)
    module, vectors = importlib.import_module(peer.module), np.load(folder / "vectors.npy")
    wall, used = time.perf_counter(), time.process_time()
    peer.build(module, vectors, folder / name)
    seconds = {"build_s": round(time.perf_counter() - wall, 1), "build_processor_s": round(time.process_time() - used, 1)}
    return {"version": str(getattr(module, "__version__", "")), **seconds}


def _measure(name: str, folder: Path) -> dict[str, object]:
    peer, known = next(peer for peer in PEERS if peer.name == name), np.load(folder / "truth.npz")
    module, queries, expected = importlib.import_module(peer.module), known["queries"], known["numbers"][0]
    held = memory_mb()
    start = time.perf_counter()
    ask = peer.open(module, folder / name)
    ask(queries[:1], EFFORTS[0])
    result: dict[str, object] = {"open_s": round(time.perf_counter() - start, 2)}
    start = time.perf_counter()
    ask(queries[:2], EFFORTS[0])
    asked = queries[: max(10, min(len(queries), int(2 * PATIENCE_S / (time.perf_counter() - start))))]
    targets = list(TARGETS)
    for effort in EFFORTS:
        start = time.perf_counter()
        found = ask(asked, effort)
        seconds = time.perf_counter() - start
        recall = float(np.mean([len(np.intersect1d(e, f)) / K for f, e in zip(found, expected, strict=False)]))
        while targets and recall >= targets[0]:
            result[f"at_{targets.pop(0)}"] = {"effort": effort, "recall_at_10": round(recall, 4), **_timed(ask, asked, effort)}
        if not targets or seconds > PATIENCE_S:
            break
    memory = {kind: now - held[kind] for kind, now in memory_mb().items()}
    return {**result, "queries": len(asked), "best_recall_at_10": round(recall, 4), "memory_mb": memory}


def _timed(ask: Ask, queries: Vectors, effort: int) -> dict[str, float]:
    times = []
    for number in range(len(queries)):
        start = time.perf_counter()
        ask(queries[number : number + 1], effort)
        times.append(1000 * (time.perf_counter() - start))
    start = time.perf_counter()
    ask(queries, effort)
    batch = len(queries) / (time.perf_counter() - start)
    return {
        "p50_ms": round(float(np.median(times)), 3),
        "p99_ms": round(float(np.percentile(times, 99)), 3),
        "qps_alone": round(1000 / float(np.mean(times))),
        "qps_batch": round(batch),
    }
