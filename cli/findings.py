"""What `semblance doctor` looks at: each function examines one thing and says what it found and how to mend it."""

import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from cli.requirements import Requirement, requirements
from engine.config import Settings
from engine.errors import SemblanceError
from engine.protocols import Encoder

CPU_FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimd", "bf16", "i8mm")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. `failed` means Semblance cannot work like this, `lacking` that something optional is not there."""

    name: str
    status: Literal["fine", "lacking", "failed"]
    detail: str
    remedy: str | None = None


def python() -> Iterator[Finding]:
    """Name the interpreter and the machine."""
    yield Finding("python", "fine", f"{platform.python_version()} at {sys.executable}")
    features = _cpu_features()
    speed = "bf16 arithmetic" if {"avx512_bf16", "amx_bf16", "bf16"} & set(features) else "no bf16: fp32 arithmetic"
    yield Finding("processor", "fine", f"{_usable_cores()} cores, {speed} ({' '.join(features) or platform.machine()})")


def packages() -> Iterator[Finding]:
    """Compare the base packages and each extra with what is installed."""
    wanted = requirements()
    if not wanted:
        yield Finding("packages", "lacking", "running from a source tree", "pip install -e '.[cpu]'")
    for extra, needed in sorted(wanted.items()):
        missing = [requirement for requirement in needed if not requirement.met]
        if extra == "":
            yield _base(needed, missing)
        else:
            yield _extra(extra, needed, missing)


def _base(needed: list[Requirement], missing: list[Requirement]) -> Finding:
    versions = ", ".join(f"{r.name} {r.installed}" for r in needed if r.met)
    if missing:
        return Finding("packages", "failed", f"missing or too old: {_names(missing)}", "pip install --upgrade semblance")
    return Finding("packages", "fine", versions)


def _extra(extra: str, needed: list[Requirement], missing: list[Requirement]) -> Finding:
    if missing:
        return Finding(f"extra {extra}", "lacking", f"not installed: {_names(missing)}", f"pip install 'semblance[{extra}]'")
    return Finding(f"extra {extra}", "fine", ", ".join(f"{r.name} {r.installed}" for r in needed))


def _names(found: list[Requirement]) -> str:
    return ", ".join(f"{r.name} {r.installed} (needs {r.minimum})" if r.installed else r.name for r in found)


def index_library() -> Iterator[Finding]:
    """Find FAISS, from whichever extra brought it."""
    try:
        import faiss
    except ImportError:
        yield Finding("index", "failed", "FAISS is not installed", "pip install 'semblance[cpu]' (or [gpu] on a CUDA machine)")
        return
    yield Finding(
        "index", "fine", f"faiss {faiss.__version__}, {faiss.get_num_gpus() if hasattr(faiss, 'get_num_gpus') else 0} GPUs"
    )


def encoder(settings: Settings) -> tuple[list[Finding], Encoder | None]:
    """Load the encoder, verify its bundle and embed one text and one picture with it."""
    from engine.build import build_encoder

    started = time.perf_counter()
    try:
        loaded = build_encoder(settings)
        vectors = np.concatenate(
            [loaded.encode_texts(["a red shoe"]), loaded.encode_images([Image.new("RGB", (64, 64), (200, 20, 20))])]
        )
    except (SemblanceError, OSError, RuntimeError) as error:
        return [
            Finding("encoder", "failed", f"{settings.encoder}: {error}", "restore the bundle or choose SEMBLANCE_ENCODER")
        ], None
    if not np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3):
        return [Finding("encoder", "failed", f"{loaded.name} gives vectors that are not of unit length", "report this")], None
    milliseconds = (time.perf_counter() - started) * 1000
    detail = f"{loaded.name}, fingerprint {loaded.fingerprint}, verified, loaded and tried in {milliseconds:.0f} ms"
    return [Finding("encoder", "fine", detail), _device(settings, loaded)], loaded


def _device(settings: Settings, loaded: Encoder) -> Finding:
    device = getattr(loaded, "device", None) or settings.device
    precision = getattr(loaded, "precision", None) or settings.precision
    return Finding("device", "fine", f"{device}, {precision}")


def cache(settings: Settings) -> Iterator[Finding]:
    """Reach for the second cache tier."""
    if settings.redis_url is None:
        yield Finding("redis", "fine", "not configured: the in-process cache serves alone (SEMBLANCE_REDIS_URL adds one)")
        return
    import redis

    seconds = max(settings.redis_timeout_ms / 1000, 0.5)
    client = redis.Redis.from_url(settings.redis_url.get_secret_value(), socket_connect_timeout=seconds, socket_timeout=seconds)
    try:
        client.ping()
    except (redis.RedisError, OSError) as error:
        yield Finding(
            "redis",
            "lacking",
            f"not reachable ({type(error).__name__}): searches go on without it",
            "start it, or fix SEMBLANCE_REDIS_URL",
        )
    else:
        yield Finding("redis", "fine", "reachable")
    finally:
        client.close()


def data_folder(settings: Settings) -> Iterator[Finding]:
    """Try to write to the data folder, or to the nearest folder above it."""
    folder = settings.data.absolute()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        yield Finding(
            "data", "failed", f"{folder} cannot be written: {error.strerror}", "choose another with SEMBLANCE_DATA or --data"
        )
        return
    state = "writable" if existing == folder else "does not exist yet, can be made"
    yield Finding("data", "fine", f"{folder}: {state}, {_free_gigabytes(existing):.1f} GB free")


def collections(settings: Settings, loaded: Encoder) -> Iterator[Finding]:
    """Open every collection."""
    from engine.library import Library

    library = Library(settings, loaded)
    try:
        for name in library.names():
            try:
                yield Finding(f"collection {name}", "fine", f"{len(library.get(name))} documents")
            except SemblanceError as error:
                yield Finding(f"collection {name}", "failed", str(error), "the message says how")
    finally:
        library.close()


def _cpu_features() -> list[str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    line = next((line for line in text.splitlines() if line.lower().startswith(("flags", "features"))), "")
    present = set(line.partition(":")[2].split())
    return [feature for feature in CPU_FEATURES if feature in present]


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _free_gigabytes(folder: Path) -> float:
    return shutil.disk_usage(folder).free / 1e9
