"""Two-tower models of transformers as backbones: CLIP, SigLIP, SigLIP 2 and those of the same interface.

Here belongs what transformers' own loading, processors and outputs need. Running the model does not.
"""

import json
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from engine.datatypes import Image
from engine.encoders.hub import offline_unless_reachable
from engine.encoders.torch import Backbone, Inputs, digest_of
from engine.errors import MissingExtra, ModelError

try:
    import transformers as library
except ImportError:
    raise MissingExtra("a model of transformers", "models") from None

transformers: Any = library  # only half of it has types
MAX_TOKENS = 77
"""Most tokens read by a model whose positions would allow hundreds: padding to those would cost more than it tells."""


def hugging_face_backbone(name: str) -> Backbone:
    """Load `ORG/MODEL` from the hub (or its cache), or a folder written by `save_pretrained`.

    Only safetensors, and never code that comes with a model. Raises `ModelError`.
    """
    local = Path(name).is_dir()
    if local or name.startswith((".", "/", "~")):
        check_folder(Path(name))
    model, processor = _load(name, local=local)
    if not (hasattr(model, "get_text_features") and hasattr(model, "get_image_features")):
        kind = type(model).__name__
        raise ModelError(
            f"hf:{name} is a {kind}, which does not embed both texts and pictures: use CLIP, SigLIP or the like, "
            f"or train a text tower on it with `semblance train-tower hf:{name} --catalog FILE -o DIR`"
        )
    return _backbone(f"hf:{name}", model, processor)


def check_folder(folder: Path) -> None:
    """Raise `ModelError` for a folder that is none of `save_pretrained` with safetensors."""
    if not (folder / "config.json").is_file():
        raise ModelError(f"{str(folder)!r} holds no config.json: name a folder written by save_pretrained")
    if not any(folder.glob("*.safetensors")):
        raise ModelError(f"{str(folder)!r} holds no safetensors: only those are loaded, convert the weights")


def _load(name: str, *, local: bool) -> tuple[Any, Any]:
    where = {"local_files_only": local, "trust_remote_code": False}
    if local:
        transformers.utils.logging.disable_progress_bar()  # a bar over a download tells something, one over a file does not
    try:
        with nullcontext() if local else offline_unless_reachable():
            model, report = transformers.AutoModel.from_pretrained(
                name, use_safetensors=True, dtype=torch.float32, output_loading_info=True, **where
            )
            processor = transformers.AutoProcessor.from_pretrained(name, **where)
    except Exception as error:  # transformers raises whatever json, safetensors, torch or the hub raised
        remedy = "save it again" if local else "check the name and the connection, or fetch it elsewhere and name its folder"
        raise ModelError(f"transformers cannot load hf:{name} ({error}): {remedy}") from error
    if report["missing_keys"]:
        missing = ", ".join(sorted(report["missing_keys"])[:3])
        raise ModelError(f"hf:{name} lacks weights ({missing}, ...) and would run on random numbers: save it whole")
    return model, processor


def _backbone(name: str, model: Any, processor: Any) -> Backbone:  # noqa: ANN401  transformers' auto classes have no types
    pictures, tokens = processor.image_processor, _tokens(model, processor.tokenizer)
    side = _side(model, pictures)
    as_they_are = {"do_resize": False, "do_center_crop": False} if _fixed_size(pictures) else {}

    def read_images(images: Sequence[Image]) -> Inputs:
        return dict(pictures(images=list(images), return_tensors="pt", **as_they_are))

    def read_texts(texts: Sequence[str]) -> Inputs:
        return dict(processor(text=list(texts), padding="max_length", truncation=True, max_length=tokens, return_tensors="pt"))

    def embed_images(inputs: Inputs) -> torch.Tensor:
        return _features(model.get_image_features(**inputs))

    def embed_texts(inputs: Inputs) -> torch.Tensor:
        return _features(model.get_text_features(**inputs))

    with torch.inference_mode():
        width = int(embed_texts(read_texts(["width"])).shape[1])
    return Backbone(
        name=name,
        digest=digest_of(model, "transformers", *_reading(processor, side, tokens)),
        width=width,
        image_size=side,
        modules=model,
        read_images=read_images,
        read_texts=read_texts,
        embed_images=embed_images,
        embed_texts=embed_texts,
    )


def _features(output: Any) -> torch.Tensor:  # noqa: ANN401
    """Take the projected vectors out: transformers 5 returns them as the pooled part of an output."""
    features: torch.Tensor = getattr(output, "pooler_output", output)
    return features


def _fixed_size(pictures: Any) -> bool:  # noqa: ANN401
    """Whether every picture has one size; SigLIP 2 NaFlex cuts each into as many patches as fit instead."""
    return getattr(pictures, "max_num_patches", None) is None


def _side(model: Any, pictures: Any) -> int:  # noqa: ANN401
    if not _fixed_size(pictures):
        return int(pictures.patch_size * int(pictures.max_num_patches**0.5))
    size = (pictures.crop_size if getattr(pictures, "do_center_crop", False) else None) or pictures.size
    sides = [size.get(key) for key in ("height", "width", "shortest_edge") if size.get(key)]
    if len(set(sides)) != 1:
        raise ModelError(f"{type(model).__name__} looks at pictures of {dict(size)}: only models of square pictures are run")
    return int(sides[0])


def _tokens(model: Any, tokenizer: Any) -> int:  # noqa: ANN401
    positions = getattr(getattr(model.config, "text_config", None), "max_position_embeddings", MAX_TOKENS)
    return int(min(positions, tokenizer.model_max_length, MAX_TOKENS))


def _reading(processor: Any, side: int, tokens: int) -> tuple[str, ...]:  # noqa: ANN401
    """Everything beside the weights that decides a vector, as text."""
    pictures = {key: value for key, value in processor.image_processor.to_dict().items() if not key.startswith("_")}
    fast = getattr(processor.tokenizer, "backend_tokenizer", None)
    words = fast.to_str() if fast is not None else json.dumps(processor.tokenizer.get_vocab(), sort_keys=True)
    return json.dumps(pictures, sort_keys=True, default=str), words, json.dumps({"side": side, "tokens": tokens})
