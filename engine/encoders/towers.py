"""The two towers in torch: EfficientNet-Lite, alone or in two sizes, for pictures, a BERT encoder for texts, each with its head.

Batch normalisation is folded into the convolutions, so these modules are what the bundle stores, what OpenVINO runs and
what `TorchEncoder` runs on a GPU. Reading a bundle's weights into them belongs here; training them does not.
"""

from dataclasses import dataclass, field
from typing import Any, cast

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional

from engine.encoders.bundle import Bundle
from engine.encoders.heads import HeadShape, ProjectionHead

PIXEL_MEAN = 127.0
PIXEL_SCALE = 128.0


@dataclass(frozen=True, slots=True)
class StageShape:
    """One stage of inverted residuals: `repeats` blocks, the first with `stride`."""

    kernel: int
    stride: int
    expansion: int
    channels: int
    repeats: int


@dataclass(frozen=True, slots=True)
class BackboneShape:
    """Sizes of one convolutional network; the defaults are EfficientNet-Lite2."""

    size: int = 256
    stem: int = 32
    stages: tuple[StageShape, ...] = (
        StageShape(3, 1, 1, 16, 1),
        StageShape(3, 2, 6, 24, 3),
        StageShape(5, 2, 6, 48, 3),
        StageShape(3, 2, 6, 88, 4),
        StageShape(5, 1, 6, 120, 4),
        StageShape(5, 2, 6, 208, 5),
        StageShape(3, 1, 6, 352, 1),
    )
    features: int = 1280


LITE0 = BackboneShape(
    size=208,
    stages=(
        StageShape(3, 1, 1, 16, 1),
        StageShape(3, 2, 6, 24, 2),
        StageShape(5, 2, 6, 40, 2),
        StageShape(3, 2, 6, 80, 3),
        StageShape(5, 1, 6, 112, 3),
        StageShape(5, 2, 6, 192, 4),
        StageShape(3, 1, 6, 320, 1),
    ),
)


@dataclass(frozen=True, slots=True)
class ImageShape(BackboneShape):
    """Sizes of the image tower; a companion is a second network that looks at the same pictures at its own size."""

    head: HeadShape = field(default_factory=lambda: HeadShape(inputs=1280, classes=1000))
    companion: BackboneShape | None = None


PAIRED = ImageShape(head=HeadShape(inputs=2560, hidden=1536, classes=1000), companion=LITE0)
"""EfficientNet-Lite2 at 256 pixels with EfficientNet-Lite0 at 208 beside it."""


@dataclass(frozen=True, slots=True)
class TextShape:
    """Sizes of the text tower; the defaults are multilingual-e5-small, read to 64 tokens."""

    width: int = 384
    layers: int = 12
    heads: int = 12
    hidden: int = 1536
    positions: int = 64
    head: HeadShape = field(default_factory=lambda: HeadShape(inputs=384))


