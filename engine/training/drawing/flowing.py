"""Training the flow on cached latents: first plain flow matching, then shortcuts, so that few steps draw as well as many.

A shortcut learns to do in one step what two steps of half its length do (Frans et al. 2024). The shortest ones learn it from the
averaged model's own velocity under classifier-free guidance (Ho and Salimans 2022), so the guidance is inside them and drawing
costs one pass a step.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float16, Float32, Int64
from torch import Tensor

from engine.datatypes import Vectors
from engine.training.averaging import Averaged
from engine.training.drawing.checkpoints import Run, ramp, set_rate
from engine.training.drawing.flow import Drawing, FlowShape
from engine.training.drawing.sketch import fit_sketch
from engine.training.features import Progress

SAVE_EVERY_S = 120.0
SHORTEST = 8


@dataclass(frozen=True, slots=True)
class Course:
    """How a flow is trained. From the share `plain` of all steps on, a share `shortcuts` of every batch learns shortcuts.

    `forgotten` is the share of pictures drawn without being told what; `blur` the largest noise on a vector, as a share of its
    length: it keeps the flow from reading too much into vectors that only training pictures have.
    """

    steps: int = 3_000
    batch: int = 64
    rate: float = 1e-3
    warmup: int = 100
    average: float = 0.998
    forgotten: float = 0.12
    blur: float = 0.6
    pictured: float = 0.35
    plain: float = 0.7
    shortcuts: float = 0.3
    guidance: float = 2.0


@dataclass(frozen=True, slots=True)
class Drawables:
    """Latents of the training pictures, the vectors of the pictures, and the vectors of texts with the row each describes."""

    latents: Float16[np.ndarray, "n c h w"]
    pictures: Vectors
    texts: Vectors
    owners: Int64[np.ndarray, " m"]

    def batches(
        self, course: Course, random: np.random.Generator
    ) -> Iterator[tuple[Float[Tensor, "b c h w"], Float[Tensor, "b 256"]]]:
        """Draw latents with the vector of their picture or of one of their texts, without end."""
        first = np.searchsorted(self.owners, np.arange(len(self.latents)))
        counts = np.searchsorted(self.owners, np.arange(len(self.latents)), side="right") - first
        while True:
            order = random.permutation(len(self.latents))
            for start in range(0, len(order) - course.batch + 1, course.batch):
                rows = order[start : start + course.batch]
                texts = first[rows] + random.integers(np.maximum(counts[rows], 1))
                chosen = self.texts[np.minimum(texts, len(self.texts) - 1)]
                pictured = (random.random(len(rows)) < course.pictured) | (counts[rows] == 0)
                vectors = np.where(pictured[:, None], self.pictures[rows], chosen)
                yield torch.from_numpy(self.latents[rows].astype(np.float32)), torch.from_numpy(_blurred(vectors, course, random))


def _blurred(vectors: Float32[np.ndarray, "b w"], course: Course, random: np.random.Generator) -> Float32[np.ndarray, "b w"]:
    strength = course.blur * random.random((len(vectors), 1)) ** 2
    noise = random.normal(size=vectors.shape) / vectors.shape[1] ** 0.5
    kept = random.random((len(vectors), 1)) >= course.forgotten
    blurred: Float32[np.ndarray, "b w"] = ((vectors + strength * noise) * kept).astype(np.float32)
    return blurred


class FlowTrainer:
    """One flow in training; started again on the same checkpoint it goes on where it was."""

    def __init__(self, drawables: Drawables, course: Course, checkpoint: Path, seed: int, shape: FlowShape | None = None) -> None:
        torch.manual_seed(seed)
        self.module = Drawing(shape)
        start(self.module, drawables, seed)
        self.module = self.module.to(memory_format=torch.channels_last)
        learned = [parameter for parameter in self.module.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(learned, course.rate, betas=(0.9, 0.98), weight_decay=0.01)
        self.run = Run(self.module, Averaged(self.module, course.average), optimizer)
        self.run.resume(checkpoint)
        self._drawables, self._course, self._checkpoint = drawables, course, checkpoint
        self._random = np.random.default_rng((seed, self.run.step))
        torch.manual_seed(seed + self.run.step)

    @property
    def averaged(self) -> Drawing:
        """The flow to evaluate and to ship."""
        return self.run.averaged.module

    def train(self, progress: Progress) -> Drawing:
        """Train to the last step of the course."""
        saved, course = time.monotonic(), self._course
        for latents, vectors in self._drawables.batches(course, self._random):
            if self.run.step >= course.steps:
                break
            set_rate(self.run.optimizer, course.rate * ramp(self.run.step, course.steps, course.warmup))
            loss = self._step(latents, vectors)
            if self.run.step % 50 == 0:
                self.run.curve.append({"step": self.run.step, "loss": loss})
                progress("flow", self.run.step, course.steps)
            if time.monotonic() - saved > SAVE_EVERY_S or self.run.step == course.steps:
                self.run.save(self._checkpoint)
                saved = time.monotonic()
        return self.averaged

    def _step(self, latents: Float[Tensor, "b c h w"], vectors: Float[Tensor, "b 256"]) -> float:
        self.module.train()
        placed = self._place(latents, vectors)
        answer = self.module(placed.at, placed.time, placed.step, placed.vectors)
        loss = (answer - placed.velocity).square().mean()
        self.run.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(self.module.parameters(), 1.0)
        self.run.optimizer.step()
        self.run.step += 1
        self.run.averaged.update(self.module, self.run.step)
        return float(loss.detach())

    def _place(self, latents: Float[Tensor, "b c h w"], vectors: Float[Tensor, "b 256"]) -> "Placed":
        course = self._course
        noise, times = torch.randn_like(latents), torch.sigmoid(torch.randn(len(latents)) - 0.2)
        steps, velocity = torch.zeros(len(latents)), latents - noise
        short = round(course.shortcuts * len(latents)) if self.run.step >= course.plain * course.steps else 0
        if short:
            lengths = 2.0 ** -torch.randint(1, SHORTEST.bit_length(), (short,))
            times[:short] = torch.floor(torch.rand(short) / lengths) * lengths
            steps[:short] = lengths
        at = noise + times[:, None, None, None] * velocity
        if short:
            told = vectors[:short].any(1)
            taught = shortcut_targets(
                self.averaged, Placed(at[:short], times[:short], steps[:short], vectors[:short], velocity[:short]), course.guidance
            )
            velocity = torch.cat([torch.where(told[:, None, None, None], taught, velocity[:short]), velocity[short:]])
            steps[:short] = torch.where(told, steps[:short], 0.0)
        return Placed(at, times, steps, vectors, velocity)


def start(drawing: Drawing, drawables: Drawables, seed: int) -> None:
    """Fit what is known in closed form: the sketch and the adapter's whitening."""
    drawing.flow.adapter.start_from(fit_closed_form(drawing, drawables, seed))


