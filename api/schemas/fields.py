"""What the schemas share: limits, field types and the examples that appear in several."""

from typing import Annotated, Any, Literal

from fastapi import Path
from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_core import PydanticCustomError

from engine.datatypes import MAX_ID_LENGTH

MAX_DOCUMENTS = 1_000
MAX_INPUTS = 2_048
MAX_WHERE_LENGTH = 10_000
MAX_IMAGES = 32

CollectionName = Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$", description="Name of a collection.", examples=["shop"])]
DocumentId = Annotated[
    str,
    Path(max_length=MAX_ID_LENGTH, description="Id of a document, percent-encoded; it may contain slashes.", examples=["SKU-1001"]),
]
Target = Literal["any", "image", "title"]
Attribute = StrictBool | StrictInt | StrictFloat | StrictStr | list[StrictStr]


def _one_reason(value: object, validate: ValidatorFunctionWrapHandler) -> object:
    """Say in one sentence what an attribute may be, instead of once for each type it is not."""
    try:
        return validate(value)
    except ValidationError:
        raise PydanticCustomError(
            "attribute",
            "{given} cannot be an attribute: give text, a number, true, false, a list of texts, or null for none",
            {"given": shape_of(value)},
        ) from None


def shape_of(value: object) -> str:
    """Name what a client gave, without repeating it."""
    names: dict[type, str] = {dict: "an object", list: "a list of something else than texts", str: "this text"}
    return names.get(type(value), "this number")


GivenAttribute = Annotated[Attribute | None, WrapValidator(_one_reason)]
AttributeName = Annotated[str, Field(min_length=1, max_length=MAX_ID_LENGTH)]

HIT = {
    "id": "SKU-1001",
    "score": 0.3127,
    "title": "Red running shoes",
    "image": "/v1/collections/shop/documents/SKU-1001/image",
    "attributes": {"price": 49.9, "currency": "EUR", "brand": "Acme", "tags": ["shoes", "sport"]},
}
DOCUMENT = {
    "id": "SKU-1001",
    "title": "Red running shoes",
    "description": "Light, for the road.",
    "images": ["data:image/png;base64,iVBORw0KGgo="],
    "attributes": HIT["attributes"],
}
COLLECTION = {"name": "shop", "documents": 54, "encoder": "bundle:default", "fingerprint": "9f2c41d07a35", "version": 54}


def example(*examples: Any) -> ConfigDict:  # noqa: ANN401  JSON
    """Configure a model that refuses unknown fields and shows `examples`."""
    return ConfigDict(extra="forbid", json_schema_extra={"examples": list(examples)})


def _any_number(value: object) -> object:
    """Let JSON's `1` stand for `1.0`, and neither text nor booleans for numbers."""
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


Number = Annotated[StrictFloat, BeforeValidator(_any_number), Field(allow_inf_nan=False)]
