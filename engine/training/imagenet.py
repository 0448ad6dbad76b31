"""General objects without their photos: ImageNet's classifier rows turned into features a picture of that class would have.

A classifier row is a direction, not a feature. For a linear classifier trained to tell Gaussian classes apart the class
mean lies along `covariance @ row` (Fisher's discriminant), so real features are pushed along that direction until the
classifier is sure of the class: the smallest change, in the features' own metric, that makes them that class.
"""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64

from engine.training.pairs import Caption
from engine.training.pretrained import Classifier

RIDGE = 1e-3
MARGIN = (-1.0, 3.0)
PUSHES = 4
SHRINKAGE = (0.1, 0.7)
PHOTO_OF = {"en": "a photo of a {}", "zh": "一张{}的照片", "de": "ein Foto von {}"}


@dataclass(frozen=True, slots=True)
class PseudoPictures:
    """Makes features of pictures nobody has, one class at a time."""

    classifier: Classifier
    mean: Float32[np.ndarray, " f"]
    directions: Float32[np.ndarray, "k f"]

    @classmethod
    def fit(cls, classifier: Classifier, features: Float32[np.ndarray, "n f"]) -> "PseudoPictures":
        """Learn how features vary from real pictures."""
        centred = features - features.mean(0)
        covariance = centred.T @ centred / len(features)
        covariance += RIDGE * np.trace(covariance) / len(covariance) * np.eye(len(covariance), dtype=np.float32)
        return cls(classifier, features.mean(0), (classifier.weight @ covariance).astype(np.float32))

    def make(
        self, classes: Int64[np.ndarray, " b"], seeds: Float32[np.ndarray, "b f"], random: np.random.Generator
    ) -> Float32[np.ndarray, "b f"]:
        """Turn real features into features of these classes; `seeds` give them variety."""
        kept = random.uniform(*SHRINKAGE, (len(classes), 1)).astype(np.float32)
        start: Float32[np.ndarray, "b f"] = self.mean + kept * (seeds - self.mean)
        margin = random.uniform(*MARGIN, len(classes)).astype(np.float32)
        for _ in range(PUSHES):
            start = self._push(start, classes, margin)
        return start

    def _push(
        self, features: Float32[np.ndarray, "b f"], classes: Int64[np.ndarray, " b"], margin: Float32[np.ndarray, " b"]
    ) -> Float32[np.ndarray, "b f"]:
        """Move features until their class leads all rivals together by the margin, to first order; no feature gets negative."""
        logits = features @ self.classifier.weight.T + self.classifier.bias
        rows = np.arange(len(classes))
        own = logits[rows, classes]
        logits[rows, classes] = -np.inf
        highest = logits.max(1, keepdims=True)
        rivals = np.exp(logits - highest)
        total = rivals.sum(1, keepdims=True)
        rivals /= total
        row = self.classifier.weight[classes] - rivals @ self.classifier.weight
        step = self.directions[classes] - rivals @ self.directions
        wanted = np.maximum((highest + np.log(total))[:, 0] - own + margin, 0.0)
        size = wanted / np.maximum((step * row).sum(1), 1e-6)
        pushed: Float32[np.ndarray, "b f"] = np.clip(features + size[:, None] * step, 0.0, None)
        return pushed


def class_captions() -> list[list[Caption]]:
    """Name ImageNet's 1,000 classes: by their synonyms in WordNet (timm's metadata), the everyday ones also as shops do.

    The everyday names, in English, Chinese and German, are in `objects.tsv`.
    """
    from timm.data.imagenet_info import ImageNetInfo  # noqa: PLC0415  only training has timm

    info = ImageNetInfo()
    captions = [[*_asked(info.index_to_description(index).split(", "), "en", index)] for index in range(1000)]
    with Path(__file__).with_name("objects.tsv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            for language in PHOTO_OF:
                captions[int(row["class"])] += _asked(row[language].split("/"), language, int(row["class"]))
    return captions


def _asked(names: Sequence[str], language: str, index: int) -> Iterator[Caption]:
    for name in names:
        for form in ("{}", PHOTO_OF[language]):
            yield Caption(form.format(name), language, "object", f"imagenet:{index}")
