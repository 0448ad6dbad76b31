"""The encoder that runs any two-tower model in torch, on a GPU or a processor.

Here belong batching, arithmetic, devices and the way from a model's features to unit vectors. Which models exist and how each
reads its inputs belongs to `engine.encoders.backbones` and the modules it chooses from.
"""

import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, TypeVar

import numpy as np
from jaxtyping import Float, UInt8

from engine.datatypes import DIMENSIONS, Image, Vectors
from engine.encoders.bundle import Bundle
from engine.encoders.images import squash
from engine.encoders.projection import Features, Projection
from engine.encoders.texts import TextReader, printable
from engine.errors import ConfigurationError, MissingExtra, ModelError

try:
    import torch
    from torch import Tensor, nn
except ImportError:
    raise MissingExtra("running a model in torch", "models") from None

from engine.encoders.towers import build_towers

Inputs: TypeAlias = Mapping[str, Tensor]
Precision: TypeAlias = Literal["auto", "fp32", "bf16"]
T = TypeVar("T")

IMAGES_PER_BATCH = {"cpu": 16, "cuda": 128}
TEXTS_PER_BATCH = {"cpu": 32, "cuda": 512}


@dataclass(frozen=True, slots=True)
class Backbone:
    """A two-tower model as functions: reading turns what a user gives into tensors, embedding turns those into features.

    `digest` covers weights and preprocessing; `width` is that of the features; the pictures given to `read_images` are RGB
    squares of side `image_size`. Only `modules` is moved to the device.
    """

    name: str
    digest: str
    width: int
    image_size: int
    modules: nn.Module
    read_images: Callable[[Sequence[Image]], Inputs]
    read_texts: Callable[[Sequence[str]], Inputs]
    embed_images: Callable[[Inputs], Float[Tensor, "b w"]]
    embed_texts: Callable[[Inputs], Float[Tensor, "b w"]]


class TorchEncoder:
    """Embeds texts and pictures with a `Backbone`. Safe to call from several threads; they take turns.

    `device` is `auto`, `cpu` or `cuda`; `precision` `auto` is bfloat16 on a GPU that has it, float16 on one that has not,
    float32 on a processor. Raises `ConfigurationError` when the device is not there.
    """

    def __init__(
        self, backbone: Backbone, *, projection: Projection | None = None, device: str = "auto", precision: Precision = "auto"
    ) -> None:
        self.projection = projection or Projection.default(backbone.width)
        self.name = backbone.name
        self.fingerprint = _fingerprint(backbone, self.projection)
        self.image_size = backbone.image_size
        self._backbone = backbone
        self._device = _device(device)
        self._dtype = _dtype(self._device, precision)
        self._turn = threading.Lock()
        backbone.modules.eval().to(self._device)

    @classmethod
    def from_bundle(cls, path: Path, *, device: str = "auto", precision: Precision = "auto") -> "TorchEncoder":
        """Run a bundle in torch: the vectors of `OpenVINOEncoder`, to its rounding. Raises `BundleError`."""
        return cls(_bundle_backbone(Bundle.load(path)), device=device, precision=precision)

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        """Embed texts: unit rows in input order, shape [0, 256] for none."""
        return self.projection.apply(self.text_features(texts))

    def encode_images(self, images: Sequence[Image]) -> Vectors:
        """Embed decoded pictures of any size and mode: unit rows in input order, shape [0, 256] for none."""
        return self.projection.apply(self.image_features(images))

    def text_features(self, texts: Sequence[str]) -> Features:
        """Embed texts in the model's own width, as the model gives them: what a projection is fitted to."""
        read, embed = self._backbone.read_texts, self._backbone.embed_texts
        # By length, so that little is padded; the order of equal lengths does not matter to a row's vector.
        texts = [printable(text) for text in texts]
        order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
        batches = (read([texts[row] for row in rows]) for rows in _cut(order, TEXTS_PER_BATCH[self._device.type]))
        features = np.empty((len(texts), self._backbone.width), np.float32)
        features[order] = self._run(batches, embed)
        return features

    def image_features(self, images: Sequence[Image]) -> Features:
        """Embed decoded pictures in the model's own width: what a projection is fitted to."""
        read, embed = self._backbone.read_images, self._backbone.embed_images
        batches = (read([self._square(image) for image in some]) for some in _cut(images, IMAGES_PER_BATCH[self._device.type]))
        return self._run(batches, embed)

    def _square(self, image: Image) -> Image:
        ready = image.mode == "RGB" and image.size == (self.image_size, self.image_size)
        return image if ready else squash(image, self.image_size)

    def _run(self, batches: Iterator[Inputs], embed: Callable[[Inputs], Tensor]) -> Features:
        """Run batches one after another. A GPU works on one while the next is read: nothing waits for it before the end."""
        parts = [self._forward(batch, embed) for batch in batches]
        if not parts:
            return np.zeros((0, self._backbone.width), np.float32)
        features: Features = torch.cat(parts).float().cpu().numpy()
        if not np.isfinite(features).all():
            raise ModelError(f"{self.name} gives numbers that are not finite in this arithmetic: set SEMBLANCE_PRECISION=fp32")
        return features

    def _forward(self, batch: Inputs, embed: Callable[[Inputs], Tensor]) -> Tensor:
        with self._turn, torch.inference_mode(), torch.autocast(self._device.type, self._dtype, self._dtype != torch.float32):
            return embed({name: self._moved(tensor) for name, tensor in batch.items()})

    def _moved(self, tensor: Tensor) -> Tensor:
        if self._device.type != "cuda":
            return tensor
        return tensor.pin_memory().to(self._device, non_blocking=True)


