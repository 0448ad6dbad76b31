"""The autoencoder: a picture of 3 x S x S becomes latents of 8 x S/8 x S/8 and back.

The encoder is linear and fitted in closed form; what it loses the decoder guesses. The decoder is the linear inverse plus a
convolutional network that corrects it (the shortcut of DC-AE, Chen et al. 2024), so that training starts from a usable picture.
It also sees the sketch of what is drawn (`sketch.py`), beside the latents and as a signal for every block: what a flow of few steps
leaves open it fills with what such things look like. There is no normalisation inside: the network is shallow and its branches
start at zero. Fitting it is in `fitting.py`, teaching it to finish what the flow draws in `finishing.py`.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

FACTOR = 8


@dataclass(frozen=True, slots=True)
class AutoencoderShape:
    """Sizes: latent channels, and the widths at an eighth, a quarter and half of the picture's side."""

    channels: int = 8
    eighth: int = 128
    quarter: int = 64
    half: int = 32
    signal: int = 192
    sketched: int = 2_048


class Block(nn.Module):
    """Two 3 x 3 convolutions beside an identity, modulated between; the second and the modulation start at zero."""

    def __init__(self, width: int, signal: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.modulation = nn.Linear(signal, 2 * width)
        for parameter in (self.second.weight, *self.modulation.parameters()):
            nn.init.zeros_(parameter)

    def forward(self, x: Float[Tensor, "b w h s"], signal: Float[Tensor, "b c"]) -> Float[Tensor, "b w h s"]:
        """Add the correction."""
        scale, shift = self.modulation(signal)[:, :, None, None].chunk(2, 1)
        seen = self.first(functional.silu(x)) * (1 + scale) + shift
        corrected: Tensor = self.second(functional.silu(seen))
        return x + corrected


class PictureEncoder(nn.Module):
    """Pixels in -1..1 -> latents: a fixed linear map of 8 x 8 patches, so that latents are known before anything is trained."""

    def __init__(self, shape: AutoencoderShape) -> None:
        super().__init__()
        self.linear = nn.Conv2d(3, shape.channels, FACTOR, stride=FACTOR)
        self.requires_grad_(False)

    def forward(self, pixels: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b c h h"]:
        """Compress pictures."""
        latents: Tensor = self.linear(pixels)
        return latents

    @torch.no_grad()
    def fit(self, pixels: Float[Tensor, "b 3 s s"]) -> None:
        """Choose the map: three channels of mean colour, the rest the commonest patterns of brightness within a patch.

        Colours get variance 1. Patterns get the square root of their share of the brightness: a flow then draws colours first and
        details last, and its loss weighs them so.
        """
        patches = functional.pixel_unshuffle(pixels, FACTOR).movedim(1, -1).reshape(-1, 3, FACTOR * FACTOR)
        colours = patches.mean(2)
        spread, axes = _components(colours, 3)
        grey = patches.mean(1)
        detail, patterns = _components(grey - grey.mean(1, keepdim=True), self.linear.out_channels - 3)
        hues = (axes / spread)[:, None, :].expand(3, FACTOR * FACTOR, 3) / FACTOR**2
        shapes = (patterns / (detail * spread[0]).sqrt())[None].expand(3, -1, -1) / 3
        weight = torch.cat([hues, shapes], 2).permute(2, 0, 1).reshape(-1, 3, FACTOR, FACTOR)
        self.linear.weight.copy_(weight)
        self.linear.bias.copy_(-(patches.mean(0) * weight.flatten(2)).sum((1, 2)))  # type: ignore[union-attr]  # it was built with one


def _components(x: Float[Tensor, "n d"], count: int) -> tuple[Float[Tensor, " c"], Float[Tensor, "d c"]]:
    """Give the strongest principal components: standard deviations and axes."""
    variances, axes = torch.linalg.eigh(torch.cov(x.T))
    return variances[-count:].flip(0).clamp(min=1e-8).sqrt(), axes[:, -count:].flip(1)


class PictureDecoder(nn.Module):
    """Latents and the sketch they came from -> pixels in about -1..1."""

    def __init__(self, shape: AutoencoderShape) -> None:
        super().__init__()
        s = shape
        self.linear = nn.Conv2d(s.channels, 3 * FACTOR * FACTOR, 1)
        self.told = nn.Linear(s.sketched, s.signal)
        self.enter = nn.Conv2d(s.channels, s.eighth, 3, padding=1)
        self.hint = nn.Conv2d(s.channels, s.eighth, 3, padding=1, bias=False)
        self.eighth = nn.ModuleList(Block(s.eighth, s.signal) for _ in range(3))
        self.widen = nn.Conv2d(s.eighth, 4 * s.quarter, 1)
        self.quarter = nn.ModuleList(Block(s.quarter, s.signal) for _ in range(2))
        self.halve = nn.Conv2d(s.quarter, 4 * s.half, 1)
        self.detail = nn.ModuleList([Block(s.half, s.signal)])
        self.correction = nn.Conv2d(s.half, 12, 3, padding=1)
        for weight in (self.correction.weight, self.hint.weight):
            nn.init.zeros_(weight)

    def forward(self, latents: Float[Tensor, "b c h w"], mean: Float[Tensor, "b d"]) -> Float[Tensor, "b 3 s s"]:
        """Draw what the latents say, knowing the sketch."""
        hinted = self.enter(latents) + self.hint(mean.reshape(latents.shape))
        return self._draw(latents, hinted, functional.silu(self.told(mean)))

    def alone(self, latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 s s"]:
        """Draw latents of any size without a sketch."""
        return self._draw(latents, self.enter(latents), latents.new_zeros(len(latents), self.told.out_features))

    def _draw(
        self, latents: Float[Tensor, "b c h w"], x: Float[Tensor, "b w h h"], signal: Float[Tensor, "b k"]
    ) -> Float[Tensor, "b 3 s s"]:
        for block in self.eighth:
            x = block(x, signal)
        x = functional.pixel_shuffle(self.widen(x), 2)
        for block in self.quarter:
            x = block(x, signal)
        x = functional.pixel_shuffle(self.halve(x), 2)
        for block in self.detail:
            x = block(x, signal)
        corrected = functional.pixel_shuffle(self.correction(x), 2)
        return functional.pixel_shuffle(self.linear(latents), FACTOR) + corrected

    @torch.no_grad()
    def start_from(self, means: Float[Tensor, "n d"]) -> None:
        """Start the signal at a map that whitens these sketches, so that rare differences are heard too."""
        middle = means.mean(0)
        off = means - middle
        variances, axes = torch.linalg.eigh(off.T @ off / len(off))
        axes, variances = axes[:, -self.told.out_features :], variances[-self.told.out_features :]
        whitening = axes / (variances + 0.02 * variances.mean()).sqrt()
        self.told.weight.copy_(whitening.T)
        self.told.bias.copy_(-middle @ whitening)


class Autoencoder(nn.Module):
    """Encoder and decoder together."""

    def __init__(self, shape: AutoencoderShape | None = None) -> None:
        super().__init__()
        self.shape = shape or AutoencoderShape()
        self.encoder, self.decoder = PictureEncoder(self.shape), PictureDecoder(self.shape)

    def forward(self, pixels: Float[Tensor, "b 3 s s"], noise: float = 0.0) -> Float[Tensor, "b 3 s s"]:
        """Compress and draw again; noise up to this strength on the latents teaches the decoder to forgive a flow's errors."""
        latents = self.encoder(pixels)
        strength = noise * torch.rand(len(latents), 1, 1, 1)
        return self.decoder.alone(latents + strength * torch.randn_like(latents))

    @torch.no_grad()
    def start(self, pixels: Float[Tensor, "b 3 s s"]) -> None:
        """Fit the encoder, and start the decoder's linear map at its inverse."""
        self.encoder.fit(pixels)
        weight, bias = self.encoder.linear.weight.flatten(1), self.encoder.linear.bias
        inverse = torch.linalg.pinv(weight)
        self.decoder.linear.weight.copy_(inverse[:, :, None, None])
        self.decoder.linear.bias.copy_(-inverse @ bias)  # type: ignore[union-attr]  # both were built with one
