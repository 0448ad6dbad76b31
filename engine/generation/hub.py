"""Decoders of the hub behind the engine's `Generator`: whatever pipeline of diffusers a folder or name holds (extra `[models]`).

Three ways a pipeline is told what to draw, found out from the pipeline itself:

    words           SD, SD-Turbo, SDXL, SDXL-Turbo, LCM: the request's sentence
    words + vector  the same with `ip_adapter.safetensors` beside it: the sentence, and the joint vector through an adapter
    vector          Kandinsky 2.2's decoder: the joint vector through an adapter

Sizes above the pipeline's own are reached by enlarging and refining, twice the side at a time.
"""

import threading
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from PIL import Image as PillowImage

from engine.config import Settings
from engine.drawings import GeneratedImage, GenerationRequest
from engine.encoders.images import squash
from engine.encoders.torch import use_threads
from engine.errors import ModelError
from engine.generation.adapter import FILE as ADAPTER
from engine.generation.adapter import VectorAdapter
from engine.generation.pipelines import Pacing, load_pipeline, load_redrawing, pacing_of
from engine.generation.provenance import prompt_digest

Told: TypeAlias = Literal["words", "both", "vector"]

IP_ADAPTER = "ip_adapter.safetensors"
REFINING = 0.3
"""How far a larger picture may leave the smaller one it refines."""

STEP_PIXELS = 8
NEGATIVE = "blurry, distorted, watermark, text"


class HubGenerator:
    """Draws with one pipeline. Safe to call from several threads, which take turns."""

    def __init__(self, name: str, pipeline: Any, told: Told, adapter: VectorAdapter | None) -> None:  # noqa: ANN401  diffusers' own
        self.name = f"diffusers:{name}"
        self._pipeline, self._told, self._adapter = pipeline, told, adapter
        self._pacing: Pacing = pacing_of(name, pipeline)
        self._redrawing = load_redrawing(pipeline)
        self._turn = threading.Lock()
        factor = getattr(pipeline, "vae_scale_factor", None) or pipeline.movq_scale_factor
        self.size = int(_side(pipeline.unet.config.sample_size) * factor)

    @classmethod
    def load(cls, name: str, settings: Settings) -> "HubGenerator":
        """Load a folder or `ORG/MODEL`, with the LoRA files of the settings over it.

        Adapters are looked for in that folder, else in `_adapters/ORG--MODEL` of the data folder. Raises `ModelError`,
        `MissingExtra`, `ConfigurationError`.
        """
        beside = Path(name) if Path(name).is_dir() else settings.data / "_adapters" / name.replace("/", "--")
        use_threads(settings.drawing_threads)
        pipeline = load_pipeline(name, settings, ip_adapter=beside / IP_ADAPTER)
        told = _told(pipeline)
        adapter = None if told == "words" else VectorAdapter.load(beside / ADAPTER, width=_width(pipeline, told))
        return cls(name.rstrip("/").rpartition("/")[2] if Path(name).is_dir() else name, pipeline, told, adapter)

    def generate(self, request: GenerationRequest) -> list[GeneratedImage]:
        """Draw `request.count` pictures one after another: memory stays that of one, and no picture depends on the others."""
        digest = prompt_digest(request)
        with self._turn, torch.inference_mode():
            return [self._one(request, request.seed + number, digest) for number in range(request.count)]

    def _one(self, request: GenerationRequest, seed: int, digest: str) -> GeneratedImage:
        if request.image is None:
            picture = self._draw(request, seed)
        else:
            picture = self._redraw(squash(request.image, self.size), request, seed, request.strength)
        while picture.width < request.size:
            side = _round(min(2 * picture.width, request.size))
            picture = self._redraw(picture.resize((side, side), PillowImage.Resampling.LANCZOS), request, seed, REFINING)
        if picture.width != request.size:
            picture = picture.resize((request.size, request.size), PillowImage.Resampling.LANCZOS)
        return GeneratedImage(np.asarray(picture.convert("RGB"), np.uint8), seed, self.name, digest)

    def _draw(self, request: GenerationRequest, seed: int) -> PillowImage.Image:
        steps = request.steps or self._pacing.steps
        return self._call(self._pipeline, request, seed, num_inference_steps=steps, height=self.size, width=self.size)

    def _redraw(self, start: PillowImage.Image, request: GenerationRequest, seed: int, strength: float) -> PillowImage.Image:
        if strength <= 0:
            return start
        steps = request.steps or self._pacing.steps
        enough = max(steps, int(np.ceil(1.0 / strength)))  # at least one step must be left of them
        side = {"height": start.height, "width": start.width} if self._told == "vector" else {}
        return self._call(
            self._redrawing, request, seed, image=start, strength=min(strength, 1.0), num_inference_steps=enough, **side
        )

    def _call(self, pipeline: Any, request: GenerationRequest, seed: int, **options: Any) -> PillowImage.Image:  # noqa: ANN401
        guidance = self._pacing.guidance if request.guidance is None else request.guidance
        generator = torch.Generator("cpu").manual_seed(seed)
        told = self._conditions(request, guided=guidance > 1)
        found = pipeline(**told, guidance_scale=guidance, generator=generator, output_type="pil", **options).images[0]
        if not isinstance(found, PillowImage.Image):
            raise ModelError(f"{self.name} gave a {type(found).__name__} instead of a picture: use a pipeline that draws pictures")
        return found

    def _conditions(self, request: GenerationRequest, *, guided: bool) -> dict[str, Any]:
        if self._told == "words":
            return _words(request, guided=guided)
        assert self._adapter is not None  # noqa: S101  loaded for these pipelines
        device, dtype = self._pipeline.unet.device, self._pipeline.unet.dtype
        meant = torch.from_numpy(self._adapter(request.joint[None])).to(device, dtype)
        nothing = torch.zeros_like(meant)
        if self._told == "vector":
            return {"image_embeds": meant, "negative_image_embeds": nothing}
        both = torch.stack([nothing, meant]) if guided else meant[None]
        return _words(request, guided=guided) | {"ip_adapter_image_embeds": [both]}


def _words(request: GenerationRequest, *, guided: bool) -> dict[str, Any]:
    return {"prompt": request.prompt or "a product photo", "negative_prompt": NEGATIVE if guided else None}


def _told(pipeline: Any) -> Told:  # noqa: ANN401  diffusers' own
    if not hasattr(pipeline, "tokenizer"):
        return "vector"
    return "both" if getattr(pipeline.unet, "encoder_hid_proj", None) is not None else "words"


def _width(pipeline: Any, told: Told) -> int:  # noqa: ANN401  diffusers' own
    if told == "vector":
        return int(pipeline.unet.config.encoder_hid_dim)
    return int(pipeline.unet.encoder_hid_proj.image_projection_layers[0].image_embeds.in_features)


def _side(size: Any) -> int:  # noqa: ANN401  a number or two
    return int(size if isinstance(size, int) else size[0])


def _round(side: int) -> int:
    """Round up to what a latent space divides."""
    return -(-side // STEP_PIXELS) * STEP_PIXELS
