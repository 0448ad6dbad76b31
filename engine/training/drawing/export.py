"""From a trained flow and autoencoder to a decoder folder that `engine.generation.decoder` runs without torch.

The flow's matrices are stored in 8 bits with one scale a row, its convolutions and everything else that is large in float16,
as in the towers' graphs.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from engine.encoders.bundle import record
from engine.generation.decoder import FILES, MANIFEST, DecoderManifest, write_manifest
from engine.training.drawing.autoencoder import FACTOR, Autoencoder
from engine.training.drawing.card import decoder_card
from engine.training.drawing.flow import Drawing
from engine.training.export import export_graph

NOTHING = "no matrix has this name"


@dataclass(frozen=True, slots=True)
class Trained:
    """What a decoder folder says of itself: its name, the encoder it was trained for, how it samples, what it learned from."""

    name: str
    encoder: str
    steps: int
    guidance: float
    shortcuts: int
    temperature: float
    training: dict[str, Any]


class _Drawn(nn.Module):
    """Latents and their sketch -> pixels 0..255."""

    def __init__(self, autoencoder: Autoencoder) -> None:
        super().__init__()
        self.decoder = autoencoder.decoder

    def forward(self, latents: Float[Tensor, "b c h w"], mean: Float[Tensor, "b d"]) -> Float[Tensor, "b 3 s s"]:
        drawn: Tensor = (self.decoder(latents, mean) + 1) * 127.5
        return drawn


class _Seeing(nn.Module):
    """Pixels -> latents."""

    def __init__(self, autoencoder: Autoencoder) -> None:
        super().__init__()
        self.encoder = autoencoder.encoder

    def forward(self, pixels: UInt8[Tensor, "b s s 3"]) -> Float[Tensor, "b c h w"]:
        latents: Tensor = self.encoder(pixels.permute(0, 3, 1, 2).float() / 127.5 - 1)
        return latents


def export_decoder(autoencoder: Autoencoder, drawing: Drawing, output: Path, trained: Trained) -> Path:
    """Write the four graphs, the card and, last, the manifest; returns `output`."""
    output.mkdir(parents=True, exist_ok=True)
    (output / MANIFEST).unlink(missing_ok=True)
    shape = drawing.shape
    latents, size = [-1, shape.channels, shape.side, shape.side], shape.side * FACTOR
    at, moment, vectors = torch.zeros(2, *latents[1:]), torch.zeros(2), torch.ones(2, 256)
    numbers = shape.sketch.numbers
    example = {"latents": at, "time": moment, "step": moment, "vectors": vectors, "mean": torch.zeros(2, numbers)}
    shapes = {"latents": latents, "time": [-1], "step": [-1], "vectors": [-1, 256], "mean": [-1, numbers]}
    export_graph(drawing.flow, example, shapes, output / "flow.xml", eight_bit="")
    export_graph(drawing.sketch, {"vectors": vectors}, {"vectors": [-1, 256]}, output / "sketch.xml", eight_bit=NOTHING)
    export_picture(autoencoder, drawing, output)
    pixels = torch.zeros(2, size, size, 3, dtype=torch.uint8)
    export_graph(
        _Seeing(autoencoder), {"pixels": pixels}, {"pixels": [-1, size, size, 3]}, output / "latents.xml", eight_bit=NOTHING
    )
    finish_decoder(output, (size, shape.channels), trained)
    return output


def export_picture(autoencoder: Autoencoder, drawing: Drawing, output: Path) -> None:
    """Write the graph of the picture decoder."""
    shape = drawing.shape
    latents, numbers = [-1, shape.channels, shape.side, shape.side], shape.sketch.numbers
    example = {"latents": torch.zeros(2, *latents[1:]), "mean": torch.zeros(2, numbers)}
    shapes = {"latents": latents, "mean": [-1, numbers]}
    export_graph(_Drawn(autoencoder), example, shapes, output / "picture.xml", eight_bit=NOTHING)


def finish_decoder(output: Path, sizes: tuple[int, int], trained: Trained) -> None:
    """Write the card and the manifest over the graphs that are there; `sizes` are the side in pixels and the latent channels."""
    files = {name: record(output / name) for name in FILES}
    (output / "MODEL_CARD.md").write_text(
        decoder_card(trained.training, sum(file.bytes for file in files.values())), encoding="utf-8"
    )
    files["MODEL_CARD.md"] = record(output / "MODEL_CARD.md")
    size, channels = sizes
    manifest = DecoderManifest(size=size, channels=channels, factor=FACTOR, files=files, **asdict(trained))
    write_manifest(output, manifest)
