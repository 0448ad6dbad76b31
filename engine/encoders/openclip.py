"""Models of open_clip as backbones: by name and pretrained tag, from a folder, from a checkpoint, from the hub.

Here belongs what open_clip's own loading, tokenizers and preprocessing settings need. Running the model does not.
"""

import json
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from engine.datatypes import Image
from engine.encoders.hub import offline_unless_reachable
from engine.encoders.torch import Backbone, Inputs, digest_of, pixels_of
from engine.errors import MissingExtra, ModelError

try:
    import open_clip
except ImportError:
    raise MissingExtra("an open_clip model", "models") from None

_SAFE_NAMES = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors")
_HUB = "hf-hub:"


@dataclass(frozen=True, slots=True)
class _Checkpoint:
    """What open_clip is asked to load: its model name, and a tag or file unless the name says where the weights are."""

    model: str
    pretrained: str | None


def open_clip_backbone(name: str) -> Backbone:
    """Load `MODEL/PRETRAINED`, `MODEL/FILE.safetensors`, a folder, or `hf-hub:ORG/MODEL`.

    Raises `ModelError` when there is no such model, when its weights are no safetensors, or when the hub cannot be reached.
    """
    checkpoint = _resolve(name)
    try:
        with offline_unless_reachable() if name.startswith(_HUB) else nullcontext():
            model = open_clip.create_model(checkpoint.model, checkpoint.pretrained, require_pretrained=True)
            tokenizer = open_clip.get_tokenizer(checkpoint.model)
    except Exception as error:  # open_clip raises whatever torch, json or the hub raised
        raise ModelError(f"open_clip cannot load {name!r} ({error}): check the name, or name a local folder") from error
    return _backbone(f"open_clip:{name}", model, tokenizer)


def _resolve(name: str) -> _Checkpoint:
    if name.startswith(_HUB):
        _require_safetensors(name, _downloaded({"hf_hub": name.removeprefix(_HUB) + "/"}, name))
        return _Checkpoint(name, None)
    if Path(name).is_dir():
        return _Checkpoint(f"local-dir:{_checked_folder(Path(name))}", None)
    model, separator, pretrained = name.partition("/")
    if not separator or model not in open_clip.list_models():
        raise ModelError(
            f"{name!r} is neither a folder nor an open_clip model with a tag: write open_clip:ViT-B-32/laion2b_s34b_b79k, "
            f"open_clip:ViT-B-32/FILE.safetensors or open_clip:FOLDER"
        )
    if Path(pretrained).is_file():
        _require_safetensors(name, pretrained)
    elif settings := open_clip.get_pretrained_cfg(model, pretrained):
        _require_safetensors(name, _downloaded(settings, name))
    else:
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(model)) or "none"
        raise ModelError(f"open_clip knows no weights {pretrained!r} of {model}, and there is no such file: its tags are {tags}")
    return _Checkpoint(model, pretrained)


def _downloaded(settings: dict[str, Any], name: str) -> str:
    try:
        with offline_unless_reachable():
            return str(open_clip.download_pretrained(settings))
    except Exception as error:  # whatever the hub's client or the network raised
        raise ModelError(
            f"the weights of {name!r} cannot be fetched ({error}): fetch them where there is a connection and name the folder"
        ) from error


def _checked_folder(folder: Path) -> Path:
    if not (folder / "open_clip_config.json").is_file():
        raise ModelError(f"{str(folder)!r} holds no open_clip_config.json: name a folder saved by open_clip")
    weights = {path.name for path in folder.iterdir() if path.suffix in {".safetensors", ".bin", ".pt", ".pth"}}
    safe = {name for name in weights if name.endswith(".safetensors")}
    if not safe or (safe != weights and not safe.intersection(_SAFE_NAMES)):
        seen = ", ".join(sorted(weights)) or "no weights"
        raise ModelError(f"{str(folder)!r} holds {seen}: only safetensors are loaded, save open_clip_model.safetensors there")
    return folder


def _require_safetensors(name: str, path: str) -> None:
    if not path.endswith(".safetensors"):
        raise ModelError(f"the weights of {name!r} are {Path(path).name!r}: only safetensors are loaded, convert or choose others")


def _backbone(name: str, model: Any, tokenizer: Any) -> Backbone:  # noqa: ANN401  open_clip has no types
    seen = model.visual.preprocess_cfg
    side = _side(name, seen["size"])
    mean, std = (torch.tensor(seen[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    reading = json.dumps({"size": side, "mean": seen["mean"], "std": seen["std"], "squash": "bicubic"})

    def read_images(images: Sequence[Image]) -> Inputs:
        pixels = torch.from_numpy(pixels_of(images)).permute(0, 3, 1, 2)
        return {"pixels": (pixels / 255.0 - mean) / std}

    return Backbone(
        name=name,
        digest=digest_of(model, "open_clip", reading, _tokenizer_settings(tokenizer)),
        width=_width(model, tokenizer),
        image_size=side,
        modules=model,
        read_images=read_images,
        read_texts=lambda texts: {"tokens": tokenizer(list(texts))},
        embed_images=lambda inputs: model.encode_image(inputs["pixels"]),
        embed_texts=lambda inputs: model.encode_text(inputs["tokens"]),
    )


def _side(name: str, size: int | Sequence[int]) -> int:
    sides = {size} if isinstance(size, int) else set(size)
    if len(sides) != 1:
        raise ModelError(f"{name} looks at pictures of {size} pixels: only models of square pictures are run")
    return int(sides.pop())


@torch.inference_mode()
def _width(model: Any, tokenizer: Any) -> int:  # noqa: ANN401
    return int(model.eval().encode_text(tokenizer(["width"])).shape[1])


def _tokenizer_settings(tokenizer: Any) -> str:  # noqa: ANN401
    inner = getattr(tokenizer, "tokenizer", None)
    fast = getattr(inner, "backend_tokenizer", None)
    words = fast.to_str() if fast is not None else json.dumps(getattr(tokenizer, "encoder", None))
    return json.dumps([type(tokenizer).__name__, tokenizer.context_length, words])
