"""Queries -> one vector each: the terms' vectors, cached or encoded, summed by weight.

Every text and picture of a whole batch is looked up together and the misses encoded in one call per modality.
"""

import hashlib
import time
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar, cast

import numpy as np

from engine.cache import TieredCache, cache_key
from engine.collection import Collection
from engine.datatypes import DIMENSIONS, DocumentRef, Image, Query, Term, Vector, Vectors
from engine.encoders.images import squash
from engine.errors import InvalidQuery, SemblanceError
from engine.protocols import Encoder
from engine.ranking import Kind, view_weights
from engine.sharedflight import SharedFlight
from engine.singleflight import SingleFlight

UNLIKE = 0.5  # what is disliked steers, what is liked decides

Content = TypeVar("Content")
_Encoded: TypeAlias = tuple[Iterator[Vector], Iterator[Vector]]


@dataclass(frozen=True, slots=True)
class EncodedQuery:
    """A query as the index sees it; `exclude` are the ids it was made from, which are not among its own answers.

    `weights` are the shares of (image, title) as long as nothing is known of its words. `texts` are what it wants in words, with
    the share `worded` of its weight; the terms' kinds and weights are there to weigh it anew.
    """

    vector: Vector
    weights: tuple[float, float]
    exclude: frozenset[str]
    texts: tuple[str, ...] = ()
    worded: float = 0.0
    kinds: tuple[Kind, ...] = ()
    term_weights: tuple[float, ...] = ()


def normalise(text: str) -> str:
    """Compose (NFC) and collapse white space, so that one query typed in two ways is one cache entry."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def recommendation(like: Sequence[str], unlike: Sequence[str] = ()) -> tuple[Term, ...]:
    """Make the terms that ask for documents like some and unlike others, given by id; what is disliked weighs half.

    Each side is a mean, so that many examples weigh as one.
    """
    if not like:
        raise InvalidQuery("there is nothing to be like: give at least one document by its id")
    wanted = [Term(DocumentRef(id), 1.0 / len(like)) for id in like]
    return (*wanted, *(Term(DocumentRef(id), -UNLIKE / len(unlike)) for id in unlike))


def identity(term: Term) -> tuple[str | bytes, ...]:
    """Say what a term is in fields fit for a cache key: never by how it prints."""
    content = term.content
    if isinstance(content, str):
        return ("text", normalise(content))
    if isinstance(content, DocumentRef):
        return ("document", content.id)
    if isinstance(content, np.ndarray):
        return ("vector", np.ascontiguousarray(content, np.float32).tobytes())
    return ("image", f"{content.mode}{content.size}", hashlib.blake2b(content.tobytes(), digest_size=16).digest())


class QueryEncoder:
    """Turns queries into vectors with an encoder and a cache of vectors; thread-safe as they are."""

    def __init__(self, encoder: Encoder, cache: TieredCache) -> None:
        self._encoder = encoder
        self._cache = cache
        self._flights: SingleFlight[bytes] = SingleFlight()
        self._shared = SharedFlight(cache)

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        """Embed texts through the cache: unit rows in input order."""
        return self._through_cache([normalise(text) for text in texts], self._text_key, self._encoder.encode_texts)

    def encode_images(self, images: Sequence[Image]) -> Vectors:
        """Embed pictures through the cache: unit rows in input order."""
        squashed = [squash(image, self._encoder.image_size) for image in images]
        return self._through_cache(squashed, self._image_key, self._encoder.encode_images)

    def encode(self, queries: Sequence[Query], collection: Collection) -> list[EncodedQuery | SemblanceError]:
        """Embed a batch of queries; one that names an unknown document fails alone."""
        texts = [term.content for query in queries for term in query.terms if isinstance(term.content, str)]
        images = [term.content for query in queries for term in query.terms if isinstance(term.content, Image)]
        vectors = iter(self.encode_texts(texts)), iter(self.encode_images(images))
        resolved = [[self._resolve(term, vectors, collection) for term in query.terms] for query in queries]
        return [_combine(query, parts) for query, parts in zip(queries, resolved, strict=True)]

    def _resolve(self, term: Term, vectors: _Encoded, collection: Collection) -> tuple[Vector, Kind] | SemblanceError:
        texts, images = vectors
        if isinstance(term.content, str):
            return next(texts), "words"
        if isinstance(term.content, Image):
            return next(images), "picture"
        if isinstance(term.content, np.ndarray):
            return _unit(term.content), "words"
        try:
            return _vector_of(term.content, collection)
        except SemblanceError as error:
            return error

    def _text_key(self, text: str) -> bytes:
        return cache_key("vector", self._encoder.fingerprint, "text", text)

    def _image_key(self, image: Image) -> bytes:
        return cache_key("vector", self._encoder.fingerprint, *identity(Term(image)))

    def _through_cache(
        self, contents: Sequence[Content], key: Callable[[Content], bytes], encode: Callable[[Sequence[Content]], Vectors]
    ) -> Vectors:
        keys, looked = [key(content) for content in contents], time.time()
        found = {key: _vector_or_none(value) for key, value in zip(keys, self._cache.get_many(keys), strict=True)}
        missing = {key: content for key, content in zip(keys, contents, strict=True) if found[key] is None}

        if missing:

            def encode_mine(mine: list[bytes]) -> list[bytes]:
                vectors = encode([missing[key] for key in mine])
                return [np.asarray(vector, np.float32).tobytes() for vector in vectors]

            values = self._flights.run_many(list(missing), lambda mine: self._shared.run_many(mine, encode_mine, since=looked))
            found |= zip(missing, values, strict=True)
            useless = [key for key in missing if _vector_or_none(found[key]) is None]  # somebody else's, made this moment
            found |= zip(useless, encode_mine(useless) if useless else (), strict=True)
        rows = [np.frombuffer(cast(bytes, found[key]), np.float32) for key in keys]
        return np.stack(rows) if rows else np.zeros((0, DIMENSIONS), np.float32)


def _vector_of(reference: DocumentRef, collection: Collection) -> tuple[Vector, Kind]:
    """Take the mean of a document's pictures, or its title when it has none."""
    embeddings = collection.embeddings_of(reference.id)
    pictures = [e.vector for e in embeddings if e.view == "image" and e.vector is not None]
    if not pictures:
        return next(e.vector for e in embeddings if e.vector is not None), "words"
    mean = np.mean(pictures, axis=0)
    return mean / np.linalg.norm(mean), "picture"


