"""The decoder of a bundle: draws a picture from a vector of the search space, with numpy and OpenVINO alone.

It starts from noise that depends on nothing but the seed, follows the flow for a few steps, and lets the picture decoder, which
also sees the mean latents, turn the latents it ends at into pixels. The folder explains itself:

    decoder.json             sizes, steps, the encoder it was trained for, how well it does, digests of every file
    sketch.xml, .bin         vectors -> mean latents
    flow.xml, .bin           latents, time, step, vectors, mean latents -> velocity
    picture.xml, .bin        latents, mean latents -> pixels
    latents.xml, .bin        pixels -> latents, for a picture that is to be redrawn
    MODEL_CARD.md            for people

Training is in `engine.training.drawing`; choosing among drawings, judging and labelling them is not done here.
"""

import json
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image as PillowImage

from engine.datatypes import Image, Vectors
from engine.drawings import GeneratedImage, GenerationRequest
from engine.encoders.bundle import FileRecord, verify
from engine.encoders.images import squash
from engine.encoders.runtime import compile_for_cpu, has_bf16
from engine.errors import BundleError
from engine.generation.provenance import prompt_digest

FORMAT = 2
MANIFEST = "decoder.json"
GRAPHS = ("sketch", "flow", "picture", "latents")
EXACT = {"sketch", "latents"}
FILES = tuple(f"{graph}.{kind}" for graph in GRAPHS for kind in ("xml", "bin"))
PER_BATCH = 8


@dataclass(frozen=True, slots=True)
class DecoderManifest:
    """What `decoder.json` says: `encoder` is the fingerprint of the encoder whose vectors it was trained on.

    It follows the flow for `steps` steps, guided by `guidance` at each; with `shortcuts` steps or fewer it takes shortcuts, which
    have the guidance inside them. `temperature` is the strength of the noise it starts from: below 1 it draws the likelier.
    """

    name: str
    encoder: str
    size: int
    channels: int
    factor: int
    steps: int
    guidance: float
    shortcuts: int
    temperature: float
    training: dict[str, Any]
    files: dict[str, FileRecord]

    @property
    def version(self) -> str:
        """Digest of the weights, 12 hexadecimal digits."""
        return self.files["flow.bin"].sha256[:6] + self.files["picture.bin"].sha256[:6]


def read_manifest(path: Path) -> DecoderManifest:
    """Read `decoder.json` and check every file it lists; raises `BundleError`."""
    try:
        fields = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        if fields.pop("format") != FORMAT:
            raise BundleError(f"{str(path / MANIFEST)!r} has another format than {FORMAT}: use a matching bundle")
        files = {name: FileRecord(**record) for name, record in fields.pop("files").items()}
        manifest = DecoderManifest(files=files, **fields)
    except FileNotFoundError:
        raise BundleError(f"{str(path)!r} holds no {MANIFEST}: name a folder that holds a decoder") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BundleError(f"{str(path / MANIFEST)!r} cannot be read ({error}): copy the bundle again") from None
    missing = sorted(set(FILES) - set(files))
    if missing:
        raise BundleError(f"{str(path / MANIFEST)!r} does not list {', '.join(missing)}: copy the bundle again")
    for name, record in files.items():
        verify(path / name, record)
    return manifest


