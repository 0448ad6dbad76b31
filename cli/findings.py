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
BF16 = {"avx512_bf16", "amx_bf16", "bf16"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. `failed` means Semblance cannot work like this, `lacking` that something optional is not there."""

    name: str
    status: Literal["fine", "lacking", "failed"]
    detail: str
    remedy: str | None = None


def machine() -> Iterator[Finding]:
    """Name the interpreter and the processor."""
    yield Finding("python", "fine", f"{platform.python_version()} at {sys.executable}")
    features = _cpu_features()
    speed = "computes in bf16" if BF16 & set(features) else "has no bf16: fp32 serves"
    yield Finding("processor", "fine", f"{_usable_cores()} cores, {speed} ({' '.join(features) or platform.machine()})")


def packages() -> Iterator[Finding]:
    """Compare the base packages and each extra with what is installed."""
    wanted = requirements()
    if not wanted:
        yield Finding("packages", "lacking", "this is a source tree that was never installed", "pip install -e '.[cpu]'")
    for extra, needed in sorted(wanted.items()):
        missing = [requirement for requirement in needed if not requirement.met]
        name = f"extra {extra}" if extra else "packages"
        if not missing:
            yield Finding(name, "fine", ", ".join(f"{r.name} {r.installed}" for r in needed))
        elif extra:
            yield Finding(name, "lacking", f"not installed: {_names(missing)}", f"pip install 'semblance[{extra}]'")
        else:
            yield Finding(name, "failed", f"missing or too old: {_names(missing)}", "pip install --upgrade semblance")


def index_library() -> Iterator[Finding]:
    """Find FAISS, from whichever extra brought it."""
    try:
        import faiss
    except ImportError:
        yield Finding("index", "failed", "FAISS is not installed", "pip install 'semblance[cpu]', or [gpu] for CUDA")
        return
    gpus = faiss.get_num_gpus() if hasattr(faiss, "get_num_gpus") else 0
    yield Finding("index", "fine", f"faiss {faiss.__version__} on {f'{gpus} GPUs' if gpus else 'CPU'}")


def encoder(settings: Settings) -> tuple[list[Finding], Encoder | None]:
    """Load the encoder, verify its bundle and embed one text and one picture with it."""
    from engine.build import build_encoder

    started = time.perf_counter()
    try:
        loaded = build_encoder(settings)
        picture = Image.new("RGB", (64, 64), (200, 20, 20))
        vectors = np.concatenate([loaded.encode_texts(["a red shoe"]), loaded.encode_images([picture])])
    except (SemblanceError, ImportError, OSError, RuntimeError) as error:
        remedy = "restore the bundle from the repository, or name another encoder in SEMBLANCE_ENCODER"
        return [Finding("encoder", "failed", f"{settings.encoder}: {error}", remedy)], None
    if not np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3):
        return [Finding("encoder", "failed", f"{loaded.name} gives vectors that are not of unit length", "report this")], None
    milliseconds = (time.perf_counter() - started) * 1000
    detail = f"{loaded.name}, fingerprint {loaded.fingerprint}, verified, loaded and tried in {milliseconds:.0f} ms"
    return [Finding("encoder", "fine", detail), Finding("device", "fine", _device(settings, loaded))], loaded


def _device(settings: Settings, loaded: Encoder) -> str:
    """Say where the encoder runs: one with torch knows its device, the others are OpenVINO's."""
    device = getattr(loaded, "device", None)
    if device is not None:
        return f"{device} (torch), precision {getattr(loaded, 'precision', settings.precision)}"
    from engine.encoders.runtime import has_bf16

    bf16 = settings.precision == "bf16" or (settings.precision == "auto" and has_bf16())
    return f"cpu (OpenVINO), precision {'bf16' if bf16 else 'fp32'}"


def cache(settings: Settings) -> Iterator[Finding]:
    """Reach for the second cache tier."""
    if settings.redis_url is None:
        yield Finding("redis", "fine", "not configured: the cache in the process serves alone (SEMBLANCE_REDIS_URL adds one)")
        return
    import redis

    wait = max(settings.redis_timeout_ms / 1000, 0.5)
    try:
        with redis.Redis.from_url(
            settings.redis_url.get_secret_value(), socket_connect_timeout=wait, socket_timeout=wait
        ) as client:
            client.ping()
    except ValueError as error:
        yield Finding("redis", "failed", f"SEMBLANCE_REDIS_URL is malformed: {error}", "write redis://HOST:PORT/0")
    except (redis.RedisError, OSError) as error:
        detail = f"not reachable ({type(error).__name__}): searches go on without it"
        yield Finding("redis", "lacking", detail, "start it, or mend SEMBLANCE_REDIS_URL")
    else:
        yield Finding("redis", "fine", "reachable")


def data_folder(settings: Settings) -> Iterator[Finding]:
    """Try to write to the data folder, or to the nearest folder above it."""
    folder = settings.data.absolute()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        yield Finding(
            "data", "failed", f"cannot write to {existing}: {error.strerror}", "choose another in SEMBLANCE_DATA or --data"
        )
        return
    state = "writable" if existing == folder else "not there yet, can be made"
    yield Finding("data", "fine", f"{folder}: {state}, {shutil.disk_usage(existing).free / 1e9:.1f} GB free")


def collections(settings: Settings, loaded: Encoder) -> Iterator[Finding]:
    """Open every collection."""
    from engine.library import Library

    library = Library(settings, loaded)
    try:
        for name in library.names():
            try:
                yield Finding(f"collection {name}", "fine", f"{len(library.get(name))} documents")
            except SemblanceError as error:
                yield Finding(f"collection {name}", "failed", str(error))
    finally:
        library.close()


def _names(missing: list[Requirement]) -> str:
    return ", ".join(f"{r.name} {r.installed} (at least {r.minimum} is needed)" if r.installed else r.name for r in missing)


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
