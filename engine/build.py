"""The only place that chooses implementations: settings in, a working engine out."""

import ctypes
import hashlib
import json
import logging
from pathlib import Path

from engine.cache import MemoryCache, RedisCache, TieredCache
from engine.confidence import FILE as CALIBRATION
from engine.confidence import Calibration
from engine.config import Settings, load_settings
from engine.encoders.adapted import PREFIX, TOWER, AdaptedEncoder
from engine.encoders.openvino import OpenVINOEncoder
from engine.errors import BundleError, ConfigurationError, MissingExtra
from engine.generation.decoder import Decoder
from engine.generation.nudity import nudity_filter
from engine.generation.nudity import weights as nudity_weights
from engine.generation.safety import MeaningCheck, concept_list
from engine.generation.studio import Studio
from engine.protocols import Encoder, Generator
from engine.search import SearchEngine

logger = logging.getLogger(__name__)

BUNDLES = Path(__file__).parent / "bundles"
HUB_SIZE = 512


def open_engine(data: Path | str | Settings | None = None) -> SearchEngine:
    """Open the engine over a data folder, or over settings already read; the environment fills in the rest.

    Raises `ConfigurationError`, `BundleError` or `MissingExtra`. Close the engine, or use it as a context manager.
    """
    settings = data if isinstance(data, Settings) else load_settings(data=data)
    encoder = build_encoder(settings)
    return SearchEngine(settings, encoder, build_cache(settings), build_calibration(settings))


def build_encoder(settings: Settings) -> Encoder:
    """Load the encoder `settings.encoder` names, on the device it asks for."""
    if settings.encoder.startswith(PREFIX):
        return _adapted(Path(settings.encoder.removeprefix(PREFIX)), settings)
    folder = bundle_folder(settings.encoder)
    if folder is None:
        from engine.encoders.backbones import load_encoder  # noqa: PLC0415  torch is an extra

        return load_encoder(settings.encoder, settings)
    if settings.device in ("cuda", "cpu") or (settings.device == "auto" and _cuda_is_there()):
        from engine.encoders.torch import TorchEncoder  # noqa: PLC0415  torch is an extra

        device = "cpu" if settings.device == "cpu" else "cuda"
        return TorchEncoder.from_bundle(folder, device=device, precision=settings.precision)
    return OpenVINOEncoder.load(folder, threads=settings.threads, precision=settings.precision)


def _adapted(folder: Path, settings: Settings) -> Encoder:
    def beside(spec: str) -> Encoder:
        return build_encoder(settings.model_copy(update={"encoder": spec}))

    if not (folder / TOWER).exists():
        return AdaptedEncoder.load(folder, beside)
    try:
        from engine.encoders.causal import CausalEncoder  # noqa: PLC0415  torch is an extra
    except ImportError:
        raise MissingExtra("a language model as text tower", "models") from None
    return CausalEncoder.load(folder, beside, settings)


def build_cache(settings: Settings) -> TieredCache:
    """Build the in-process tier, and Redis behind it when a URL is set."""
    memory = MemoryCache(settings.cache_entries, ttl_s=settings.cache_ttl_s)
    redis = None
    if settings.redis_url is not None:
        redis = RedisCache(
            settings.redis_url,
            timeout_ms=settings.redis_timeout_ms,
            ttl_s=settings.cache_ttl_s,
            secret=settings.cache_secret,
        )
    return TieredCache(memory, redis)


def build_calibration(settings: Settings) -> Calibration | None:
    """Load the calibration of a bundle; answers of other encoders carry no confidence until their collection is calibrated."""
    folder = bundle_folder(settings.encoder)
    path = folder / CALIBRATION if folder else None
    try:
        return Calibration.load(path) if path and path.exists() else None
    except BundleError as error:  # a search without confidence is better than none
        logger.warning("answers carry no confidence: %s", error)
        return None


def decoder_folder(settings: Settings) -> Path | None:
    """Say where the decoder of this engine's vectors is; None when there is none, or a hub model draws."""
    kind, separator, name = settings.generator.partition(":")
    if settings.generator == "none" or (separator and kind == "diffusers"):
        return None
    folder = BUNDLES / name / "decoder" if kind == "bundle" and separator else Path(settings.generator)
    return folder if (folder / "decoder.json").is_file() else None


def can_draw(settings: Settings) -> bool:
    """Say whether there is something that draws, without loading it."""
    return settings.generator.startswith("diffusers:") or decoder_folder(settings) is not None


def drawing_size(settings: Settings) -> int:
    """Say which side in pixels the generator draws best, without loading it."""
    folder = decoder_folder(settings)
    return HUB_SIZE if folder is None else int(json.loads((folder / "decoder.json").read_text(encoding="utf-8"))["size"])


def generator_identity(settings: Settings) -> str:
    """Name what draws, its weights included, without loading it: drawings of two identities are kept apart."""
    folder = decoder_folder(settings)
    if folder is None:
        return "|".join((settings.generator, *settings.lora))
    return hashlib.blake2b((folder / "decoder.json").read_bytes(), digest_size=16).hexdigest()


def build_generator(settings: Settings) -> Generator:
    """Load what `settings.generator` names; raises `ConfigurationError` when that is nothing, `BundleError` or `MissingExtra`."""
    if settings.generator.startswith("diffusers:"):
        from engine.generation.hub import HubGenerator  # noqa: PLC0415  torch is an extra

        return HubGenerator.load(settings.generator.partition(":")[2], settings)
    folder = decoder_folder(settings)
    if folder is None:
        raise ConfigurationError(
            f"generator {settings.generator!r} draws nothing: use bundle:default, a folder with decoder.json, "
            f"or diffusers:FOLDER_OR_ORG/MODEL"
        )
    return Decoder.load(folder, threads=settings.drawing_threads)


def open_studio(settings: Settings) -> Studio:
    """Load everything a drawing needs: what draws, what looks at it, what refuses. Raises what loading raises."""
    encoder = build_encoder(settings.model_copy(update={"threads": settings.drawing_threads}))
    meaning = MeaningCheck(encoder, concept_list(settings.blocked_concepts))
    nudity = nudity_filter() if nudity_weights() is not None else None
    return Studio(build_generator(settings), encoder, meaning, nudity, nudity_threshold=settings.nudity_threshold)


def bundle_folder(spec: str) -> Path | None:
    """Say which folder a bundle's name or path means; None when `spec` names a hub model or checkpoint."""
    kind, separator, name = spec.partition(":")
    if separator and kind in ("open_clip", "hf", "adapted"):
        return None
    folder = BUNDLES / name if kind == "bundle" and separator else Path(spec)
    if not (folder / "bundle.json").is_file():
        raise ConfigurationError(
            f"encoder {spec!r} is no bundle: use bundle:default, a folder with bundle.json, "
            f"open_clip:MODEL/PRETRAINED, hf:ORG/MODEL or adapted:FOLDER"
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
