"""Loading pipelines of diffusers: device, arithmetic, memory, LoRA, IP-Adapter, and how many steps a model takes.

Weights are safetensors, remote code is never run, and the hub is asked only for what is not a folder here.
"""

import logging
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from engine.config import Settings
from engine.errors import ConfigurationError, MissingExtra, ModelError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pacing:
    """How many steps a model takes, and how strictly it follows, unless a request says otherwise."""

    steps: int
    guidance: float


TURBO, CONSISTENCY, PLAIN = Pacing(2, 0.0), Pacing(4, 1.0), Pacing(25, 7.5)


def pacing_of(name: str, pipeline: Any) -> Pacing:  # noqa: ANN401  diffusers' own
    """Tell distilled models from plain ones: by their scheduler, else by what the model calls itself."""
    if "LCM" in type(pipeline.scheduler).__name__ or "lcm" in name.lower():
        return CONSISTENCY
    return TURBO if "turbo" in name.lower() else PLAIN


def load_pipeline(name: str, settings: Settings, *, ip_adapter: Path) -> Any:  # noqa: ANN401  diffusers' own
    """Load a pipeline that draws from words or embeddings, ready on its device; raises `ModelError` or `MissingExtra`."""
    if find_spec("diffusers") is None:
        raise MissingExtra("drawing with a hub model", "models")
    library: Any = import_module("diffusers")

    device, dtype = _device(settings), _dtype(settings)
    try:
        pipeline = library.DiffusionPipeline.from_pretrained(
            name, torch_dtype=dtype, use_safetensors=True, local_files_only=Path(name).exists(), trust_remote_code=False
        )
    except Exception as error:  # diffusers, transformers and the hub client each have errors of their own
        logger.debug("loading %s", name, exc_info=True)
        raise ModelError(f"the decoder {name!r} cannot be loaded ({_first_line(error)}): check the name or the folder") from None
    if not hasattr(pipeline, "unet"):
        raise ModelError(f"{name!r} is a {type(pipeline).__name__}, which has no U-Net to draw with: use SD, SDXL or Kandinsky 2.2")
    _lay_over(pipeline, settings.lora)
    if ip_adapter.is_file() and hasattr(pipeline, "tokenizer"):
        _add_ip_adapter(pipeline, ip_adapter)
    pipeline.set_progress_bar_config(disable=True)
    if device.type == "cuda" and not ip_adapter.is_file() and hasattr(pipeline, "enable_attention_slicing"):
        pipeline.enable_attention_slicing()  # it would put its own attention in place of the IP-Adapter's
    return pipeline.to(device)


def load_redrawing(pipeline: Any) -> Any:  # noqa: ANN401  diffusers' own
    """Make the pipeline that starts from a picture, of the same weights."""
    library: Any = import_module("diffusers")

    if not hasattr(pipeline, "tokenizer"):
        redrawing = library.KandinskyV22Img2ImgPipeline(**pipeline.components)
    else:
        redrawing = library.AutoPipelineForImage2Image.from_pipe(pipeline)
    redrawing.set_progress_bar_config(disable=True)
    return redrawing


def _lay_over(pipeline: Any, files: tuple[str, ...]) -> None:  # noqa: ANN401  diffusers' own
    """Lay LoRA files over the weights, all at full strength."""
    for number, file in enumerate(files):
        if not Path(file).is_file():
            raise ConfigurationError(f"the LoRA file {file!r} is not there: check SEMBLANCE_LORA")
        try:
            pipeline.load_lora_weights(str(Path(file).parent), weight_name=Path(file).name, adapter_name=f"lora{number}")
        except Exception as error:  # peft and diffusers raise many kinds
            raise ModelError(f"the LoRA file {file!r} does not fit the decoder ({_first_line(error)}): use another") from None
    if len(files) > 1:
        pipeline.set_adapters([f"lora{number}" for number in range(len(files))])


def _add_ip_adapter(pipeline: Any, path: Path) -> None:  # noqa: ANN401  diffusers' own
    try:
        pipeline.load_ip_adapter(str(path.parent), subfolder="", weight_name=path.name, image_encoder_folder=None)
    except Exception as error:  # as above
        raise ModelError(f"the IP-Adapter {str(path)!r} does not fit the decoder ({_first_line(error)})") from None


def _device(settings: Settings) -> torch.device:
    return torch.device("cuda" if settings.device in ("auto", "cuda") and torch.cuda.is_available() else "cpu")


def _dtype(settings: Settings) -> torch.dtype:
    """Take 16 bits on a GPU, bfloat16 where it is asked for; 32 on a processor, where half precision is slow or wrong."""
    if _device(settings).type == "cpu":
        return torch.float32
    if settings.precision == "fp32":
        return torch.float32
    return torch.bfloat16 if settings.precision == "bf16" else torch.float16


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:200]}"
