"""Teaching the picture decoder to finish what the flow draws: the last stage of training.

A flow of few steps ends at latents that are nearly right, and a decoder that was only shown real latents draws their faults. Here
it sees what the flow draws for the vector of a picture or of its text, and learns to draw that picture. What "that picture" means
is said by two image towers in turn, at several depths (perceptual losses: Johnson et al. 2016, Zhang et al. 2018), by telling it
from the other pictures at hand, and by the pixels, which alone would teach it to blur. One tower at one size alone teaches it a
raster that pleases that tower: after 200 steps the judge named a tenth of the drawings instead of a quarter.

The flow stays as it is. The judge of `scorer.py` shares no backbone with the towers.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float16, Int64, UInt8
from torch import Tensor, nn
from torch.nn import functional

from engine.datatypes import Vectors
from engine.encoders.bundle import Bundle
from engine.encoders.towers import PIXEL_MEAN, PIXEL_SCALE, ImageShape, ImageTower, StageShape, build_towers
from engine.training.averaging import Averaged
from engine.training.drawing.autoencoder import PictureDecoder
from engine.training.drawing.checkpoints import Run, ramp, set_rate
from engine.training.drawing.fitting import SAVE_EVERY_S, picture_loss, to_model
from engine.training.features import Progress
from engine.training.pretrained import load_image_weights

STAGES = (1, 2, 3, 4, 6)
SIDES = (112, 128, 144, 160, 176)
SHARPNESS = 10.0  # of being told apart
LITE1 = ImageShape(
    size=240,
    stages=(
        StageShape(3, 1, 1, 16, 1),
        StageShape(3, 2, 6, 24, 3),
        StageShape(5, 2, 6, 40, 3),
        StageShape(3, 2, 6, 80, 4),
        StageShape(5, 1, 6, 112, 4),
        StageShape(5, 2, 6, 192, 5),
        StageShape(3, 1, 6, 320, 1),
    ),
)
LOOKED_AT = 256  # pictures by which features are standardised
SHOWN = 0.35  # the share of pictures that are also drawn from their own vectors
START_MEANS = 6_000


@dataclass(frozen=True, slots=True)
class Finish:
    """How the picture decoder is finished.

    A share `real` of a batch are real latents, so that photos given to be redrawn still come back; `noise` is what the latents
    endure. The towers look at pictures moved by up to `shift` pixels, at one of `SIDES`.
    """

    steps: int = 1_500
    batch: int = 16
    rate: float = 5e-4
    warmup: int = 40
    average: float = 0.995
    real: float = 0.125
    noise: float = 0.1
    shift: int = 6
    coarse: float = 0.5
    fine: float = 0.5
    stages: float = 1.0
    pooled: float = 0.7
    contrast: float = 0.15


@dataclass(frozen=True, slots=True)
class Finishable:
    """What the flow drew: latents, the sketch each came from, and the row of the picture that was meant."""

    drawn: Float16[np.ndarray, "m c h w"]
    means: Float16[np.ndarray, "m d"]
    rows: Int64[np.ndarray, " m"]
    latents: Float16[np.ndarray, "n c h w"]
    pixels: UInt8[np.ndarray, "n s s 3"]

    def batches(self, finish: Finish, random: np.random.Generator) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Give latents, sketches and wanted pictures without end."""
        while True:
            order = random.permutation(len(self.rows))
            for start in range(0, len(order) - finish.batch + 1, finish.batch):
                chosen = order[start : start + finish.batch]
                rows = self.rows[chosen]
                real = random.random(len(rows)) < finish.real
                latents = np.where(real[:, None, None, None], self.latents[rows], self.drawn[chosen]).astype(np.float32)
                latents += finish.noise * random.random((len(rows), 1, 1, 1)) * random.normal(size=latents.shape)
                means = self.means[chosen].astype(np.float32)
                yield torch.from_numpy(latents.astype(np.float32)), torch.from_numpy(means), to_model(self.pixels[rows])


class Sight(nn.Module):
    """What a frozen image tower sees in pictures: maps at several depths, and its pooled features, standardised."""

    def __init__(self, tower: ImageTower, pixels: UInt8[np.ndarray, "n s s 3"]) -> None:
        super().__init__()
        self.tower = tower.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        self.mean, self.spread = torch.zeros(()), torch.ones(())
        with torch.no_grad():
            seen = [self._look(to_model(pixels[start : start + 32]), SIDES[-1])[1] for start in range(0, len(pixels), 32)]
        features = torch.cat(seen)
        self.mean, self.spread = features.mean(0), features.std(0) + 1e-2

    def forward(self, pixels: Float[Tensor, "b 3 s s"], side: int) -> tuple[list[Tensor], Float[Tensor, "b f"]]:
        """Look at pictures in -1..1 at `side` pixels."""
        maps, pooled = self._look(pixels, side)
        return [functional.normalize(x.float(), dim=1) for x in maps], functional.normalize(
            (pooled - self.mean) / self.spread, dim=1
        )

    def _look(self, pixels: Tensor, side: int) -> tuple[list[Tensor], Tensor]:
        tower = self.tower
        pixels = functional.interpolate(pixels, size=(side, side), mode="bilinear", align_corners=False, antialias=True)
        x = functional.relu6(tower.stem((pixels * 127.5 + 127.5 - PIXEL_MEAN) / PIXEL_SCALE))
        maps = []
        for number, stage in enumerate(tower.stages):
            x = stage(x)
            if number in STAGES:
                maps.append(x)
        return maps, tower.pool(x)


