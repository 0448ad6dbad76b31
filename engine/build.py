"""The only place that chooses implementations: settings in, a working engine out."""

import ctypes
import logging
from pathlib import Path

from engine.cache import MemoryCache, RedisCache, TieredCache
from engine.confidence import Calibration
from engine.config import Settings, load_settings
from engine.encoders.openvino import OpenVINOEncoder
from engine.errors import ConfigurationError
from engine.protocols import Encoder
from engine.search import SearchEngine

logger = logging.getLogger(__name__)

BUNDLES = Path(__file__).parent / "bundles"


def open_engine(data: Path | str | Settings | None = None) -> SearchEngine:
    """Open the engine over a data folder, or over settings already read; the environment fills in the rest.

    Raises `ConfigurationError`, `BundleError` or `MissingExtra`. Close the engine, or use it as a context manager.
    """
    settings = data if isinstance(data, Settings) else load_settings(data=data)
    encoder = build_encoder(settings)
    return SearchEngine(settings, encoder, build_cache(settings), build_calibration(settings))


def build_encoder(settings: Settings) -> Encoder:
    """Load the encoder `settings.encoder` names, on the device it asks for."""
    folder = bundle_folder(settings.encoder)
    if folder is None:
        from engine.encoders.backbones import load_encoder  # noqa: PLC0415  torch is an extra

        return load_encoder(settings.encoder, settings)
    if settings.device in ("cuda", "cpu") or (settings.device == "auto" and _cuda_is_there()):
        from engine.encoders.torch import TorchEncoder  # noqa: PLC0415  torch is an extra

        device = "cpu" if settings.device == "cpu" else "cuda"
        return TorchEncoder.from_bundle(folder, device=device, precision=settings.precision)
    return OpenVINOEncoder.load(folder, threads=settings.threads, precision=settings.precision)


def build_cache(settings: Settings) -> TieredCache:
    """Build the in-process tier, and Redis behind it when a URL is set."""
    memory = MemoryCache(settings.cache_entries, ttl_s=settings.cache_ttl_s)
    redis = None
    if settings.redis_url is not None:
        redis = RedisCache(settings.redis_url, timeout_ms=settings.redis_timeout_ms, ttl_s=settings.cache_ttl_s)
    return TieredCache(memory, redis)


def build_calibration(settings: Settings) -> Calibration | None:
    """Load the calibration of a bundle; other encoders have none and their answers carry no confidence."""
    folder = bundle_folder(settings.encoder)
    path = folder / "calibrator.json" if folder else None
    return Calibration.load(path) if path and path.exists() else None


def bundle_folder(spec: str) -> Path | None:
    """Say which folder a bundle's name or path means; None when `spec` names a hub model or checkpoint."""
    kind, separator, name = spec.partition(":")
    if separator and kind in ("open_clip", "hf"):
        return None
    folder = BUNDLES / name if kind == "bundle" and separator else Path(spec)
    if not (folder / "bundle.json").is_file():
        raise ConfigurationError(
            f"encoder {spec!r} is no bundle: use bundle:default, a folder with bundle.json, "
            f"open_clip:MODEL/PRETRAINED or hf:ORG/MODEL"
        )
    return folder


def _cuda_is_there() -> bool:
    """Ask torch, but only where a driver is: importing torch takes seconds, and most processors have no GPU beside them."""
    try:
        ctypes.CDLL("libcuda.so.1")
        import torch  # noqa: PLC0415  torch is an extra
    except (OSError, ImportError):
        return False
    return bool(torch.cuda.is_available())
