"""Fitting the autoencoder on random crops of cached pictures."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float16, UInt8
from torch import Tensor
from torch.nn import functional

from engine.training.averaging import Averaged
from engine.training.drawing.autoencoder import Autoencoder
from engine.training.drawing.checkpoints import Run, ramp, set_rate
from engine.training.features import Progress

SAVE_EVERY_S = 120.0
START_PICTURES = 1_024


@dataclass(frozen=True, slots=True)
class Fit:
    """How an autoencoder is fitted: `noise` is what its latents endure, in their own standard deviations."""

    steps: int = 3_000
    batch: int = 32
    crop: int = 64
    rate: float = 2e-3
    warmup: int = 50
    noise: float = 0.2
    edges: float = 1.0
    average: float = 0.995


def to_model(pixels: UInt8[np.ndarray, "b s s 3"]) -> Float[Tensor, "b 3 s s"]:
    """Scale pixels to -1..1, channels first in shape and last in memory, which the CPU's convolutions like."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float() / 127.5 - 1


def fit_autoencoder(pixels: UInt8[np.ndarray, "n s s 3"], checkpoint: Path, fit: Fit, seed: int, progress: Progress) -> Autoencoder:
    """Fit, or go on fitting, an autoencoder; returns the averaged one."""
    torch.manual_seed(seed)
    module = Autoencoder()
    module.start(to_model(pixels[:: max(1, len(pixels) // START_PICTURES)]))
    module = module.to(memory_format=torch.channels_last)
    run = Run(module, Averaged(module, fit.average), torch.optim.AdamW(module.decoder.parameters(), fit.rate, weight_decay=1e-3))
    run.resume(checkpoint)
    random, saved = np.random.default_rng((seed, run.step)), time.monotonic()
    for crops in _crops(pixels, fit, random, fit.steps - run.step):
        set_rate(run.optimizer, fit.rate * ramp(run.step, fit.steps, fit.warmup))
        loss = _step(run, to_model(crops), fit)
        if run.step % 50 == 0:
            run.curve.append({"step": run.step, "loss": loss})
            progress("autoencoder", run.step, fit.steps)
        if time.monotonic() - saved > SAVE_EVERY_S or run.step == fit.steps:
            run.save(checkpoint)
            saved = time.monotonic()
    return run.averaged.module


def _crops(
    pixels: UInt8[np.ndarray, "n s s 3"], fit: Fit, random: np.random.Generator, steps: int
) -> Iterator[UInt8[np.ndarray, "b c c 3"]]:
    for _ in range(steps):
        rows = random.integers(len(pixels), size=fit.batch)
        corners = random.integers(pixels.shape[1] - fit.crop + 1, size=(fit.batch, 2))
        crops = [pixels[row, y : y + fit.crop, x : x + fit.crop] for row, (y, x) in zip(rows, corners, strict=True)]
        yield np.stack(
            [crop[:, ::-1] if mirrored else crop for crop, mirrored in zip(crops, random.random(len(crops)) < 0.5, strict=True)]
        )


def _step(run: Run[Autoencoder], wanted: Float[Tensor, "b 3 s s"], fit: Fit) -> float:
    module = run.module.train()
    with torch.autocast("cpu", torch.bfloat16):
        drawn = module(wanted, fit.noise)
    loss = picture_loss(drawn.float(), wanted, fit.edges)
    run.optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    torch.nn.utils.clip_grad_norm_(module.decoder.parameters(), 1.0)
    run.optimizer.step()
    run.step += 1
    run.averaged.update(module, run.step)
    return float(loss.detach())


def picture_loss(drawn: Float[Tensor, "b 3 s s"], wanted: Float[Tensor, "b 3 s s"], edges: float) -> Float[Tensor, ""]:
    """Mean absolute error of pixels, and of the steps between neighbours at two scales, which keeps outlines sharp."""
    wrong = drawn - wanted
    loss = wrong.abs().mean()
    for scale in (1, 2):
        coarse = functional.avg_pool2d(wrong, scale) if scale > 1 else wrong
        loss = loss + edges * 0.5 * (coarse.diff(dim=2).abs().mean() + coarse.diff(dim=3).abs().mean())
    return loss


@torch.no_grad()
def latents_of(module: Autoencoder, pixels: UInt8[np.ndarray, "n s s 3"], progress: Progress) -> Float16[np.ndarray, "n c h w"]:
    """Compress all pictures."""
    module.eval()
    parts = []
    for start in range(0, len(pixels), 32):
        with torch.autocast("cpu", torch.bfloat16):
            parts.append(module.encoder(to_model(pixels[start : start + 32])).half().numpy())
        progress("latents", start, len(pixels))
    return np.concatenate(parts)
