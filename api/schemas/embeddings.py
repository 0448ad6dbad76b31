"""Embeddings in the form of the OpenAI API, extended to pictures."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StrictInt, model_validator

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


class EmbeddingRequest(BaseModel):
    """What the OpenAI embeddings API takes, and pictures too. Fields it does not know are ignored, as there."""

    model_config = ConfigDict(
        extra="ignore",
        json_schema_extra={
            "examples": [{"input": ["red shoes", {"image": "data:image/png;base64,iVBORw0KGgo="}], "model": "bundle:default"}]
        },
    )
    input: (
        EmbeddingText | EmbeddingPart | Annotated[list[EmbeddingText | EmbeddingPart], Field(min_length=1, max_length=MAX_INPUTS)]
    )
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
