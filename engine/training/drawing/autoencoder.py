"""The autoencoder: a picture of 3 x S x S becomes latents of 8 x S/8 x S/8 and back.

The encoder is linear and fitted in closed form; what it loses the decoder guesses. The decoder is the linear inverse plus a
convolutional network that corrects it (the shortcut of DC-AE, Chen et al. 2024), so that training starts from a usable picture.
There is no normalisation inside: the network is shallow and its branches start at zero. Fitting it is in `fitting.py`.
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


class Block(nn.Module):
    """Two 3 x 3 convolutions beside an identity; the second starts at zero."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Float[Tensor, "b w h s"]) -> Float[Tensor, "b w h s"]:
        """Add the correction."""
        corrected: Tensor = self.second(functional.silu(self.first(functional.silu(x))))
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
    """Latents -> pixels in about -1..1."""

    def __init__(self, shape: AutoencoderShape) -> None:
        super().__init__()
        self.linear = nn.Conv2d(shape.channels, 3 * FACTOR * FACTOR, 1)
        self.eighth = nn.Sequential(nn.Conv2d(shape.channels, shape.eighth, 3, padding=1), *(Block(shape.eighth) for _ in range(3)))
        self.widen = nn.Conv2d(shape.eighth, 4 * shape.quarter, 1)
        self.quarter = nn.Sequential(Block(shape.quarter), Block(shape.quarter))
        self.halve = nn.Conv2d(shape.quarter, 4 * shape.half, 1)
        self.detail = Block(shape.half)
        self.correction = nn.Conv2d(shape.half, 12, 3, padding=1)
        nn.init.zeros_(self.correction.weight)

    def forward(self, latents: Float[Tensor, "b c h h"]) -> Float[Tensor, "b 3 s s"]:
        """Draw what the latents say."""
        quarter = self.quarter(functional.pixel_shuffle(self.widen(self.eighth(latents)), 2))
        half = self.detail(functional.pixel_shuffle(self.halve(quarter), 2))
        corrected = functional.pixel_shuffle(self.correction(half), 2)
        return functional.pixel_shuffle(self.linear(latents), FACTOR) + corrected


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
        drawn: Tensor = self.decoder(latents + strength * torch.randn_like(latents))
        return drawn

    @torch.no_grad()
    def start(self, pixels: Float[Tensor, "b 3 s s"]) -> None:
        """Fit the encoder, and start the decoder's linear map at its inverse."""
        self.encoder.fit(pixels)
        weight, bias = self.encoder.linear.weight.flatten(1), self.encoder.linear.bias
        inverse = torch.linalg.pinv(weight)
        self.decoder.linear.weight.copy_(inverse[:, :, None, None])
        self.decoder.linear.bias.copy_(-inverse @ bias)  # type: ignore[union-attr]  # both were built with one
