"""Embeddings in the form of the OpenAI API, extended to pictures."""

from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StrictInt,
    Tag,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from api.schemas.fields import MAX_INPUTS, example
from engine.datatypes import DIMENSIONS, MAX_TEXT_LENGTH


class ImageUrl(BaseModel):
    """The inner object of an OpenAI-style image part."""

    url: str


class EmbeddingPart(BaseModel):
    """A text or a picture: `{"text": ...}`, `{"image": base64}`, or an OpenAI-style `{"type": "image_url", ...}`."""

    type: Literal["text", "image", "image_url"] | None = None
    text: str | None = Field(None, max_length=MAX_TEXT_LENGTH)
    image: str | None = Field(None, min_length=1)
    image_url: ImageUrl | str | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if sum(part is not None for part in (self.text, self.image, self.image_url)) != 1:
            raise ValueError("give exactly one of text, image, image_url")
        return self


EmbeddingText = Annotated[str, Field(max_length=MAX_TEXT_LENGTH)]


def _kind(value: object) -> str | None:
    """Tell a text from a part, so that only one of them is judged; the brackets keep the name out of places in errors."""
    if isinstance(value, str):
        return "<text>"
    return "<part>" if isinstance(value, dict | EmbeddingPart) else None


_NOT_AN_INPUT = (
    'this is neither text nor a part such as {"text": ...} or {"image": ...}; token ids are not read here: send the text'
)
EmbeddingInput = Annotated[
    Annotated[EmbeddingText, Tag("<text>")] | Annotated[EmbeddingPart, Tag("<part>")],
    Discriminator(_kind, custom_error_type="embedding_input", custom_error_message=_NOT_AN_INPUT),
]


def _listed(value: object) -> object:
    """Let one input stand for a list of one."""
    if isinstance(value, list) and not value:
        raise PydanticCustomError("embedding_input", "the list is empty: give at least one text or picture")
    return value if isinstance(value, list) else [value]


_INPUT_SCHEMA = {
    "anyOf": [
        {"type": "string", "maxLength": MAX_TEXT_LENGTH},
        {"$ref": "#/components/schemas/EmbeddingPart"},
        {
            "type": "array",
            "minItems": 1,
            "maxItems": MAX_INPUTS,
            "items": {"anyOf": [{"type": "string", "maxLength": MAX_TEXT_LENGTH}, {"$ref": "#/components/schemas/EmbeddingPart"}]},
        },
    ],
    "description": "A text, a picture, or a list of them.",
}


class EmbeddingRequest(BaseModel):
    """What the OpenAI embeddings API takes, and pictures too. Fields it does not know are ignored, as there."""

    model_config = ConfigDict(
        extra="ignore",
        json_schema_extra={
            "examples": [{"input": ["red shoes", {"image": "data:image/png;base64,iVBORw0KGgo="}], "model": "bundle:default"}]
        },
    )
    input: Annotated[
        list[EmbeddingInput],
        BeforeValidator(_listed),
        Field(max_length=MAX_INPUTS, description="A text, a picture, or a list of them."),
        WithJsonSchema(_INPUT_SCHEMA),
    ]
    model: str | None = Field(None, max_length=500, description="Name of the encoder in use (see `/v1/models`), or nothing.")
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: StrictInt | None = Field(None, description=f"Only {DIMENSIONS}.")


class EmbeddingItem(BaseModel):
    """One embedding: numbers, or base64 of little-endian float32."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingUsage(BaseModel):
    """Counts words of the texts; pictures count as none."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingResponse(BaseModel):
    """Embeddings in the order of the input, unit length."""

    model_config = example(
        {
            "object": "list",
            "data": [{"object": "embedding", "index": 0, "embedding": [0.0123, -0.0456]}],
            "model": "bundle:default",
            "usage": {"prompt_tokens": 2, "total_tokens": 2},
        }
    )
    object: Literal["list"]
    data: list[EmbeddingItem]
    model: str
    usage: EmbeddingUsage
