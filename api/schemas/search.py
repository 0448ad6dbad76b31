"""Searches and their answers."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StrictInt, model_validator

from api.schemas.fields import HIT, MAX_WHERE_LENGTH, Attribute, Number, Target, example
from engine.datatypes import DIMENSIONS, MAX_ID_LENGTH, MAX_K, MAX_TERMS, MAX_TEXT_LENGTH


class _SearchOptions(BaseModel):
    k: StrictInt = Field(10, ge=1, le=MAX_K, description="How many hits to return at most.")
    where: str | None = Field(
        None, max_length=MAX_WHERE_LENGTH, description="Filter expression.", examples=["price < 50 and brand = 'Acme'"]
    )
    target: Target = Field("any", description="Which side of a product to compare with: its pictures, its title, or both.")


class TextSearch(_SearchOptions):
    """Search by words. `text` is another name for `query`."""

    model_config = example({"query": "red running shoes", "k": 10, "where": "price < 50"})
    query: str = Field(max_length=MAX_TEXT_LENGTH, description="What to look for.")

    @model_validator(mode="before")
    @classmethod
    def _accept_text(cls, value: object) -> object:
        if isinstance(value, dict) and "text" in value and "query" not in value:
            return {("query" if name == "text" else name): item for name, item in value.items()}
        return value


class ImageSearch(_SearchOptions):
    """Search by a picture, as base64 or a data URI."""

    model_config = example({"image": "data:image/jpeg;base64,/9j/4AAQSkZJRg==", "k": 10})
    image: str = Field(min_length=1, description="The picture as base64 or as a `data:` URI.")


class ImageSearchForm(_SearchOptions):
    """The fields that may accompany an uploaded picture."""

    model_config = ConfigDict(extra="forbid")


class SearchTerm(BaseModel):
    """One part of a search: exactly one of `text`, `image`, `id`, `vector`; a negative weight pushes away."""

    model_config = example({"text": "red", "weight": 0.7})
    text: str | None = Field(None, max_length=MAX_TEXT_LENGTH)
    image: str | None = Field(None, min_length=1, description="The picture as base64 or as a `data:` URI.")
    id: str | None = Field(None, max_length=MAX_ID_LENGTH, description="A document of the collection: more like this one.")
    vector: Annotated[list[Number], Field(min_length=DIMENSIONS, max_length=DIMENSIONS)] | None = None
    weight: Number = Field(1.0, ge=-100, le=100)

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        given = [name for name in ("text", "image", "id", "vector") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of text, image, id, vector, not {' and '.join(given) or 'none'}")
        return self


class TermSearch(_SearchOptions):
    """Search by weighted terms: "this dress, but red, not sleeveless"."""

    model_config = example(
        {"terms": [{"id": "SKU-1001"}, {"text": "red", "weight": 0.7}, {"text": "sleeveless", "weight": -0.5}], "k": 10}
    )
    terms: list[SearchTerm] = Field(min_length=1, max_length=MAX_TERMS)


class SearchHit(BaseModel):
    """One product found; `score` is a cosine, `image` the address of its picture."""

    id: str
    score: float
    title: str
    image: str | None
    attributes: dict[str, Attribute]


class SearchResponse(BaseModel):
    """What was found, how sure the engine is of it, and how it came about."""

    model_config = example(
        {
            "hits": [HIT],
            "confidence": 0.93,
            "decision": "answer",
            "total": 54,
            "timings_ms": {"encode": 3.1, "search": 0.4},
            "version": 54,
            "cache": "miss",
        }
    )
    hits: list[SearchHit]
    confidence: float | None = Field(description="Calibrated probability that a relevant product is among the hits.")
    decision: Literal["answer", "broaden", "generate", "abstain"]
    total: int = Field(description="Documents the filter admits.")
    timings_ms: dict[str, float]
    version: int = Field(description="Version of the collection the answer was read at.")
    cache: Literal["miss", "memory", "redis"] = Field(description="The cache tier that answered.")