def use_threads(count: int) -> None:
    """Let torch use `count` threads of the processor in this process; 0 leaves it at every core."""
    if count:
        torch.set_num_threads(count)


def digest_of(modules: nn.Module, *preprocessing: str) -> str:
    """Digest weights by name, type, shape and value, and whatever else decides a vector; 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for part in preprocessing:
        digest.update(b"%d:" % len(part.encode()) + part.encode())
    for name, tensor in sorted(modules.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _fingerprint(backbone: Backbone, projection: Projection) -> str:
    if projection.kind == "identity":
        return backbone.digest[:16]
    return hashlib.sha256(f"{backbone.digest} {projection.fingerprint}".encode()).hexdigest()[:16]


def _device(name: str) -> torch.device:
    if name not in ("auto", "cpu", "cuda"):
        raise ConfigurationError(f"device {name!r} does not run torch models: set SEMBLANCE_DEVICE to auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigurationError("device 'cuda' is asked for and torch finds none: set SEMBLANCE_DEVICE=cpu, or install a driver")
    return torch.device("cuda" if name == "auto" and torch.cuda.is_available() else name.replace("auto", "cpu"))


def _dtype(device: torch.device, precision: Precision) -> torch.dtype:
    if precision == "bf16":
        return torch.bfloat16
    if precision == "fp32" or device.type == "cpu":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def _cut(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _bundle_backbone(bundle: Bundle) -> Backbone:
    towers = build_towers(bundle)
    positions = int(bundle.manifest.text_tower["positions"])
    reader = TextReader.load(bundle.path / "tokenizer.json", bundle.path / "tokens.npy", positions)

    def read_texts(texts: Sequence[str]) -> Inputs:
        batch = reader.batch(reader.token_ids(texts))
        return {"tokens": torch.from_numpy(batch.embeddings), "mask": torch.from_numpy(batch.mask)}

    return Backbone(
        name=f"bundle:{bundle.manifest.name}",
        digest=bundle.manifest.fingerprint,
        width=DIMENSIONS,
        image_size=bundle.manifest.image_size,
        modules=nn.ModuleList([towers.image, towers.text]),
        read_images=lambda images: {"pixels": torch.from_numpy(pixels_of(images))},
        read_texts=read_texts,
        embed_images=lambda inputs: towers.image(inputs["pixels"]),
        embed_texts=lambda inputs: towers.text(inputs["tokens"], inputs["mask"]),
    )


def pixels_of(images: Sequence[Image]) -> UInt8[np.ndarray, "b s s 3"]:
    """Stack RGB squares of one size as bytes."""
    return np.stack([np.asarray(image) for image in images])
