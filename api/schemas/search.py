"""Searches and their answers."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, model_validator

from api.schemas.facets import Facets, Names
from api.schemas.fields import HIT, MAX_WHERE_LENGTH, Attribute, Number, Target, example
from api.schemas.generation import Fallback, Generation
from engine.datatypes import DIMENSIONS, MAX_ID_LENGTH, MAX_K, MAX_TERMS, MAX_TEXT_LENGTH
from engine.listing import MAX_NAME_LENGTH

IMAGE_URL = "The picture's address, if the server fetches from its host (`SEMBLANCE_IMAGE_URL_HOSTS`)."
MAX_CURSOR_LENGTH = 100_000


class SearchOptions(BaseModel):
    """What may be said beside what is looked for."""

    fallback: Fallback | None = Field(
        None,
        description="Whether to draw what is not there: `auto` when the decision is `generate`, `always`, `never`; "
        "without it the server's own choice.",
    )

    k: StrictInt = Field(10, ge=1, le=MAX_K, description="How many hits to return at most; with a cursor, how many a page.")
    where: str | None = Field(
        None, max_length=MAX_WHERE_LENGTH, description="Filter expression.", examples=["price < 50 and brand = 'Acme'"]
    )
    target: Target = Field("any", description="Which side of a product to compare with: its pictures, its title, or both.")
    facets: Facets = Field(
        [], description="Attributes to count the relevant products by: names, or objects with `name`, `edges`, `limit`."
    )
    sort: Names = Field(
        [],
        description="Order of the relevant products: attributes or `score`, each with `:asc` or `:desc`; the first decides.",
        examples=[["price:asc"]],
    )
    boost: Names = Field(
        [],
        description="Numbers that lift a product, such as `popularity` or `popularity=0.2`; the weight is in units of the score.",
        examples=[["popularity=0.1"]],
    )
    group_by: str | None = Field(
        None, min_length=1, max_length=MAX_NAME_LENGTH, description="Show one product per value of this attribute."
    )
    dedup: StrictBool = Field(False, description="Show one of several products with nearly the same picture.")
    cursor: str | None = Field(
        None,
        min_length=1,
        max_length=MAX_CURSOR_LENGTH,
        description="`*` begins a list that is turned page by page; the `cursor` of an answer, with the same search, continues it.",
    )
    explain: StrictBool = Field(False, description="Say of every hit what each view gave to its score.")


class TextSearch(SearchOptions):
    """Search by words. `text` is another name for `query`."""

    model_config = example(
        {
            "query": "red running shoes",
            "k": 10,
            "where": "price < 50",
            "facets": ["brand", {"name": "price", "edges": [25, 50, 100]}],
            "sort": ["price:asc"],
            "group_by": "model",
            "dedup": True,
            "cursor": "*",
        }
    )
    query: str = Field(max_length=MAX_TEXT_LENGTH, description="What to look for.")

    @model_validator(mode="before")
    @classmethod
    def _accept_text(cls, value: object) -> object:
        if isinstance(value, dict) and "text" in value and "query" not in value:
            return {("query" if name == "text" else name): item for name, item in value.items()}
        return value


class ImageSearch(SearchOptions):
    """Search by a picture: exactly one of `image`, `image_url`."""

    model_config = example({"image": "data:image/jpeg;base64,/9j/4AAQSkZJRg==", "k": 10})
    image: str | None = Field(None, min_length=1, description="The picture as base64 or as a `data:` URI.")
    image_url: str | None = Field(None, min_length=1, description=IMAGE_URL)

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.image is None) == (self.image_url is None):
            raise ValueError("give exactly one of image, image_url")
        return self


class ImageSearchForm(SearchOptions):
    """The fields that may accompany an uploaded picture; lists are separated by commas."""

    model_config = ConfigDict(extra="forbid")


class SearchTerm(BaseModel):
    """One part of a search: exactly one of `text`, `image`, `image_url`, `id`, `vector`; a negative weight pushes away."""

    model_config = example({"text": "red", "weight": 0.7})
    text: str | None = Field(None, max_length=MAX_TEXT_LENGTH)
    image: str | None = Field(None, min_length=1, description="The picture as base64 or as a `data:` URI.")
    image_url: str | None = Field(None, min_length=1, description=IMAGE_URL)
    id: str | None = Field(None, max_length=MAX_ID_LENGTH, description="A document of the collection: more like this one.")
    vector: Annotated[list[Number], Field(min_length=DIMENSIONS, max_length=DIMENSIONS)] | None = None
    weight: Number = Field(1.0, ge=-100, le=100)

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        given = [name for name in ("text", "image", "image_url", "id", "vector") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of text, image, image_url, id, vector, not {' and '.join(given) or 'none'}")
        return self


class TermSearch(SearchOptions):
    """Search by weighted terms: "this dress, but red, not sleeveless"."""

    model_config = example(
        {"terms": [{"id": "SKU-1001"}, {"text": "red", "weight": 0.7}, {"text": "sleeveless", "weight": -0.5}], "k": 10}
    )
    terms: list[SearchTerm] = Field(min_length=1, max_length=MAX_TERMS)


class Recommendation(SearchOptions):
    """Ask for products like some and unlike others; none of those named is among the hits."""

    model_config = example({"like": ["SKU-1001", "SKU-1002"], "unlike": ["SKU-2001"], "k": 10, "where": "in_stock = true"})
    like: list[Annotated[str, Field(max_length=MAX_ID_LENGTH)]] = Field(
        min_length=1, max_length=MAX_TERMS, description="Documents of the collection to be like."
    )
    unlike: list[Annotated[str, Field(max_length=MAX_ID_LENGTH)]] = Field(
        [], max_length=MAX_TERMS, description="Documents of the collection to keep away from; they weigh half."
    )


class HitEvidence(BaseModel):
    """What one view says of a hit: its score, the rank by it among the candidates, its weight in this search."""

    score: float
    rank: int = Field(description="From 1, among the candidates.")
    weight: float
    words: list[str] = Field(description="The words of the query found in the product; of the lexical view only.")


class SearchHit(BaseModel):
    """One product found; `score` is its relevance, `image` the address of its picture."""

    id: str
    score: float
    title: str
    image: str | None
    attributes: dict[str, Attribute]
    variants: list[str] = Field(description="Ids of the products that `group_by` keeps behind this one, best first.")
    duplicates: list[str] = Field(description="Ids of the products that `dedup` keeps behind this one, best first.")
    explain: dict[str, HitEvidence] | None = Field(
        description="With `explain`: the evidence of each view (`image`, `title`, `lexical`) and of each `boost:NAME`."
    )


class FacetValue(BaseModel):
    """How many relevant products have one value."""

    value: Attribute
    count: int


class FacetRange(BaseModel):
    """How many relevant products have a number from `low` up to but not including `high`; null is open."""

    low: float | None
    high: float | None
    count: int


class FacetAnswer(BaseModel):
    """The counts of one attribute over the relevant products: either `values` or `ranges`."""

    name: str
    values: list[FacetValue] = Field(description="The most frequent first.")
    ranges: list[FacetRange] = Field(description="Ascending.")
    other: int = Field(description="Products with a value beyond the limit.")
    missing: int = Field(description="Products without the attribute.")
    low: float | None = Field(description="The lowest number.")
    high: float | None = Field(description="The highest number.")


class RelaxationAnswer(BaseModel):
    """What a query could do without."""

    model_config = example({"kind": "filter", "without": "price < 5", "matches": 12, "confidence": 0.87})
    kind: Literal["filter", "term"] = Field(description="A condition of the filter (or all of it), or one of several terms.")
    without: str = Field(description="The condition, or the words of the term.")
    matches: int = Field(description="Products that would then match.")
    confidence: float | None = Field(description="Confidence of the answer the broader query would get.")


class SearchResponse(BaseModel):
    """What was found, how sure the engine is of it, and how it came about."""

    model_config = example(
        {
            "hits": [
                HIT
                | {
                    "variants": ["SKU-1002"],
                    "duplicates": [],
                    "explain": {
                        "image": {"score": 0.2911, "rank": 2, "weight": 0.4, "words": []},
                        "title": {"score": 0.3271, "rank": 1, "weight": 0.6, "words": []},
                        "lexical": {"score": 0.66, "rank": 1, "weight": 0.1, "words": ["running", "shoes"]},
                    },
                }
            ],
            "confidence": 0.93,
            "decision": "answer",
            "broaden": [],
            "total": 12,
            "admitted": 54,
            "facets": [
                {
                    "name": "brand",
                    "values": [{"value": "Acme", "count": 7}, {"value": "Apex", "count": 4}],
                    "ranges": [],
                    "other": 0,
                    "missing": 1,
                    "low": None,
                    "high": None,
                }
            ],
            "cursor": "eyJrIjpbXX0",
            "timings_ms": {"encode": 3.1, "search": 0.4},
            "version": 54,
            "cache": "miss",
            "generation": None,
        }
    )
    hits: list[SearchHit]
    confidence: float | None = Field(description="Calibrated probability that a relevant product is among the hits.")
    decision: Literal["answer", "broaden", "generate", "abstain"] = Field(
        description="An answer; else: a broader query has one, or it is to be drawn, or it is nonsense or refused."
    )
    broaden: list[RelaxationAnswer] = Field(description="Ways to relax a query without an answer that has one, the best first.")
    total: int = Field(description="Relevant products, up to 1,000: those whose score comes near enough to the best.")
    admitted: int = Field(description="Products the filter admits, relevant or not.")
    facets: list[FacetAnswer] = Field(description="Counts over the relevant products, in the order asked for.")
    cursor: str | None = Field(description="Ask with it for the next page; null at the end, or when no pages were asked for.")
    timings_ms: dict[str, float]
    version: int = Field(description="Version of the collection the answer was read at.")
    cache: Literal["miss", "memory", "redis"] = Field(description="The cache tier that answered.")
    generation: Generation | None = Field(description="The drawing that was begun for what was not found; null when none was.")