class Convolution(nn.Conv2d):
    """A convolution with TensorFlow's SAME padding, as EfficientNet was trained: the odd pixel goes right and below."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, padding=(kernel - 1) // 2 if stride == 1 else 0, groups=groups)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d i j"]:
        """Convolve; a strided one halves even sides."""
        if self.stride[0] > 1:
            extra = self.kernel_size[0] - self.stride[0]
            x = functional.pad(x, (extra // 2, extra - extra // 2, extra // 2, extra - extra // 2))
        return super().forward(x)


class InvertedResidual(nn.Module):
    """Widen, look around each channel, narrow (MobileNetV2, CVPR 2018); without expansion the first step is left out."""

    def __init__(self, inputs: int, stage: StageShape, stride: int) -> None:
        super().__init__()
        wide = inputs * stage.expansion
        self.expand = Convolution(inputs, wide, 1) if stage.expansion > 1 else None
        self.depthwise = Convolution(wide, wide, stage.kernel, stride=stride, groups=wide)
        self.project = Convolution(wide, stage.channels, 1)
        self.residual = stride == 1 and inputs == stage.channels

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d i j"]:
        """Transform the map."""
        wide = x if self.expand is None else functional.relu6(self.expand(x))
        narrow: Tensor = self.project(functional.relu6(self.depthwise(wide)))
        return x + narrow if self.residual else narrow


def _stage(inputs: int, stage: StageShape) -> nn.Sequential:
    first = InvertedResidual(inputs, stage, stage.stride)
    rest = (InvertedResidual(stage.channels, stage, 1) for _ in range(stage.repeats - 1))
    return nn.Sequential(first, *rest)


class Backbone(nn.Module):
    """One convolutional network, from pixels to ImageNet features."""

    def __init__(self, shape: BackboneShape) -> None:
        super().__init__()
        self.size = shape.size
        self.stem = Convolution(3, shape.stem, 3, stride=2)
        widths = [shape.stem, *(stage.channels for stage in shape.stages)]
        self.stages = nn.ModuleList(_stage(inputs, stage) for inputs, stage in zip(widths, shape.stages, strict=False))
        self.features = Convolution(widths[-1], shape.features, 1)

    @property
    def blocks(self) -> list[InvertedResidual]:
        """List the blocks of all stages in order: where training cuts the tower is counted in them."""
        return [cast(InvertedResidual, block) for stage in self.stages for block in stage.children()]

    def map_shape(self, block: int) -> tuple[int, int, int]:
        """Say how large the map before a block is: channels, height, width."""
        side = self.size // 2
        for earlier in self.blocks[:block]:
            side //= earlier.depthwise.stride[0]
        channels = self.blocks[block - 1].project.out_channels if block else self.stem.out_channels
        return channels, side, side

    def pixels_to_map(self, pixels: UInt8[Tensor, "b s s 3"]) -> Float[Tensor, "b c h w"]:
        """Scale to this network's size, normalise and run the stem."""
        x = pixels.permute(0, 3, 1, 2).float()
        if x.shape[-1] != self.size:
            x = functional.interpolate(x, size=(self.size, self.size), mode="bilinear", align_corners=False)
        return functional.relu6(self.stem((x - PIXEL_MEAN) / PIXEL_SCALE))

    def run(self, x: Float[Tensor, "b c h w"], first: int, last: int) -> Float[Tensor, "b d i j"]:
        """Run the blocks `first` up to, not including, `last`: training starts from cached maps."""
        for block in self.blocks[first:last]:
            x = block(x)
        return x

    def pool(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b f"]:
        """Widen the last map to ImageNet features and average them."""
        return functional.relu6(self.features(x)).float().mean((2, 3))

    def look(self, pixels: UInt8[Tensor, "b s s 3"]) -> Float[Tensor, "b f"]:
        """Turn pixels into ImageNet features."""
        return self.pool(self.run(self.pixels_to_map(pixels), 0, len(self.blocks)))


class ImageTower(Backbone):
    """Pixels to unit vectors: the features of one network, or of two side by side, through one head."""

    def __init__(self, shape: ImageShape) -> None:
        super().__init__(shape)
        self.shape = shape
        self.companion = Backbone(shape.companion) if shape.companion else None
        self.head = ProjectionHead(shape.head)

    def forward(self, pixels: UInt8[Tensor, "b s s 3"]) -> Float[Tensor, "b 256"]:
        """Embed RGB pixels."""
        features = self.look(pixels)
        if self.companion is not None:
            features = torch.cat([features, self.companion.look(pixels)], dim=1)
        embedded: Tensor = self.head(features)
        return embedded


class TransformerLayer(nn.Module):
    """One post-norm encoder layer of BERT (NAACL 2019)."""

    def __init__(self, shape: TextShape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.query = nn.Linear(shape.width, shape.width)
        self.key = nn.Linear(shape.width, shape.width)
        self.value = nn.Linear(shape.width, shape.width)
        self.mix = nn.Linear(shape.width, shape.width)
        self.mix_norm = nn.LayerNorm(shape.width, eps=1e-12)
        self.widen = nn.Linear(shape.width, shape.hidden)
        self.narrow = nn.Linear(shape.hidden, shape.width)
        self.norm = nn.LayerNorm(shape.width, eps=1e-12)

    def forward(self, x: Float[Tensor, "b t w"], bias: Float[Tensor, "b 1 1 t"]) -> Float[Tensor, "b t w"]:
        """Transform the tokens; `bias` is a large negative number where there is none."""
        x = self.mix_norm(x + self.mix(self._attend(x, bias)))
        transformed: Tensor = self.norm(x + self.narrow(functional.gelu(self.widen(x))))
        return transformed

    def _attend(self, x: Tensor, bias: Tensor) -> Tensor:
        b, t, w = x.shape
        q, k, v = (layer(x).view(b, t, self.heads, w // self.heads).transpose(1, 2) for layer in (self.query, self.key, self.value))
        return functional.scaled_dot_product_attention(q, k, v, attn_mask=bias).transpose(1, 2).reshape(b, t, w)


class TextTower(nn.Module):
    """Token embeddings, looked up outside (see `engine.encoders.texts`), to unit vectors."""

    def __init__(self, shape: TextShape) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.zeros(shape.positions, shape.width))
        self.norm = nn.LayerNorm(shape.width, eps=1e-12)
        self.layers = nn.ModuleList(TransformerLayer(shape) for _ in range(shape.layers))
        self.head = ProjectionHead(shape.head)

    def forward(self, tokens: Float[Tensor, "b t w"], mask: Float[Tensor, "b t"]) -> Float[Tensor, "b 256"]:
        """Embed token embeddings; the mask is 1 where there is a token."""
        embedded: Tensor = self.head(self.pool(self.run(self.place(tokens), mask, 0, len(self.layers)), mask))
        return embedded

    def place(self, tokens: Float[Tensor, "b t w"]) -> Float[Tensor, "b t w"]:
        """Add the positions; the token type, always 0, is folded into them."""
        placed: Tensor = self.norm(tokens + self.positions[: tokens.shape[1]])
        return placed

    def run(self, x: Float[Tensor, "b t w"], mask: Float[Tensor, "b t"], first: int, last: int) -> Float[Tensor, "b t w"]:
        """Run the layers `first` up to, not including, `last`: training starts from cached states."""
        bias = (mask[:, None, None, :] - 1.0) * 1e4
        for layer in self.layers[first:last]:
            x = layer(x, bias)
        return x

    def pool(self, x: Float[Tensor, "b t w"], mask: Float[Tensor, "b t"]) -> Float[Tensor, "b w"]:
        """Average the states of the tokens that exist."""
        weights = mask.unsqueeze(2)
        return (x.float() * weights).sum(1) / weights.sum(1)


@dataclass(frozen=True, slots=True)
class Towers:
    """Both towers of one model."""

    image: ImageTower
    text: TextTower


def image_shape(parameters: dict[str, object]) -> ImageShape:
    """Read the image tower's sizes from a bundle's manifest."""
    fields = dict(parameters)
    head, companion = HeadShape(**fields.pop("head")), fields.pop("companion", None)  # type: ignore[arg-type]
    beside = BackboneShape(**_with_stages(companion)) if isinstance(companion, dict) else None
    return ImageShape(head=head, companion=beside, **_with_stages(fields))


def _with_stages(fields: dict[str, object]) -> dict[str, Any]:
    return fields | {"stages": tuple(StageShape(**stage) for stage in fields["stages"])}  # type: ignore[attr-defined]


def text_shape(parameters: dict[str, object]) -> TextShape:
    """Read the text tower's sizes from a bundle's manifest."""
    fields = dict(parameters)
    return TextShape(head=HeadShape(**fields.pop("head")), **fields)  # type: ignore[arg-type]


def build_towers(bundle: Bundle) -> Towers:
    """Build both towers with the weights of a bundle, in evaluation mode, float32, on the CPU."""
    image = ImageTower(image_shape(bundle.manifest.image_tower))
    text = TextTower(text_shape(bundle.manifest.text_tower))
    for tower, graph in ((image, "image"), (text, "text")):
        weights = bundle.weights(graph)
        tower.load_state_dict({name: torch.from_numpy(weights[name]).view_as(own) for name, own in tower.named_parameters()})
        tower.eval()
    return Towers(image, text)