def fit_closed_form(drawing: Drawing, drawables: Drawables, seed: int) -> Float[Tensor, "m 256"]:
    """Fit the sketch on pictures and on as many texts; returns the vectors it was fitted on."""
    random = np.random.default_rng(seed)
    texts = random.permutation(len(drawables.texts))[: len(drawables.pictures)]
    vectors = torch.from_numpy(_normal(np.concatenate([drawables.pictures, drawables.texts[texts]])))
    rows = np.concatenate([np.arange(len(drawables.latents)), drawables.owners[texts]])
    latents = torch.from_numpy(drawables.latents.astype(np.float32)).flatten(1)[rows]
    landmarks = vectors[torch.from_numpy(random.permutation(len(vectors))[: drawing.shape.landmarks])]
    fit_sketch(drawing.sketch, drawing.flow.gaussian, vectors, latents, landmarks)
    return vectors


def _normal(vectors: Vectors) -> Vectors:
    unit: Vectors = (vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)).astype(np.float32)
    return unit


@dataclass(frozen=True, slots=True)
class Placed:
    """Latents on their way from noise: where, when, how far the step goes, towards what, and the right velocity."""

    at: Float[Tensor, "b c h w"]
    time: Float[Tensor, " b"]
    step: Float[Tensor, " b"]
    vectors: Float[Tensor, "b 256"]
    velocity: Float[Tensor, "b c h w"]


@torch.no_grad()
def shortcut_targets(drawing: Drawing, placed: Placed, guidance: float) -> Float[Tensor, "b c h w"]:
    """Average the velocities of two steps of half the length; the shortest are taken with guidance."""
    half = placed.step / 2
    first = _velocity(drawing, placed.at, placed.time, half, placed.vectors, guidance)
    at = placed.at + half[:, None, None, None] * first
    return (first + _velocity(drawing, at, placed.time + half, half, placed.vectors, guidance)) / 2


def _velocity(drawing: Drawing, at: Tensor, time_: Tensor, step: Tensor, vectors: Tensor, guidance: float) -> Tensor:
    """Ask for the velocity: along the shortcut, or, where the step is shorter than any shortcut, here and with guidance."""
    fine = step < 1 / SHORTEST
    both = torch.cat([vectors, torch.zeros_like(vectors[fine])])
    steps = torch.cat([torch.where(fine, 0.0, step), torch.zeros(int(fine.sum()))])
    answers: Tensor = drawing(torch.cat([at, at[fine]]), torch.cat([time_, time_[fine]]), steps, both)
    told, untold = answers[: len(at)], answers[len(at) :]
    told[fine] = untold + guidance * (told[fine] - untold)
    return told
