"""The flow: from noise to latents, steered by a vector of the search space. Its training is in `flowing.py`.

It is the exact flow of a Gaussian around a sketch of what the vector means (`sketch.py`), plus a network that corrects it and
sees the sketch. The network is an hourglass: convolutions at 16 x 16 and 8 x 8, and a transformer at 4 x 4, where most parameters
are and a step costs least (U-ViT, Bao et al. 2023; simple diffusion, Hoogeboom et al. 2023). The vector enters twice more: every
block is modulated by it (adaLN, Peebles and Xie 2023), and the transformer reads it as a few more tokens. Time 0 is noise, time 1
the picture.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from engine.datatypes import DIMENSIONS
from engine.training.drawing.sketch import Gaussian, Sketch, SketchShape, directions

FREQUENCIES = 16
FASTEST = 64.0


@dataclass(frozen=True, slots=True)
class FlowShape:
    """Sizes: latent channels and side, widths of the three levels, blocks a level, tokens made of the vector."""

    channels: int = 8
    side: int = 16
    outer: int = 32
    middle: int = 64
    inner: int = 192
    blocks: int = 1
    layers: int = 5
    heads: int = 3
    tokens: int = 4
    signal: int = 192
    landmarks: int = 1_024
    components: int = 256

    @property
    def sketch(self) -> SketchShape:
        """Sizes of the sketch below the flow."""
        return SketchShape(self.channels * self.side**2, self.landmarks, self.components)


class Adapter(nn.Module):
    """A vector of the search space -> a signal for every block, and tokens for the transformer.

    The vector of zeros means "anything": the picture is drawn without being told what, which guidance needs.
    """

    def __init__(self, shape: FlowShape) -> None:
        super().__init__()
        self.linear = nn.Linear(DIMENSIONS, shape.signal)
        self.norm = nn.LayerNorm(shape.signal)
        self.anything = nn.Parameter(torch.zeros(shape.signal))
        self.tokens = nn.Linear(shape.signal, shape.tokens * shape.inner)
        self.shape = shape

    def forward(
        self, vectors: Float[Tensor, "b 256"], given: Float[Tensor, "b 1"]
    ) -> tuple[Float[Tensor, "b s"], Float[Tensor, "b t w"]]:
        """Adapt unit vectors; `given` is 0 where there is none."""
        adapted = self.norm(self.linear(vectors))
        signal = given * adapted + (1 - given) * self.anything
        return signal, self.tokens(functional.silu(signal)).reshape(-1, self.shape.tokens, self.shape.inner)

    @torch.no_grad()
    def start_from(self, vectors: Float[Tensor, "n 256"]) -> None:
        """Start the linear map at one that whitens these vectors, so that rare directions are heard too."""
        mean = vectors.mean(0)
        variances, axes = torch.linalg.eigh(torch.cov((vectors - mean).T))
        floor = variances.mean() * 0.05
        whitening = axes[:, -self.linear.out_features :] / (variances + floor).sqrt()[-self.linear.out_features :]
        self.linear.weight.copy_(whitening.T)
        self.linear.bias.copy_(-mean @ whitening)


class ConvolutionBlock(nn.Module):
    """Two modulated 3 x 3 convolutions beside an identity, on maps of `width` channels."""

    def __init__(self, width: int, signal: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.modulation = nn.Linear(signal, 3 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x: Float[Tensor, "b w h s"], signal: Float[Tensor, "b c"]) -> Float[Tensor, "b w h s"]:
        """Add what the block sees."""
        scale, shift, gate = self.modulation(signal)[:, :, None, None].chunk(3, 1)
        seen = functional.silu(self.first(_unit(x) * (1 + scale) + shift))
        changed: Tensor = gate * self.second(seen)
        return x + changed


def _unit(x: Float[Tensor, "b w h s"]) -> Float[Tensor, "b w h s"]:
    return functional.layer_norm(x.permute(0, 2, 3, 1), (x.shape[1],)).permute(0, 3, 1, 2)


class TransformerBlock(nn.Module):
    """One modulated transformer layer."""

    def __init__(self, shape: FlowShape) -> None:
        super().__init__()
        self.heads, width = shape.heads, shape.inner
        self.attention_norm = nn.LayerNorm(width, elementwise_affine=False)
        self.attended = nn.Linear(width, 3 * width, bias=False)
        self.mix = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.widen = nn.Linear(width, 4 * width)
        self.narrow = nn.Linear(4 * width, width)
        self.modulation = nn.Linear(shape.signal, 6 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x: Float[Tensor, "b n w"], signal: Float[Tensor, "b c"]) -> Float[Tensor, "b n w"]:
        """Let the tokens look at one another, then think alone."""
        a_scale, a_shift, a_gate, scale, shift, gate = self.modulation(signal)[:, None, :].chunk(6, 2)
        x = x + a_gate * self._attend(self.attention_norm(x) * (1 + a_scale) + a_shift)
        hidden = functional.gelu(self.widen(self.norm(x) * (1 + scale) + shift), approximate="tanh")
        thought: Tensor = gate * self.narrow(hidden)
        return x + thought

    def _attend(self, x: Float[Tensor, "b n w"]) -> Float[Tensor, "b n w"]:
        b, n, w = x.shape
        q, k, v = self.attended(x).view(b, n, 3, self.heads, w // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        # For twenty tokens the plain product is five times faster on a CPU than the fused kernel.
        looked = (q @ k.transpose(2, 3) * (w // self.heads) ** -0.5).softmax(3)
        mixed: Tensor = self.mix((looked @ v).transpose(1, 2).reshape(b, n, w))
        return mixed


class Flow(nn.Module):
    """Latents at a time, the time, how far the next step goes, and a vector -> the velocity towards the picture.

    A step of 0 asks for the velocity here (flow matching); a longer one for the mean velocity along that step, so that
    few steps suffice (shortcut models, Frans et al. 2024).
    """

    def __init__(self, shape: FlowShape | None = None) -> None:
        super().__init__()
        s = self.shape = shape or FlowShape()
        self.adapter = Adapter(s)
        self.gaussian = Gaussian(s.sketch)
        self.clock = nn.Sequential(nn.Linear(4 * FREQUENCIES, s.signal), nn.SiLU(), nn.Linear(s.signal, s.signal))
        self.enter = nn.Conv2d(2 * s.channels, s.outer, 3, padding=1)
        self.down = nn.ModuleList(ConvolutionBlock(s.middle, s.signal) for _ in range(s.blocks))
        self.to_middle, self.to_inner = nn.Conv2d(4 * s.outer, s.middle, 1), nn.Conv2d(4 * s.middle, s.inner, 1)
        self.places = nn.Parameter(torch.randn(1, (s.side // 4) ** 2, s.inner) * 0.02)
        self.inner = nn.ModuleList(TransformerBlock(s) for _ in range(s.layers))
        self.from_inner, self.from_middle = nn.Conv2d(s.inner, 4 * s.middle, 1), nn.Conv2d(s.middle, 4 * s.outer, 1)
        self.up = nn.ModuleList(ConvolutionBlock(s.middle, s.signal) for _ in range(s.blocks))
        self.last = nn.ModuleList([ConvolutionBlock(s.outer, s.signal)])
        self.leave = nn.Conv2d(s.outer, s.channels, 3, padding=1)
        for parameter in self.leave.parameters():
            nn.init.zeros_(parameter)
        frequencies = torch.exp(torch.linspace(0, math.log(FASTEST), FREQUENCIES))
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(
        self,
        latents: Float[Tensor, "b c h w"],
        time: Float[Tensor, " b"],
        step: Float[Tensor, " b"],
        vectors: Float[Tensor, "b 256"],
        mean: Float[Tensor, "b d"],
    ) -> Float[Tensor, "b c h w"]:
        """Say where to go; `mean` is the sketch of the vectors."""
        unit, given = directions(vectors)
        base = self.gaussian(latents.flatten(1), mean, time, step)
        meaning, tokens = self.adapter(unit, given)
        signal = functional.silu(meaning + self.clock(torch.cat([self._waves(time), self._waves(step)], 1)))
        seen = torch.cat([latents, mean.reshape(latents.shape)], 1)
        velocity: Tensor = base.reshape(latents.shape) + self._correct(seen, tokens, signal)
        return velocity

    def _correct(
        self, seen: Float[Tensor, "b d h w"], tokens: Float[Tensor, "b t w"], signal: Float[Tensor, "b s"]
    ) -> Float[Tensor, "b c h w"]:
        outer = self.enter(seen)
        middle = self.to_middle(functional.pixel_unshuffle(outer, 2))
        for block in self.down:
            middle = block(middle, signal)
        inner = self._think(self.to_inner(functional.pixel_unshuffle(middle, 2)), tokens, signal)
        middle = middle + functional.pixel_shuffle(self.from_inner(inner), 2)
        for block in self.up:
            middle = block(middle, signal)
        outer = outer + functional.pixel_shuffle(self.from_middle(middle), 2)
        for block in self.last:
            outer = block(outer, signal)
        velocity: Tensor = self.leave(_unit(outer))
        return velocity

    def _think(
        self, x: Float[Tensor, "b w h h"], tokens: Float[Tensor, "b t w"], signal: Float[Tensor, "b c"]
    ) -> Float[Tensor, "b w h h"]:
        side = self.shape.side // 4
        words = torch.cat([tokens, x.flatten(2).transpose(1, 2) + self.places], 1)
        for layer in self.inner:
            words = layer(words, signal)
        return words[:, self.shape.tokens :].transpose(1, 2).reshape(-1, self.shape.inner, side, side)

    def _waves(self, x: Float[Tensor, " b"]) -> Float[Tensor, "b w"]:
        angles = x[:, None] * self.get_buffer("frequencies") * (math.pi / 2)
        return torch.cat([angles.sin(), angles.cos()], 1)


class Drawing(nn.Module):
    """The sketch of a vector and the flow that starts from it: what is trained and shipped together."""

    def __init__(self, shape: FlowShape | None = None) -> None:
        super().__init__()
        self.shape = shape or FlowShape()
        self.sketch, self.flow = Sketch(self.shape.sketch), Flow(self.shape)

    def forward(
        self, at: Float[Tensor, "b c h w"], time: Float[Tensor, " b"], step: Float[Tensor, " b"], vectors: Float[Tensor, "b 256"]
    ) -> Float[Tensor, "b c h w"]:
        """Say where to go, in bfloat16 where it is trained."""
        mean = self.sketch(vectors)
        with torch.autocast("cpu", torch.bfloat16):
            velocity: Tensor = self.flow(at, time, step, vectors, mean)
        return velocity.float()
