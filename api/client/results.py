"""What the server answers, as frozen values. Members that a newer server adds are ignored, so that older clients go on working."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import httpx
from pydantic import TypeAdapter

Attribute: TypeAlias = bool | int | float | str | list[str]
Decision: TypeAlias = Literal["answer", "broaden", "generate", "abstain"]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one view says of a hit: its score, the rank by it among the candidates, its weight, the words it found."""

    score: float
    rank: int
    weight: float
    words: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Hit:
    """One product found; `score` is its relevance, `image` the address of its picture on the server (or a remote one)."""

    id: str
    score: float
    title: str
    image: str | None
    attributes: dict[str, Attribute]
    variants: list[str] = field(default_factory=list)
    duplicates: list[str] = field(default_factory=list)
    explain: dict[str, Evidence] | None = None


@dataclass(frozen=True, slots=True)
class FacetValue:
    """How many relevant products have one value."""

    value: Attribute
    count: int


@dataclass(frozen=True, slots=True)
class FacetRange:
    """How many relevant products have a number from `low` up to but not including `high`; None is open."""

    low: float | None
    high: float | None
    count: int


@dataclass(frozen=True, slots=True)
class Facet:
    """The counts of one attribute over the relevant products: either `values` or `ranges`."""

    name: str
    values: list[FacetValue]
    ranges: list[FacetRange]
    other: int = 0
    missing: int = 0
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Relaxation:
    """What a query without an answer could do without: a condition (`filter`) or one of its terms, and what would then be found."""

    kind: str
    without: str
    matches: int
    confidence: float | None = None


@dataclass(frozen=True, slots=True)
class Generation:
    """The drawing begun for what was not found: its `job`, or the `reason` (and safety `rule`) why there is none."""

    job: str | None
    reason: str | None = None
    rule: str | None = None


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What was found and how sure the server is that a relevant product is among it.

    `total` counts the relevant products (up to 1,000), `admitted` those the filter lets through. `cursor` asks for the next page,
    `broaden` lists what to relax when nothing fits.
    """

    hits: list[Hit]
    confidence: float | None
    decision: Decision
    total: int
    admitted: int
    version: int
    timings_ms: dict[str, float]
    facets: list[Facet] = field(default_factory=list)
    cursor: str | None = None
    cache: str = "miss"
    broaden: list[Relaxation] = field(default_factory=list)
    generation: Generation | None = None


@dataclass(frozen=True, slots=True)
class VoiceResult(SearchResult):
    """What was found for a recording: the words heard in it, and their language."""

    transcript: str = ""
    language: str = ""


@dataclass(frozen=True, slots=True)
class Document:
    """A stored product; `images` says how many pictures it has, `image` is the address of the first."""

    id: str
    title: str
    description: str
    image: str | None
    images: int
    attributes: dict[str, Attribute]


@dataclass(frozen=True, slots=True)
class Collection:
    """A collection: how many products, embedded by which encoder, at which version."""

    name: str
    documents: int
    encoder: str
    fingerprint: str
    version: int


@dataclass(frozen=True, slots=True)
class ItemStatus:
    """What became of one document of a bulk write; `error` says why it was refused."""

    index: int
    id: str | None
    status: Literal["created", "updated", "unchanged", "refused"]
    error: str | None = None


@dataclass(frozen=True, slots=True)
class BulkResult:
    """One status per document, in their order, and how many there are of each."""

    items: list[ItemStatus]
    created: int
    updated: int
    unchanged: int
    refused: int


@dataclass(frozen=True, slots=True)
class CollectionList:
    """The collections that can be searched, and why any other cannot."""

    collections: list[Collection]
    unusable: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot that the server keeps."""

    collection: str
    snapshot: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Alias:
    """What an alias means, and what it meant before the last reindexing."""

    alias: str
    collection: str
    previous: str | None = None


@dataclass(frozen=True, slots=True)
class Model:
    """An encoder that the server embeds with."""

    id: str
    dimensions: int
    fingerprint: str


search_result = TypeAdapter(SearchResult).validate_python
voice_result = TypeAdapter(VoiceResult).validate_python
document = TypeAdapter(Document).validate_python
collection = TypeAdapter(Collection).validate_python
collection_list = TypeAdapter(CollectionList).validate_python
bulk_result = TypeAdapter(BulkResult).validate_python
snapshot = TypeAdapter(Snapshot).validate_python
alias = TypeAdapter(Alias).validate_python
_snapshots = TypeAdapter(list[Snapshot]).validate_python
_aliases = TypeAdapter(list[Alias]).validate_python
_models = TypeAdapter(list[Model]).validate_python


@dataclass(frozen=True, slots=True)
class _Embedding:
    index: int
    embedding: list[float]


_embeddings = TypeAdapter(list[_Embedding]).validate_python


def collections(body: object) -> list[Collection]:
    """Read the collections that can be searched."""
    return collection_list(body).collections


def vectors(body: Any) -> list[list[float]]:  # noqa: ANN401  JSON, checked below
    """Read embeddings: one unit vector of 256 numbers per input, in their order."""
    return [item.embedding for item in sorted(_embeddings(body["data"]), key=lambda item: item.index)]


def models(body: Any) -> list[Model]:  # noqa: ANN401  JSON, checked below
    """Read the encoders."""
    return _models(body["data"])


def snapshots(body: Any) -> list[Snapshot]:  # noqa: ANN401  JSON, checked below
    """Read a list of snapshots."""
    return _snapshots(body["snapshots"])


def aliases(body: Any) -> list[Alias]:  # noqa: ANN401  JSON, checked below
    """Read a list of aliases."""
    return _aliases(body["aliases"])


def deleted(body: Any) -> int:  # noqa: ANN401  JSON, checked here
    """Read how many products were removed."""
    return int(body["deleted"])


def path(body: object) -> Path:
    """Give the file that an answer was written to."""
    if not isinstance(body, Path):
        raise TypeError(f"{type(body).__name__} is no file")
    return body


def readiness(body: object) -> bool:
    """Read whether the server is ready."""
    return isinstance(body, dict) and body.get("status") == "ready"


def picture(body: object) -> bytes:
    """Read the bytes of a picture."""
    return body if isinstance(body, bytes) else b""


def nothing(body: object) -> None:
    """Read an answer without content."""


def content(response: httpx.Response) -> object:
    """Give what an answer holds: parsed JSON, or bytes of anything else."""
    kind = response.headers.get("content-type", "").partition(";")[0]
    return response.json() if kind == "application/json" else response.content
