"""The nouns of the engine: values that every layer passes on and nobody changes.

Here belong frozen, slotted dataclasses and type aliases without behaviour beyond checking themselves.
What does work (encoding, storing, searching) does not.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Float32, Int64
from PIL import Image as PillowImage

from engine.errors import InvalidDocument, InvalidQuery
from engine.listing import MAX_FACETS, Boost, Facet, FacetResult, Sort

DIMENSIONS = 256
MAX_ID_LENGTH = 512
MAX_TEXT_LENGTH = 10_000
MAX_ATTRIBUTES = 1_000
MAX_ITEMS = 1_000
MAX_K = 1_000
MAX_TERMS = 64
MAX_ORDERS = 8

Image: TypeAlias = PillowImage.Image
ImageSource: TypeAlias = str | Path | bytes | Image
Vector: TypeAlias = Float32[np.ndarray, "256"]
Vectors: TypeAlias = Float32[np.ndarray, "n 256"]
View: TypeAlias = Literal["image", "title"]
VIEWS: tuple[View, ...] = ("image", "title")
Decision: TypeAlias = Literal["answer", "broaden", "generate", "abstain"]
AttributeValue: TypeAlias = str | int | float | bool | tuple[str, ...]
Attributes: TypeAlias = Mapping[str, AttributeValue]


@dataclass(frozen=True, slots=True)
class Document:
    """One product: what a shop sells, as its feed describes it.

    `images` are local paths or URLs, the first is the one shown. Raises `InvalidDocument` when the id or an attribute
    cannot be stored; whether the images can be read is found out when they are.
    """

    id: str
    title: str = ""
    description: str = ""
    images: tuple[str, ...] = ()
    attributes: Attributes = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_text("id", self.id, MAX_ID_LENGTH)
        if not self.id.strip():
            raise InvalidDocument("the document id is empty: give every document an id that does not change")
        _check_text("title", self.title, MAX_TEXT_LENGTH)
        _check_text("description", self.description, 10 * MAX_TEXT_LENGTH)
        if len(self.attributes) > MAX_ATTRIBUTES:
            raise InvalidDocument(f"the document has {len(self.attributes):,} attributes: at most {MAX_ATTRIBUTES:,} are stored")
        for name, value in self.attributes.items():
            _check_attribute(name, value)
        object.__setattr__(self, "attributes", MappingProxyType(dict(self.attributes)))


def _check_text(name: str, value: str, limit: int) -> None:
    if not isinstance(value, str):
        raise InvalidDocument(f"{name} must be text, not {type(value).__name__}")
    if len(value) > limit:
        raise InvalidDocument(f"{name} has {len(value)} characters: at most {limit} are stored")
    if not _storable(value):
        raise InvalidDocument(f"{name} contains a NUL or half a surrogate pair: remove it")


def _storable(value: str) -> bool:
    if value.isascii():  # nearly every text, told without looking at its characters in Python
        return "\x00" not in value
    try:
        return b"\x00" not in value.encode()
    except UnicodeEncodeError:
        return False


def _check_attribute(name: str, value: AttributeValue) -> None:
    if not isinstance(name, str) or not name.strip() or len(name) > MAX_ID_LENGTH:
        raise InvalidDocument(f"attribute name {name!r} must be text of 1 to {MAX_ID_LENGTH} characters")
    _check_text("attribute name", name, MAX_ID_LENGTH)
    if isinstance(value, tuple):
        if len(value) > MAX_ITEMS:
            raise InvalidDocument(f"attribute {name!r} lists {len(value):,} texts: at most {MAX_ITEMS:,} are stored")
        for item in value:
            _check_text(f"attribute {name!r}", item, MAX_TEXT_LENGTH)
    elif isinstance(value, str):
        _check_text(f"attribute {name!r}", value, MAX_TEXT_LENGTH)
    elif not isinstance(value, bool | int | float):
        raise InvalidDocument(f"attribute {name!r} is a {type(value).__name__}: use text, a number, a boolean or a list of texts")
    elif not math.isfinite(value) or abs(value) >= 2**63:
        raise InvalidDocument(f"attribute {name!r} is {value}: numbers must be finite and below 2^63")


@dataclass(frozen=True, slots=True)
class DocumentRef:
    """Stands for the vector of a stored document inside a query: "more like this one"."""

    id: str


@dataclass(frozen=True, slots=True)
class Term:
    """One part of what is asked for, with its weight; a negative weight pushes away."""

    content: str | Image | DocumentRef | Vector
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.weight) or not 0 < abs(self.weight) <= 100:
            raise InvalidQuery(f"a term's weight is {self.weight}: use a number other than 0 between -100 and 100")
        if isinstance(self.content, str):
            self._check_words(self.content)
        if isinstance(self.content, np.ndarray):
            self._check_vector(self.content)

    @staticmethod
    def _check_words(words: str) -> None:
        if not words.strip():
            raise InvalidQuery("the query text is empty: type at least one word or give an image")
        if len(words) > MAX_TEXT_LENGTH:
            raise InvalidQuery(f"the query text has {len(words)} characters: at most {MAX_TEXT_LENGTH} are read")
        if not _storable(words):
            raise InvalidQuery("the query text contains a NUL or half a surrogate pair: remove it")

    @staticmethod
    def _check_vector(vector: Vector) -> None:
        if vector.shape != (DIMENSIONS,):
            raise InvalidQuery(f"a query vector has shape {vector.shape}: it must be ({DIMENSIONS},)")
        if not np.isfinite(vector).all() or not np.any(vector):
            raise InvalidQuery("a query vector must be finite and must not be all zeros")


@dataclass(frozen=True, slots=True)
class Query:
    """What a caller asks of a collection.

    `where` is a filter expression (see `engine.filters`), `target` restricts the search to one view. `facets`, `sort` and
    `boosts` are over the relevant documents (see `engine.relevance`). `group_by` shows one document per value of an attribute,
    `dedup` one of several with nearly the same picture. `cursor` "*" begins a list that is turned page by page, what an answer
    gave continues it. `explain` adds to every hit how its score came about.
    """

    terms: tuple[Term, ...]
    k: int = 10
    where: str | None = None
    target: Literal["any", "image", "title"] = "any"
    facets: tuple[Facet, ...] = ()
    sort: tuple[Sort, ...] = ()
    boosts: tuple[Boost, ...] = ()
    group_by: str | None = None
    dedup: bool = False
    cursor: str | None = None
    explain: bool = False

    def __post_init__(self) -> None:
        if not 1 <= len(self.terms) <= MAX_TERMS:
            raise InvalidQuery(f"a query has {len(self.terms)} terms: give 1 to {MAX_TERMS}")
        if all(term.weight < 0 for term in self.terms):
            raise InvalidQuery("every term has a negative weight: give at least one thing to look for")
        if isinstance(self.k, bool) or not isinstance(self.k, int) or not 1 <= self.k <= MAX_K:
            raise InvalidQuery(f"k is {self.k}: ask for 1 to {MAX_K} hits")
        if len(self.facets) > MAX_FACETS or len({facet.name for facet in self.facets}) < len(self.facets):
            raise InvalidQuery(f"a query has {len(self.facets)} facets: give up to {MAX_FACETS}, each attribute once")
        if max(len(self.sort), len(self.boosts)) > MAX_ORDERS:
            raise InvalidQuery(f"a query has {len(self.sort)} sorts and {len(self.boosts)} boosts: give up to {MAX_ORDERS} of each")


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one view says of a hit: its score, the rank among the candidates by it (from 1), and its weight in this query.

    The "lexical" view also names the words of the query that the document contains.
    """

    score: float
    rank: int
    weight: float
    words: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Hit:
    """One product found. `score` is its relevance (see `engine.ranking`), `views` what each view it was found by gave.

    `variants` are the ids that `group_by` keeps behind it and `duplicates` those that `dedup` does, best first. `explain` holds
    the evidence by view ("image", "title", "lexical") and by "boost:NAME"; None unless asked for.
    """

    id: str
    score: float
    title: str
    image: str | None
    attributes: Attributes
    views: Mapping[str, float] = field(default_factory=dict)
    variants: tuple[str, ...] = ()
    duplicates: tuple[str, ...] = ()
    explain: Mapping[str, Evidence] | None = None


