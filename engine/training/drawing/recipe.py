"""The recipe of the default decoder, from a data folder and a bundle's encoder to a finished decoder folder, in one call."""

from pathlib import Path

import numpy as np
import torch

from engine.encoders.openvino import OpenVINOEncoder
from engine.training.drawing.autoencoder import Autoencoder
from engine.training.drawing.export import Trained, export_decoder
from engine.training.drawing.fitting import Fit, fit_autoencoder, latents_of
from engine.training.drawing.flow import Drawing
from engine.training.drawing.flowing import Course, Drawables, FlowTrainer
from engine.training.drawing.gallery import drawn_items, picture_vectors, pixels_of, text_vectors, told_of
from engine.training.drawing.release import build_bench, release_decoder
from engine.training.features import Progress

STEPS = 8
SHORTCUTS = 4
TEMPERATURE = 0.7
FIT = Fit(steps=760)
COURSE = Course(steps=2_911, rate=1.5e-3, warmup=40, pictured=0.4, plain=0.6)


def train_decoder(data: Path, bundle: Path, output: Path, *, work: Path, seed: int = 0, progress: Progress) -> Path:
    """Train the decoder of a bundle and write it to `output`, measured; `work` keeps pixels, vectors and checkpoints.

    An interrupted run goes on from its last checkpoint. Returns `output`.
    """
    encoder = OpenVINOEncoder.load(bundle)
    items = [item for item in drawn_items(data) if item.split == "train"]
    pixels, pictures = pixels_of(items, work, progress), picture_vectors(encoder, items, work, progress)
    told = told_of(items)
    texts = text_vectors(encoder, told.texts, work, progress)
    autoencoder = fit_autoencoder(pixels, work / "autoencoder.pt", FIT, seed, progress)
    drawables = Drawables(latents_of(autoencoder, pixels, progress), pictures, texts, told.owners)
    drawing = FlowTrainer(drawables, COURSE, work / f"flow-{encoder.fingerprint}.pt", seed).train(progress)
    training = {
        "seed": seed,
        "parameters": parameters_of(autoencoder, drawing),
        "course": f"Autoencoder: {FIT.steps} steps of {FIT.batch} crops. Flow: {COURSE.steps} steps of {COURSE.batch} pictures.",
    }
    trained = Trained("default", encoder.fingerprint, STEPS, COURSE.guidance, SHORTCUTS, TEMPERATURE, training)
    export_decoder(autoencoder, drawing, output, trained)
    shop = np.array([item.source == "fashion" for item in items])
    release_decoder(output, build_bench(data, work, seed, progress), encoder, pictures[shop], progress)
    return output


def parameters_of(autoencoder: Autoencoder, drawing: Drawing) -> dict[str, int]:
    """Count what a decoder holds."""
    return {"flow": _count(drawing), "picture": _count(autoencoder.decoder)}


def _count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
