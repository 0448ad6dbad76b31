"""Stand-ins that ship with the engine: a toy encoder and a toy catalogue whose answers fit in your head.

For tests of this project and of programs built on it. Nothing in production imports this module.
"""

import csv
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32
from PIL import Image as PillowImage
from pyroaring import BitMap64

from engine.datatypes import DIMENSIONS, Image, Matches, Transcript, Vector, Vectors
from engine.drawings import GeneratedImage, GenerationRequest
from engine.errors import InvalidAudio
from engine.generation.provenance import prompt_digest
from engine.generation.safety import ConceptList, MeaningCheck
from engine.generation.studio import Studio

COLOURS = {
    "red": (220, 20, 30),
    "green": (20, 160, 40),
    "blue": (20, 40, 210),
    "yellow": (240, 220, 30),
    "black": (10, 10, 10),
    "white": (250, 250, 250),
}


class FakeEncoder:
    """Embeds a text as the set of its words and a picture as the name of its mean colour.

    So the text "red" and a red picture have cosine 1, "red mug" and a red picture 0.71, "mug" and a red picture 0.
    """

    name = "fake:colours"
    fingerprint = "fake-colours-1"
    image_size = 32

    def __init__(self) -> None:
        self.texts_encoded = 0
        self.images_encoded = 0

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        """Embed texts as normalised bags of hashed words."""
        self.texts_encoded += len(texts)
        return _stack([_bag(re.findall(r"\w+", text.lower())) for text in texts])

    def encode_images(self, images: Sequence[Image]) -> Vectors:
        """Embed pictures as the name of the nearest colour in `COLOURS`."""
        self.images_encoded += len(images)
        return _stack([_bag([_colour_name(image)]) for image in images])


def _stack(rows: list[Vector]) -> Vectors:
    return np.stack(rows) if rows else np.zeros((0, DIMENSIONS), np.float32)


def _bag(words: list[str]) -> Vector:
    vector = np.zeros(DIMENSIONS, np.float32)
    for word in words or [""]:
        vector[int.from_bytes(hashlib.blake2b(word.encode(), digest_size=4).digest(), "little") % DIMENSIONS] = 1.0
    return vector / np.linalg.norm(vector)


def _colour_name(image: Image) -> str:
    mean = np.asarray(image.convert("RGB"), np.float32).reshape(-1, 3).mean(axis=0)
    return min(COLOURS, key=lambda name: float(np.sum((mean - np.array(COLOURS[name])) ** 2)))


class ExactIndex:
    """A brute-force `VectorIndex` over arrays: the truth that real indexes are compared with."""

    def __init__(self, keys: np.ndarray, vectors: Vectors) -> None:
        order = np.argsort(keys)
        self._keys, self._vectors = keys[order].astype(np.int64), vectors[order]

    def __len__(self) -> int:
        return len(self._keys)

    def search(self, vectors: Vectors, k: int, allow: BitMap64 | None = None) -> Matches:
        """Score every stored vector against every query; ties go to the smaller key."""
        kept = np.array([allow is None or int(key) in allow for key in self._keys], dtype=bool)
        scores = (vectors @ self._vectors[kept].T).astype(np.float32)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        found = Matches(np.full((len(vectors), k), -1, np.int64), np.full((len(vectors), k), -np.inf, np.float32))
        found.keys[:, : order.shape[1]] = self._keys[kept][order]
        found.scores[:, : order.shape[1]] = np.take_along_axis(scores, order, axis=1)
        return found


class FakeGenerator:
    """Draws the colour of `COLOURS` whose name `FakeEncoder` puts nearest to the request; one pixel depends on the seed."""

    name = "fake:one-colour"
    size = 64

    def __init__(self) -> None:
        self.drawn = 0

    def generate(self, request: GenerationRequest) -> list[GeneratedImage]:
        """Draw `request.count` one-coloured squares."""
        self.drawn += request.count
        colour = max(COLOURS, key=lambda name: float(_bag([name]) @ request.joint))
        digest = prompt_digest(request)
        return [self._square(request, colour, request.seed + number, digest) for number in range(request.count)]

    def _square(self, request: GenerationRequest, colour: str, seed: int, digest: str) -> GeneratedImage:
        pixels = np.full((request.size, request.size, 3), COLOURS[colour], np.uint8)
        pixels[0, 0] = np.random.default_rng(seed).integers(0, 256, 3)
        return GeneratedImage(pixels, seed, self.name, digest)


class FakeTranscriber:
    """Hears one word per 0.2 s of sound that is louder than a tenth: the colours of `COLOURS`, in order."""

    name = "fake:colours"

    def transcribe(self, samples: Float32[np.ndarray, " s"], language: str | None = None) -> Transcript:
        """Count the loud stretches."""
        loud = [float(np.abs(samples[start : start + 3200]).max()) > 0.1 for start in range(0, len(samples), 3200)]
        if not any(loud):
            raise InvalidAudio("nobody speaks in the recording: speak closer to the microphone", reason="silence")
        return Transcript(" ".join(list(COLOURS)[: sum(loud)]), language or "en")


def toy_studio() -> Studio:
    """Open a studio in which `FakeGenerator` draws and `FakeEncoder` looks; it refuses swastikas alone."""
    encoder = FakeEncoder()
    return Studio(FakeGenerator(), encoder, MeaningCheck(encoder, ConceptList([("hate", "swastika")])))


def tiny_catalogue(folder: Path) -> Path:
    """Write six one-colour pictures and `products.csv` (id, title, image, price, brand) into `folder`; returns the file."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "products.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "title", "image", "price", "brand"])
        for number, (name, colour) in enumerate(COLOURS.items(), start=1):
            PillowImage.new("RGB", (64, 64), colour).save(folder / f"{name}.png")
            rows.writerow([f"p{number}", f"{name} mug", f"{name}.png", number * 10, "Acme" if number % 2 else "Apex"])
    return folder / "products.csv"