@dataclass(frozen=True, slots=True)
class Relaxation:
    """What a query could do without: `without` is a condition of its filter, the whole filter, or the words of one term.

    `matches` counts what would then be found: the documents the rest of the filter admits, or, without a term, those among the 50
    best that score above what background queries find. `confidence` is that of the answer it would get.
    """

    kind: Literal["filter", "term"]
    without: str
    matches: int
    confidence: float | None = None


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The answer to one query.

    `confidence` is the calibrated probability that a relevant product is among the hits, None for encoders without a
    calibration. `total` counts the relevant documents, up to `engine.relevance.DEPTH`, `admitted` those the filter admits.
    `version` is the collection's change-log position the answer was read at, `cache` the tier that answered ("miss" when none
    did), `cursor` what to ask with for the next page, None at the end of the list or when no pages were asked for. `broaden` are
    the ways to relax a query that found no answer, the best first.
    """

    hits: tuple[Hit, ...]
    confidence: float | None
    decision: Decision
    total: int
    timings_ms: Mapping[str, float]
    version: int
    cache: Literal["miss", "memory", "redis"] = "miss"
    admitted: int = 0
    facets: tuple[FacetResult, ...] = ()
    cursor: str | None = None
    broaden: tuple[Relaxation, ...] = ()


@dataclass(frozen=True, slots=True)
class Transcript:
    """What was said, and in which language (a code such as `en`)."""

    text: str
    language: str


@dataclass(frozen=True, slots=True)
class Matches:
    """What an index answers: struct of arrays, batch first, best first; -1 and -inf where there is nothing."""

    keys: Int64[np.ndarray, "q k"]
    scores: Float32[np.ndarray, "q k"]


@dataclass(frozen=True, slots=True)
class Embedding:
    """One vector of a document under one view.

    `content` (16 bytes) is the digest of what was embedded: the same picture under two ids shares one stored vector.
    `vector` is None when the collection already holds a vector for that content. `location` says where the picture is
    kept (an absolute path or a URL); None for texts.
    """

    view: View
    content: bytes
    vector: Vector | None
    location: str | None = None


@dataclass(frozen=True, slots=True)
class EncodedDocument:
    """A document with its embeddings, ready to be committed. `digest` changes when anything about it does."""

    document: Document
    digest: bytes
    embeddings: tuple[Embedding, ...]
