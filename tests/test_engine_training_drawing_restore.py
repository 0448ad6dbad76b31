"""A decoder folder read back into torch draws what its graphs draw."""

from pathlib import Path

import numpy as np
import torch

from engine.encoders.runtime import compile_for_cpu
from engine.training.drawing.autoencoder import Autoencoder, AutoencoderShape
from engine.training.drawing.export import Trained, export_decoder
from engine.training.drawing.flow import Drawing, FlowShape
from engine.training.drawing.restore import restore_decoder

TINY = FlowShape(outer=8, middle=16, inner=32, layers=1, heads=2, tokens=2, signal=32, landmarks=16, components=8)
SMALL = AutoencoderShape(8, 16, 8, 4)


def modules(seed: int) -> tuple[Autoencoder, Drawing]:
    torch.manual_seed(seed)
    autoencoder, drawing = Autoencoder(SMALL), Drawing(TINY)
    with torch.no_grad():
        for parameter in [*autoencoder.parameters(), *drawing.parameters()]:
            parameter.add_(0.05 * torch.randn_like(parameter))
        drawing.flow.gaussian.spread.abs_().add_(0.1)
        drawing.flow.gaussian.rest.abs_().add_(0.1)
    return autoencoder, drawing


def test_what_was_exported_comes_back(tmp_path: Path) -> None:
    autoencoder, drawing = modules(0)
    export_decoder(autoencoder, drawing, tmp_path, Trained("tiny", "0", 4, 2.0, 4, 0.7, {}))
    again, redrawn = modules(1)
    restore_decoder(tmp_path, again, redrawn)
    graphs = {name: compile_for_cpu(tmp_path / f"{name}.xml", threads=1, bf16=False, exact=True) for name in ("flow", "sketch")}
    vectors = torch.nn.functional.normalize(torch.randn(2, 256), dim=1)
    at, time, step = torch.randn(2, 8, 16, 16), torch.tensor([0.2, 0.7]), torch.tensor([0.0, 0.125])
    with torch.no_grad():
        mean = redrawn.sketch(vectors)
        velocity = redrawn.flow(at, time, step, vectors, mean)
        assert torch.allclose(again.decoder(at, mean), autoencoder.decoder(at, mean), atol=2e-2)
        assert torch.allclose(again.encoder.linear.weight, autoencoder.encoder.linear.weight, atol=1e-3)
    inputs = [x.numpy() for x in (at, time, step, vectors, mean)]
    assert np.allclose(graphs["sketch"]([vectors.numpy()])[0], mean.numpy(), atol=1e-4)
    assert np.allclose(graphs["flow"](inputs)[0], velocity.numpy(), atol=1e-2)