def towers_of(bundle: Path) -> list[ImageTower]:
    """Give the towers by whose features drawings are taught: the bundle's own, and EfficientNet-Lite1."""
    beside = ImageTower(LITE1)
    load_image_weights(beside, variant=1)
    return [build_towers(Bundle.load(bundle)).image, beside]


def chosen_vectors(
    pictures: Vectors, texts: Vectors, owners: Int64[np.ndarray, " t"], seed: int
) -> tuple[Vectors, Int64[np.ndarray, " m"]]:
    """Choose what to draw: every picture that has texts from one of them, and some from their own vectors; gives the rows meant."""
    random = np.random.default_rng(seed)
    first = np.searchsorted(owners, np.arange(len(pictures)))
    counts = np.searchsorted(owners, np.arange(len(pictures)), side="right") - first
    told = np.flatnonzero(counts)
    shown = random.permutation(len(pictures))[: round(SHOWN * len(pictures))]
    chosen = texts[first[told] + random.integers(counts[told])]
    order = random.permutation(len(told) + len(shown))
    vectors: Vectors = np.concatenate([chosen, pictures[shown]])[order]
    return vectors, np.concatenate([told, shown])[order]


def finish_picture_decoder(
    decoder: PictureDecoder,
    given: tuple[Finishable, Sequence[ImageTower]],
    finish: Finish,
    at: tuple[Path, int],
    progress: Progress,
) -> PictureDecoder:
    """Finish a picture decoder as towers see it, or go on finishing it; `at` is the checkpoint and the seed.

    Returns the averaged one.
    """
    (material, towers), (checkpoint, seed) = given, at
    torch.manual_seed(seed)
    decoder.start_from(torch.from_numpy(material.means[:START_MEANS].astype(np.float32)))
    decoder = decoder.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(decoder.parameters(), finish.rate, betas=(0.9, 0.98), weight_decay=1e-3)
    run = Run(decoder, Averaged(decoder, finish.average), optimizer)
    run.resume(checkpoint)
    some = material.pixels[np.random.default_rng(seed).permutation(len(material.pixels))[:LOOKED_AT]]
    sights, saved = [Sight(tower, some) for tower in towers], time.monotonic()
    for batch in material.batches(finish, np.random.default_rng((seed, run.step))):
        if run.step >= finish.steps:
            break
        set_rate(run.optimizer, finish.rate * ramp(run.step, finish.steps, finish.warmup))
        loss = _step(run, sights[run.step % len(sights)], batch, finish)
        if run.step % 50 == 0:
            run.curve.append({"step": run.step, "loss": loss})
            progress("finishing", run.step, finish.steps)
        if time.monotonic() - saved > SAVE_EVERY_S or run.step == finish.steps:
            run.save(checkpoint)
            saved = time.monotonic()
    return run.averaged.module


def _step(run: Run[PictureDecoder], sight: Sight, batch: tuple[Tensor, Tensor, Tensor], finish: Finish) -> float:
    latents, means, wanted = batch
    with torch.autocast("cpu", torch.bfloat16):
        drawn = run.module.train()(latents, means)
        parts = losses(sight, drawn.float(), wanted, finish)
    loss = torch.stack(list(parts.values())).sum()
    run.optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    torch.nn.utils.clip_grad_norm_(run.module.parameters(), 1.0)
    run.optimizer.step()
    run.step += 1
    run.averaged.update(run.module, run.step)
    return float(loss.detach())


def losses(sight: Sight, drawn: Float[Tensor, "b 3 s s"], wanted: Float[Tensor, "b 3 s s"], finish: Finish) -> dict[str, Tensor]:
    """Weigh how far drawings are from what was wanted: colours, maps of the tower, its features, and being told apart."""
    wrong = drawn - wanted
    mine, theirs = _moved(drawn, wanted, finish.shift)
    side = SIDES[int(torch.randint(len(SIDES), ()))]
    with torch.no_grad():
        right_maps, right_pooled = sight(theirs, side)
    maps, pooled = sight(mine, side)
    apart = [(a - b).square().sum(1).mean() for a, b in zip(maps, right_maps, strict=True)]
    logits = SHARPNESS * pooled @ right_pooled.T
    return {
        "coarse": finish.coarse * functional.avg_pool2d(wrong, 4).abs().mean(),
        "fine": finish.fine * picture_loss(drawn, wanted, 1.0),
        "stages": finish.stages * torch.stack(apart).mean(),
        "pooled": finish.pooled * (1 - (pooled * right_pooled).sum(1)).mean(),
        "contrast": finish.contrast * functional.cross_entropy(logits, torch.arange(len(logits))),
    }


def _moved(drawn: Float[Tensor, "b 3 s s"], wanted: Float[Tensor, "b 3 s s"], most: int) -> tuple[Tensor, Tensor]:
    """Move and perhaps mirror both alike."""
    down, right = (int(torch.randint(-most, most + 1, ())) for _ in range(2))
    moved = [torch.roll(pictures, (down, right), (2, 3)) for pictures in (drawn, wanted)]
    if torch.rand(()) < 0.5:
        moved = [pictures.flip(3) for pictures in moved]
    return moved[0], moved[1]
