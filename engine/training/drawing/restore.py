"""A shipped decoder back in torch: what training goes on from when its encoder has changed, or when there is more time.

The stored numbers are the model: matrices come back as they were rounded to 8 bits.
"""

from pathlib import Path

import torch
from torch import nn

from engine.encoders.bundle import read_weights
from engine.training.drawing.autoencoder import Autoencoder
from engine.training.drawing.flow import Drawing


def restore_decoder(folder: Path, autoencoder: Autoencoder, drawing: Drawing) -> None:
    """Read the weights of a folder written by `export_decoder` into modules of the same shape."""
    _load(autoencoder, folder, "picture", "latents")
    _load(drawing.flow, folder, "flow")
    _load(drawing.sketch, folder, "sketch")


@torch.no_grad()
def _load(module: nn.Module, folder: Path, *graphs: str) -> None:
    weights = {name: values for graph in graphs for name, values in read_weights(folder / f"{graph}.xml").items()}
    for name, parameter in module.named_parameters():
        parameter.copy_(torch.from_numpy(weights[name]).view_as(parameter))
