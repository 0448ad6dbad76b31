"""An independent judge of drawings: other backbones and other heads than those the decoder is conditioned on.

Pictures through EfficientNet-Lite0, titles through all-MiniLM-L6-v2, and heads trained here on the shop's training products:
one pair for "which title is this a picture of", one each for its type and its colour. It sees every picture at the decoder's
size, real ones too, so that a drawing is not told apart by its resolution. It is not part of a bundle.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64, UInt8
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from engine.encoders.towers import LITE0, ImageShape, ImageTower
from engine.training.drawing.gallery import kept
from engine.training.features import Progress, digest_of
from engine.training.graphs import compile_module
from engine.training.pretrained import load_image_weights
from engine.training.teacher import sentence_vectors

SIDE = 224
WIDTH = 256
JUDGE = ImageShape(size=SIDE, stages=LITE0.stages)
BATCH = 16


class _Pooled(nn.Module):
    def __init__(self, tower: ImageTower) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, pixels: Tensor) -> Tensor:
        tower = self.tower
        return tower.pool(tower.run(tower.pixels_to_map(pixels), 0, len(tower.blocks)))


class Features:
    """Pooled features of EfficientNet-Lite0."""

    def __init__(self, threads: int = 0) -> None:
        tower = ImageTower(JUDGE).eval()
        load_image_weights(tower, variant=0)
        example = torch.zeros(1, SIDE, SIDE, 3, dtype=torch.uint8)
        compiled = compile_module(_Pooled(tower), {"pixels": example}, {"pixels": [-1, SIDE, SIDE, 3]}, threads)
        self._request = compiled.create_infer_request()

    def __call__(self, pixels: UInt8[np.ndarray, "n s s 3"], progress: Progress) -> Float32[np.ndarray, "n f"]:
        """Look at pictures of any size."""
        parts = []
        for start in range(0, len(pixels), BATCH):
            batch = np.stack([_enlarged(picture) for picture in pixels[start : start + BATCH]])
            parts.append(self._request.infer([batch])[0].copy())
            progress("features of the judge", start, len(pixels))
        return np.concatenate(parts)


def _enlarged(picture: UInt8[np.ndarray, "s s 3"]) -> UInt8[np.ndarray, "t t 3"]:
    return np.asarray(Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BICUBIC))


@dataclass(frozen=True, slots=True)
class Products:
    """Products to learn from: features, vectors of the titles with a number for each distinct one, labels by name."""

    features: Float32[np.ndarray, "n f"]
    sentences: Float32[np.ndarray, "n w"]
    titles: Int64[np.ndarray, " n"]
    labels: dict[str, list[str]] = field(default_factory=dict)


class Head(nn.Module):
    """Features -> the judge's own space."""

    def __init__(self, inputs: int, mean: Tensor, spread: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("spread", spread)
        self.linear = nn.Linear(inputs, WIDTH)
        self.curved = nn.Sequential(nn.Linear(inputs, 512), nn.GELU(), nn.Dropout(0.3), nn.Linear(512, WIDTH))

    def forward(self, x: Float[Tensor, "n f"]) -> Float[Tensor, "n w"]:
        """Embed, unit rows."""
        x = (x - self.get_buffer("mean")) / self.get_buffer("spread")
        return functional.normalize(self.linear(x) + self.curved(x), dim=1)


class Judge:
    """Heads over fixed features; train it with `train_judge`."""

    def __init__(self, pictures: Head, titles: Head, labels: dict[str, tuple[nn.Linear, list[str]]]) -> None:
        self.pictures, self.titles, self.labels = pictures.eval(), titles.eval(), labels

    @torch.no_grad()
    def similarities(
        self, features: Float32[np.ndarray, "n f"], sentences: Float32[np.ndarray, "m w"]
    ) -> Float32[np.ndarray, "n m"]:
        """Say how well each picture fits each title."""
        scores: Float32[np.ndarray, "n m"] = (
            self.pictures(torch.from_numpy(features)) @ self.titles(torch.from_numpy(sentences)).T
        ).numpy()
        return scores

    @torch.no_grad()
    def names(self, label: str, features: Float32[np.ndarray, "n f"]) -> list[str]:
        """Name the type or colour of each picture."""
        head, names = self.labels[label]
        mean, spread = self.pictures.get_buffer("mean"), self.pictures.get_buffer("spread")
        return [names[i] for i in head((torch.from_numpy(features) - mean) / spread).argmax(1)]


def train_judge(products: Products, seed: int, epochs: int = 40) -> Judge:
    """Train the judge's heads on training products."""
    torch.manual_seed(seed)
    features, sentences = torch.from_numpy(products.features), torch.from_numpy(products.sentences)
    pictures, titles = (Head(x.shape[1], x.mean(0), x.std(0) + 1e-3) for x in (features, sentences))
    _contrast(pictures, titles, (features, sentences, torch.from_numpy(products.titles)), epochs)
    standard = (features - pictures.get_buffer("mean")) / pictures.get_buffer("spread")
    return Judge(pictures, titles, {name: _classifier(standard, names, epochs) for name, names in products.labels.items()})


def _contrast(pictures: Head, titles: Head, data: tuple[Tensor, Tensor, Tensor], epochs: int) -> None:
    features, sentences, numbers = data
    optimizer = torch.optim.AdamW([*pictures.parameters(), *titles.parameters()], 1e-3, weight_decay=0.1)
    batch = min(1024, len(features))
    steps = max(1, epochs * len(features) // batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        rows = torch.randperm(len(features))[:batch]
        logits = pictures(features[rows]) @ titles(sentences[rows]).T * 20.0
        right = (numbers[rows][:, None] == numbers[rows][None, :]).float()
        right = right / right.sum(1, keepdim=True)
        loss = functional.cross_entropy(logits, right) + functional.cross_entropy(logits.T, right)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()


def _classifier(features: Float[Tensor, "n f"], names: Sequence[str], epochs: int) -> tuple[nn.Linear, list[str]]:
    known = sorted(set(names))
    numbers = torch.tensor([known.index(name) for name in names])
    head = nn.Linear(features.shape[1], len(known))
    optimizer = torch.optim.AdamW(head.parameters(), 1e-3, weight_decay=0.3)
    for _ in range(max(1, epochs * len(names) // 512)):
        rows = torch.randint(len(names), (min(512, len(names)),))
        loss = functional.cross_entropy(head(features[rows]), numbers[rows], label_smoothing=0.1)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    return head, known


def features_of(name: str, pixels: UInt8[np.ndarray, "n s s 3"], work: Path, progress: Progress) -> Float32[np.ndarray, "n f"]:
    """Look at a named set of pictures once and remember it."""
    return kept(work / f"judge-{name}-{len(pixels)}.npy", lambda: Features()(pixels, progress))


def sentences_of(titles: Sequence[str], work: Path, progress: Progress) -> Float32[np.ndarray, "n w"]:
    """Embed titles with all-MiniLM-L6-v2."""
    distinct = sorted(set(titles))
    vectors = sentence_vectors(distinct, work / f"judge-{digest_of(distinct)[:16]}", 0, progress)
    places = {title: row for row, title in enumerate(distinct)}
    return vectors[[places[title] for title in titles]]