def _vector_or_none(value: bytes | None) -> bytes | None:
    """Let pass what is a vector: a shared cache may hold something else."""
    usable = value is not None and len(value) == 4 * DIMENSIONS and np.isfinite(np.frombuffer(value, np.float32)).all()
    return value if usable else None


def _unit(vector: Vector) -> Vector:
    """Divide a caller's vector by its length, however long or short: squares of its numbers may not fit into their type."""
    scaled = np.asarray(vector, np.float64) / np.abs(vector).max()
    unit: Vector = (scaled / np.linalg.norm(scaled)).astype(np.float32)
    return unit


def _combine(query: Query, parts: Sequence[tuple[Vector, Kind] | SemblanceError]) -> EncodedQuery | SemblanceError:
    good = [part for part in parts if not isinstance(part, SemblanceError)]
    if len(good) < len(parts):
        return next(part for part in parts if isinstance(part, SemblanceError))
    weights = [term.weight for term in query.terms]
    relative = np.asarray(weights) / max(map(abs, weights))  # a weight may be smaller than a float32 can be
    vector = relative.astype(np.float32) @ np.stack([vector for vector, _ in good])
    norm = float(np.linalg.norm(vector))
    if norm < 1e-6:
        return InvalidQuery("the terms cancel each other out: change a weight")
    exclude = frozenset(term.content.id for term in query.terms if isinstance(term.content, DocumentRef))
    kinds = [kind for _, kind in good]
    wanted = [(term.content, term.weight) for term in query.terms if isinstance(term.content, str) and term.weight > 0]
    worded = sum(weight for _, weight in wanted) / sum(map(abs, weights))
    texts, shares = tuple(text for text, _ in wanted), view_weights(kinds, weights, query.target)
    return EncodedQuery(vector / norm, shares, exclude, texts, worded, tuple(kinds), tuple(weights))
