"""The recipe of the default decoder, from a data folder and a bundle's encoder to a finished decoder folder, in one call."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Int64, UInt8

from engine.datatypes import Vectors
from engine.encoders.openvino import OpenVINOEncoder
from engine.generation.decoder import Decoder, read_manifest
from engine.training.drawing.autoencoder import Autoencoder
from engine.training.drawing.export import Trained, export_decoder, export_picture
from engine.training.drawing.finishing import Finish, Finishable, chosen_vectors, finish_picture_decoder, towers_of
from engine.training.drawing.fitting import Fit, fit_autoencoder, latents_of
from engine.training.drawing.flow import Drawing
from engine.training.drawing.flowing import Course, Drawables, FlowTrainer, fit_closed_form
from engine.training.drawing.gallery import drawn_items, picture_vectors, pixels_of, text_vectors, told_of
from engine.training.drawing.release import build_bench, release_decoder
from engine.training.drawing.restore import restore_decoder
from engine.training.features import Progress

STEPS = 5
GUIDANCE = 2.0
SHORTCUTS = 4
TEMPERATURE = 0.7
FIT = Fit(steps=760)
COURSE = Course(steps=2_911, rate=1.5e-3, warmup=40, pictured=0.4, plain=0.6)
FINISH = Finish(steps=541)
DRAWN_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Material:
    """What a decoder of one encoder is made from: pixels with the vectors of pictures and texts, and which are the shop's."""

    encoder: OpenVINOEncoder
    pixels: UInt8[np.ndarray, "n s s 3"]
    pictures: Vectors
    texts: Vectors
    owners: Int64[np.ndarray, " m"]
    shop: Bool[np.ndarray, " n"]

    @classmethod
    def gather(cls, data: Path, bundle: Path, work: Path, progress: Progress) -> "Material":
        """Read and embed the training pictures and texts, or what `work` keeps of them."""
        encoder = OpenVINOEncoder.load(bundle)
        items = [item for item in drawn_items(data) if item.split == "train"]
        pixels, pictures = pixels_of(items, work, progress), picture_vectors(encoder, items, work, progress)
        told = told_of(items)
        texts = text_vectors(encoder, told.texts, work, progress)
        return cls(encoder, pixels, pictures, texts, told.owners, np.array([item.source == "fashion" for item in items]))

    def drawables(self, autoencoder: Autoencoder, progress: Progress) -> Drawables:
        """Give the latents of the pictures with everything they may be drawn from."""
        return Drawables(latents_of(autoencoder, self.pixels, progress), self.pictures, self.texts, self.owners)

    def finish(self, autoencoder: Autoencoder, folder: Path, bundle: Path, run: tuple[Path, int], progress: Progress) -> None:
        """Finish the picture decoder on what the exported flow in `folder` draws; `run` is the checkpoint and the seed."""
        decoder = Decoder.load(folder)
        vectors, rows = chosen_vectors(self.pictures, self.texts, self.owners, run[1])
        parts = []
        for start in range(0, len(vectors), DRAWN_AT_ONCE):
            parts.append(decoder.imagine(some := vectors[start : start + DRAWN_AT_ONCE], range(start, start + len(some))))
            progress("what the flow draws", start, len(vectors))
        drawn, means = (np.concatenate(list(arrays)).astype(np.float16) for arrays in zip(*parts, strict=True))
        material = Finishable(drawn, means, rows, latents_of(autoencoder, self.pixels, progress), self.pixels)
        autoencoder.decoder = finish_picture_decoder(autoencoder.decoder, (material, towers_of(bundle)), FINISH, run, progress)


def train_decoder(data: Path, bundle: Path, output: Path, *, work: Path, seed: int = 0, progress: Progress) -> Path:
    """Train the decoder of a bundle and write it to `output`, measured; `work` keeps pixels, vectors and checkpoints.

    An interrupted run goes on from its last checkpoint. Returns `output`.
    """
    material = Material.gather(data, bundle, work, progress)
    autoencoder = fit_autoencoder(material.pixels, work / "autoencoder.pt", FIT, seed, progress)
    checkpoint = work / f"flow-{material.encoder.fingerprint}.pt"
    drawing = FlowTrainer(material.drawables(autoencoder, progress), COURSE, checkpoint, seed).train(progress)
    training = {"seed": seed, "parameters": parameters_of(autoencoder, drawing), "course": course_of()}
    trained = Trained("default", material.encoder.fingerprint, STEPS, GUIDANCE, SHORTCUTS, TEMPERATURE, training)
    export_decoder(autoencoder, drawing, output, trained)
    material.finish(autoencoder, output, bundle, (work / f"finish-{material.encoder.fingerprint}.pt", seed), progress)
    export_picture(autoencoder, drawing, output)
    bench = build_bench(data, work, seed, progress)
    release_decoder(output, bench, material.encoder, material.pictures[material.shop], progress)
    return output


def refresh_decoder(data: Path, bundle: Path, *, work: Path, seed: int = 0, progress: Progress) -> Path:
    """Fit the sketch of a bundle's decoder anew, in seconds, because its encoder's vectors have changed; measure it again.

    The network stays as it was trained. Returns the decoder's folder.
    """
    folder = bundle / "decoder"
    material = Material.gather(data, bundle, work, progress)
    autoencoder, drawing = Autoencoder(), Drawing()
    restore_decoder(folder, autoencoder, drawing)
    fit_closed_form(drawing, material.drawables(autoencoder, progress), seed)
    training = {name: read_manifest(folder).training[name] for name in ("seed", "parameters", "course")}
    trained = Trained("default", material.encoder.fingerprint, STEPS, GUIDANCE, SHORTCUTS, TEMPERATURE, training)
    export_decoder(autoencoder, drawing, folder, trained)
    bench = build_bench(data, work, seed, progress)
    release_decoder(folder, bench, material.encoder, material.pictures[material.shop], progress)
    return folder


def course_of() -> str:
    """Say how long everything is trained."""
    return (
        f"Autoencoder: {FIT.steps} steps of {FIT.batch} crops. Flow: {COURSE.steps} steps of {COURSE.batch} pictures. "
        f"Picture decoder on what the flow draws: {FINISH.steps} steps of {FINISH.batch} pictures."
    )


def parameters_of(autoencoder: Autoencoder, drawing: Drawing) -> dict[str, int]:
    """Count what a decoder holds."""
    return {"flow": _count(drawing), "picture": _count(autoencoder.decoder)}


def _count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
