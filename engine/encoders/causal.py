"""A language model as text tower: `hf:` causal models (Llama, DeepSeek, ...) with a trained adapter into another encoder's space.

Pictures stay that encoder's, so whatever is searched or drawn with its vectors can be asked for in the model's words. Here belong
loading, pooling and the folder of a trained tower (`tower.json`, `adapter.safetensors`, `lora/`); training is in
`engine.training.tower`.
"""

import hashlib
import json
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from engine.config import Settings
from engine.datatypes import DIMENSIONS, Image, Vectors
from engine.encoders.adapted import PREFIX, TOWER, OpenEncoder
from engine.encoders.heads import HeadShape, ProjectionHead
from engine.encoders.hub import offline_unless_reachable
from engine.encoders.huggingface import check_folder, transformers
from engine.encoders.torch import Backbone, Inputs, TorchEncoder, digest_of
from engine.errors import ModelError
from engine.protocols import Encoder

FORMAT = 1
ADAPTER, LORA = "adapter.safetensors", "lora"
MAX_TOKENS = 128
HIDDEN = 512


class CausalTower(nn.Module):
    """A language model, its states averaged over the tokens of a text, and the adapter behind them."""

    def __init__(self, model: Any, tokenizer: Any) -> None:  # noqa: ANN401  transformers' auto classes have no types
        super().__init__()
        self.model, self.tokenizer = model, tokenizer
        self.width = int(model.config.hidden_size)
        self.adapter = ProjectionHead(HeadShape(self.width, HIDDEN, dropout=0.1))
        tokenizer.padding_side = "right"
        tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)

    @classmethod
    def load(cls, name: str) -> "CausalTower":
        """Load `ORG/MODEL` or a folder: safetensors only, no code that comes with it; raises `ModelError`."""
        local = Path(name).is_dir()
        if local or name.startswith((".", "/", "~")):
            check_folder(Path(name))
        where = {"local_files_only": local, "trust_remote_code": False}
        try:
            with nullcontext() if local else offline_unless_reachable():
                model, report = transformers.AutoModel.from_pretrained(
                    name,
                    use_safetensors=True,
                    dtype="auto" if torch.cuda.is_available() else torch.float32,
                    output_loading_info=True,
                    **where,
                )
                tokenizer = transformers.AutoTokenizer.from_pretrained(name, **where)
        except Exception as error:  # transformers raises whatever json, safetensors, torch or the hub raised
            raise ModelError(
                f"transformers cannot load the language model {name!r} ({error}): check the name or the folder"
            ) from error
        if report["missing_keys"] or not hasattr(model.config, "hidden_size"):
            raise ModelError(f"{name!r} is not a whole language model: name one that writes text, such as a Llama or a DeepSeek")
        return cls(model.requires_grad_(False), tokenizer)

    def read(self, texts: Sequence[str]) -> Inputs:
        """Turn texts into tokens; each ends with the end of a text, so that an empty one has a token too."""
        end = self.tokenizer.eos_token or self.tokenizer.pad_token
        read = self.tokenizer(
            [text + end for text in texts], padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
        )
        return {name: read[name] for name in ("input_ids", "attention_mask")}

    def states(self, inputs: Inputs) -> Float[Tensor, "b w"]:
        """Average the last states of the tokens that exist."""
        states = self.model(**inputs, use_cache=False).last_hidden_state.float()
        weights = inputs["attention_mask"].unsqueeze(2).float()
        averaged: Tensor = (states * weights).sum(1) / weights.sum(1)
        return averaged

    def forward(self, inputs: Inputs) -> Float[Tensor, "b 256"]:
        """Embed texts into the other encoder's space."""
        embedded: Tensor = self.adapter(self.states(inputs))
        return embedded


class CausalEncoder:
    """Embeds texts with a tower and pictures with the encoder it was trained beside; safe to call from several threads."""

    def __init__(self, texts: TorchEncoder, pictures: Encoder, name: str) -> None:
        self.name, self.fingerprint, self.image_size = name, texts.fingerprint, pictures.image_size
        self._texts, self._pictures = texts, pictures

    @classmethod
    def load(cls, folder: Path, open_encoder: OpenEncoder, settings: Settings) -> "CausalEncoder":
        """Read a tower and open what it was trained beside; raises `ModelError` when either is not what it was."""
        about = _about(folder)
        pictures = open_encoder(about["encoder"])
        if pictures.fingerprint != about["fingerprint"]:
            raise ModelError(
                f"the tower in {str(folder)!r} was trained beside {about['encoder']} {about['fingerprint']}, "
                f"which is {pictures.fingerprint} now: train it again"
            )
        tower = CausalTower.load(about["model"])
        digest = digest_of(tower.model, pictures.fingerprint, about["digest"])
        _read_weights(folder, tower)
        texts = TorchEncoder(_backbone(tower, digest, pictures.image_size), device=settings.device, precision=settings.precision)
        return cls(texts, pictures, f"{PREFIX}{folder}")

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        """Embed texts: unit rows in input order."""
        return self._texts.encode_texts(texts)

    def encode_images(self, images: Sequence[Image]) -> Vectors:
        """Embed decoded pictures: unit rows in input order."""
        return self._pictures.encode_images(images)


def write_tower(folder: Path, tower: CausalTower, model: str, beside: Encoder, training: dict[str, Any]) -> None:
    """Write a trained tower; what describes it comes last, so that a folder with it is complete."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / TOWER).unlink(missing_ok=True)
    save_file(tower.adapter.state_dict(), folder / ADAPTER)
    if hasattr(tower.model, "peft_config"):
        tower.model.save_pretrained(folder / LORA)
    about = {"format": FORMAT, "model": model, "encoder": beside.name, "fingerprint": beside.fingerprint}
    about |= {"digest": _digest(folder), "training": training}
    (folder / TOWER).write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _about(folder: Path) -> dict[str, Any]:
    try:
        about = json.loads((folder / TOWER).read_text(encoding="utf-8"))
        if about["format"] != FORMAT or about["digest"] != _digest(folder):
            raise ValueError("another format or other weights")
        return {name: str(about[name]) for name in ("model", "encoder", "fingerprint", "digest")}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ModelError(f"the tower in {str(folder)!r} cannot be read ({error}): train it again, or copy it again") from None


def _digest(folder: Path) -> str:
    files = [folder / ADAPTER, *sorted((folder / LORA).glob("*.safetensors"))]
    return hashlib.sha256(b"".join(hashlib.sha256(file.read_bytes()).digest() for file in files)).hexdigest()


def _read_weights(folder: Path, tower: CausalTower) -> None:
    try:
        tower.adapter.load_state_dict(load_file(folder / ADAPTER))
        if (folder / LORA).is_dir():
            import peft  # noqa: PLC0415  seconds to import, and only some towers have one

            tower.model = peft.PeftModel.from_pretrained(tower.model, str(folder / LORA)).merge_and_unload()
    except (RuntimeError, ValueError, SafetensorError, OSError) as error:
        raise ModelError(f"the tower in {str(folder)!r} does not fit its language model ({error}): train it again") from None


def _backbone(tower: CausalTower, digest: str, side: int) -> Backbone:
    def blind(_: object) -> Any:  # noqa: ANN401
        raise ModelError("a language model sees no pictures")

    return Backbone("hf", digest, DIMENSIONS, side, tower, blind, tower.read, blind, tower)
