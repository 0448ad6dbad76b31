"""Foreign models by name: from `open_clip:...` or `hf:...` to an encoder of 256 dimensions.

Here belongs the choice of library and projection. Loading belongs to `engine.encoders.openclip` and
`engine.encoders.huggingface`, running to `engine.encoders.torch`.
"""

import logging
import os
from pathlib import Path

from engine.config import Settings
from engine.encoders.projection import Projection
from engine.encoders.torch import Backbone, TorchEncoder, use_threads
from engine.errors import ConfigurationError
from engine.protocols import Encoder

logger = logging.getLogger(__name__)

SILENCE = {"HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"}
"""Set before a hub's client is imported; a value the user has set stays."""


def load_encoder(spec: str, settings: Settings) -> Encoder:
    """Load `open_clip:MODEL/PRETRAINED`, `open_clip:FOLDER`, `hf:ORG/MODEL` or `hf:FOLDER`.

    The hub is asked only for a model named by its place there. A model wider than 256 uses the projection fitted to it, if
    there is one under `projection_path`, else one that needs no data. Raises `ConfigurationError`, `MissingExtra`, `ModelError`.
    """
    backbone = load_backbone(spec)
    use_threads(settings.threads)
    fitted = projection_path(settings.data, backbone)
    projection = Projection.load(fitted, backbone.width) if fitted.exists() else Projection.default(backbone.width)
    if projection.kind == "cosine":
        logger.warning(
            "%s is %d wide and no projection is fitted to it: on the way to 256 about a quarter of the nearest neighbours change; "
            "fit one with engine.encoders.projection.fit_projection and save it as %s",
            *(spec, backbone.width, fitted),
        )
    return TorchEncoder(backbone, projection=projection, device=settings.device, precision=settings.precision)


def load_backbone(spec: str) -> Backbone:
    """Load a foreign model as it is, in its own width."""
    for variable, value in SILENCE.items():
        os.environ.setdefault(variable, value)
    kind, _, name = spec.partition(":")
    if kind == "open_clip" and name:
        from engine.encoders.openclip import open_clip_backbone  # noqa: PLC0415  seconds to import

        return open_clip_backbone(name)
    if kind == "hf" and name:
        from engine.encoders.huggingface import hugging_face_backbone  # noqa: PLC0415  seconds to import

        return hugging_face_backbone(name)
    raise ConfigurationError(
        f"encoder {spec!r} is not known: use open_clip:MODEL/PRETRAINED, hf:ORG/MODEL or a folder after either"
    )


def projection_path(data: Path, backbone: Backbone) -> Path:
    """Say where the projection fitted to a model is looked for: it belongs to the weights, not to their name."""
    return data / "projections" / f"{backbone.digest[:16]}.safetensors"