def write_manifest(path: Path, manifest: DecoderManifest) -> None:
    """Write `decoder.json`; called last, so that a folder with it is complete."""
    fields = {"format": FORMAT, **asdict(manifest)}
    (path / MANIFEST).write_text(json.dumps(fields, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


class Decoder:
    """A `Generator` that draws from vectors alone. Safe to call from several threads, which take turns."""

    def __init__(self, manifest: DecoderManifest, graphs: dict[str, Any]) -> None:
        self.manifest = manifest
        self.name = f"decoder:{manifest.name}@{manifest.version}"
        self.size = manifest.size
        self._requests = {name: graph.create_infer_request() for name, graph in graphs.items()}
        self._turn = threading.Lock()

    @classmethod
    def load(cls, path: Path, *, threads: int = 0) -> "Decoder":
        """Verify and compile a decoder; 0 threads means every core. Raises `BundleError`."""
        manifest = read_manifest(path)
        bf16 = has_bf16()
        graphs = {
            name: compile_for_cpu(path / f"{name}.xml", threads=threads, bf16=bf16 and name not in EXACT, exact=name in EXACT)
            for name in GRAPHS
        }
        return cls(manifest, graphs)

    def generate(self, request: GenerationRequest) -> list[GeneratedImage]:
        """Draw `request.count` pictures. A picture given with the request is redrawn from `strength` of the way back to noise."""
        seeds = range(request.seed, request.seed + request.count)
        vectors = np.repeat(request.joint[None, :].astype(np.float32), request.count, 0)
        start = None if request.image is None else (self._see(request.image), request.strength)
        digest, pictures = (
            prompt_digest(request),
            self.draw(vectors, seeds, steps=request.steps, guidance=request.guidance, start=start),
        )
        return [
            GeneratedImage(_resized(picture, request.size), seed, self.name, digest)
            for picture, seed in zip(pictures, seeds, strict=True)
        ]

    def draw(
        self,
        vectors: Vectors,
        seeds: range | list[int],
        *,
        steps: int | None = None,
        guidance: float | None = None,
        start: tuple[Float32[np.ndarray, "c h w"], float] | None = None,
    ) -> UInt8[np.ndarray, "n s s 3"]:
        """Draw one picture per vector and seed, at the decoder's own size."""
        path, noise = _Path.plan(self.manifest, steps, guidance, start), self._noise(seeds)
        parts = []
        for rows in _batches(len(noise)):
            with self._turn:
                pixels = self._run("picture", *self._follow(path, noise[rows], vectors[rows].astype(np.float32)))
            parts.append(np.rint(np.clip(pixels, 0, 255)).astype(np.uint8).transpose(0, 2, 3, 1))
        return np.concatenate(parts)

    def imagine(self, vectors: Vectors, seeds: range) -> tuple[Float32[np.ndarray, "n c h w"], Float32[np.ndarray, "n d"]]:
        """Give the latents a drawing ends at, and the mean latents it began with: what the picture decoder is finished on."""
        path, noise = _Path.plan(self.manifest, None, None, None), self._noise(seeds)
        with self._turn:
            parts = [self._follow(path, noise[rows], vectors[rows].astype(np.float32)) for rows in _batches(len(noise))]
        return np.concatenate([at for at, _ in parts]), np.concatenate([mean for _, mean in parts])

    def _noise(self, seeds: range | list[int]) -> Float32[np.ndarray, "n c h w"]:
        side = self.manifest.size // self.manifest.factor
        drawn = [np.random.default_rng(seed).normal(size=(self.manifest.channels, side, side)) for seed in seeds]
        return np.stack(drawn).astype(np.float32)

    def _follow(
        self, path: "_Path", at: Float32[np.ndarray, "b c h w"], vectors: Float32[np.ndarray, "b 256"]
    ) -> tuple[Float32[np.ndarray, "b c h w"], Float32[np.ndarray, "b d"]]:
        told = vectors if path.shortcut else np.concatenate([vectors, np.zeros_like(vectors)])
        mean = self._run("sketch", told)
        at = path.enter(at)
        for time, length in path.steps:
            at = at + np.float32(length) * self._velocity(path, at, time, (told, mean))
        asks = path.shortcut or path.guidance  # without guidance nothing is asked for, and the sketch is that of anything
        return at, mean[: len(at)] if asks else mean[len(at) :]

    def _velocity(
        self, path: "_Path", at: Float32[np.ndarray, "b c h w"], time: float, asked: tuple[np.ndarray, np.ndarray]
    ) -> Float32[np.ndarray, "b c h w"]:
        if path.shortcut:
            return self._run("flow", at, _all(time, at), _all(path.shortcut, at), *asked)
        both = np.concatenate([at, at])
        answers = self._run("flow", both, _all(time, both), _all(0.0, both), *asked)
        told, untold = answers[: len(at)], answers[len(at) :]
        guided: Float32[np.ndarray, "b c h w"] = untold + np.float32(path.guidance) * (told - untold)
        return guided

    def _run(self, graph: str, *inputs: np.ndarray) -> Float32[np.ndarray, "..."]:
        answer: Float32[np.ndarray, ...] = self._requests[graph].infer(inputs, share_inputs=True)[0]
        return answer.copy()

    def _see(self, image: Image) -> Float32[np.ndarray, "c h w"]:
        pixels = np.asarray(squash(image, self.size))[None]
        with self._turn:
            latents: Float32[np.ndarray, "c h w"] = self._run("latents", pixels)[0]
        return latents


@dataclass(frozen=True, slots=True)
class _Path:
    """The steps from noise (time 0) to the picture (time 1), each a time and a length; `shortcut` is 0 along the plain flow."""

    steps: tuple[tuple[float, float], ...]
    shortcut: float
    guidance: float
    temperature: float
    start: tuple[Float32[np.ndarray, "c h w"], float] | None

    @classmethod
    def plan(
        cls,
        manifest: DecoderManifest,
        steps: int | None,
        guidance: float | None,
        start: tuple[Float32[np.ndarray, "c h w"], float] | None,
    ) -> "_Path":
        """Take shortcuts where they were learned: for the trained numbers of steps, from pure noise, at the trained guidance."""
        count = steps or manifest.steps
        learned = count <= manifest.shortcuts and count & (count - 1) == 0 and guidance in (None, manifest.guidance)
        begin = 0.0 if start is None else 1.0 - start[1]
        first = round(begin * count)
        times = [number / count for number in range(min(first, count - 1), count)]
        chosen = manifest.guidance if guidance is None else guidance
        return cls(tuple((time, 1 / count) for time in times), 1 / count if learned else 0.0, chosen, manifest.temperature, start)

    def enter(self, noise: Float32[np.ndarray, "b c h w"]) -> Float32[np.ndarray, "b c h w"]:
        """Begin at noise, or between noise and the picture that is to be redrawn."""
        noise = noise * np.float32(self.temperature)
        if self.start is None:
            return noise
        time = np.float32(self.steps[0][0])
        return (1 - time) * noise + time * self.start[0]


def _all(value: float, like: Float32[np.ndarray, "b c h w"]) -> Float32[np.ndarray, " b"]:
    return np.full(len(like), value, np.float32)


def _batches(count: int) -> Iterator[slice]:
    for start in range(0, count, PER_BATCH):
        yield slice(start, start + PER_BATCH)


def _resized(picture: UInt8[np.ndarray, "s s 3"], size: int) -> UInt8[np.ndarray, "t t 3"]:
    if len(picture) == size:
        return picture
    return np.asarray(PillowImage.fromarray(picture).resize((size, size), PillowImage.Resampling.LANCZOS))
