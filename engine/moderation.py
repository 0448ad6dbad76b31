"""What pictures may come in: no drawings among the products, nothing explicit where the operator asks for that.

Here belongs the decision per picture. How explicit one is is measured in `engine.generation.nudity`, what may be drawn is decided
in `engine.generation.safety`.
"""

from typing import Literal, TypeAlias

from engine.config import Settings
from engine.datatypes import Image
from engine.encoders.images import decode
from engine.errors import InvalidImage
from engine.generation.nudity import nudity_filter
from engine.generation.provenance import is_synthetic

Place: TypeAlias = Literal["catalogue", "uploads"]


def product_picture(data: bytes, *, size: int | None, settings: Settings) -> Image:
    """Decode a picture that is to become a product's; raises `InvalidImage`, for a drawing with reason `synthetic`."""
    if is_synthetic(data):
        raise InvalidImage("the picture is a drawing made by a model, which shows no product: give a photo", reason="synthetic")
    return moderated(decode(data, size=size, max_pixels=settings.max_pixels), "catalogue", settings)


def moderated(image: Image, place: Place, settings: Settings) -> Image:
    """Return a picture that may come in there; raises `InvalidImage` with reason `explicit` where that is moderated.

    Raises `MissingExtra` when moderation is asked for and its model is not installed.
    """
    if place not in settings.moderation:
        return image
    (score,) = nudity_filter().scores([image])
    if score >= settings.nudity_threshold:
        raise InvalidImage(
            f"the picture is refused as explicit (score {score:.2f}, limit {settings.nudity_threshold:g}): give another",
            reason="explicit",
        )
    return image
