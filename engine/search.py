"""The engine a program holds: collections, indexing, and the whole story of a query.

`SearchEngine.search_many` reads top to bottom: cache, encode, search, hydrate, judge. How each step is done lives in the module
named after it; which implementations are used is chosen in `engine.build`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TypeAlias, Unpack

from engine import media
from engine.advice import NO_ADVICE, Advice, Adviser
from engine.answers import Read, assured, described, frozen, hits_of, read_ahead, turned
from engine.cache import TieredCache
from engine.collection import Collection
from engine.confidence import Calibration
from engine.config import Settings
from engine.datatypes import Document, Image, ImageSource, Query, SearchResult, Term, Vectors
from engine.encoders.images import decode, read_bytes
from engine.errors import InvalidImage, InvalidQuery, SemblanceError
from engine.generation.prompts import terms_of
from engine.generation.safety import concept_list
from engine.ingest import DocumentStatus, Writer
from engine.judge import Judge
from engine.library import Library
from engine.listing import ListOptions, parsed
from engine.metrics import StageTimer
from engine.paging import START
from engine.paging import read as read_cursor
from engine.protocols import Encoder
from engine.queries import EncodedQuery, QueryEncoder, recommendation
from engine.querylog import QueryLog
from engine.resultkeys import list_key, result_key
from engine.results import UNREADABLE, pack, unpack
from engine.retrieval import Retrieved, retrieve

INDEX_BATCH = 64

Answer: TypeAlias = SearchResult | SemblanceError


class SearchEngine:
    """Text and pictures in, products out. Thread-safe; close it, or use it as a context manager."""

    def __init__(self, settings: Settings, encoder: Encoder, cache: TieredCache, calibration: Calibration | None = None) -> None:
        self.settings = settings
        self.encoder = encoder
        self.library = Library(settings, encoder)
        self._cache = cache
        self.judge = Judge(calibration)
        self._queries = QueryEncoder(encoder, cache)
        self._adviser = Adviser(self.judge, self._queries, concept_list(settings.blocked_concepts))
        self._log = QueryLog(enabled=settings.log_queries)
        self._thumbnails = media.Thumbnails(settings)

    def __enter__(self) -> "SearchEngine":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close every collection and the cache; the engine cannot be used afterwards."""
        self.library.close()
        self._cache.close()

    @property
    def cache(self) -> TieredCache:
        """The cache, whose tiers count their hits, misses and errors."""
        return self._cache

    # Collections

    def collections(self) -> list[str]:
        """List the collections' names, sorted."""
        return self.library.names()

    def collection(self, name: str) -> Collection:
        """Open a collection; raises `CollectionNotFound` or `EncoderMismatch`."""
        return self.library.get(name)

    def create(self, name: str) -> Collection:
        """Make an empty collection; raises `CollectionExists`."""
        return self.library.create(name)

    def ensure(self, name: str) -> Collection:
        """Open a collection, making it first if need be."""
        return self.library.ensure(name)

    def drop(self, name: str) -> None:
        """Remove a collection with everything in it; raises `CollectionNotFound`."""
        self.library.drop(name)

    # Documents

    def index(
        self,
        name: str,
        documents: Iterable[Document],
        *,
        base: Path | None = None,
        uploads: Mapping[str, bytes] | None = None,
    ) -> list[DocumentStatus]:
        """Add or replace documents, one status each in input order; a bad one is refused and the rest go in.

        Entries of `Document.images` name bytes in `uploads` if there, else files, relative to `base`. Unchanged documents cost
        no encoding. Every returned status is durable.
        """
        writer = Writer(self.ensure(name), self.encoder, self.settings, base or Path.cwd(), uploads or {})
        return [status for batch in _batches(documents, INDEX_BATCH) for status in writer.write(batch)]

    def picture(self, name: str, id: str, *, side: int = 400) -> bytes:
        """Return a document's first picture as WebP, no side longer than `side` pixels.

        Raises `DocumentNotFound`, or `InvalidImage` when it has none or it can no longer be read.
        """
        return self._thumbnails.get(*self._first_picture(name, id), side)

    def picture_content(self, name: str, id: str) -> bytes:
        """Return the digest of a document's first picture, which changes when the picture does; raises as `picture`."""
        return self._first_picture(name, id)[1]

    def _first_picture(self, name: str, id: str) -> tuple[str, bytes]:
        for embedding in self.collection(name).embeddings_of(id):
            if embedding.location:
                return embedding.location, embedding.content
        raise InvalidImage(f"document {id!r} has no picture", reason="missing")

    # Embeddings

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        """Embed texts: float32 [n, 256], unit rows in input order, cached."""
        return self._queries.encode_texts(texts)

    def embed_images(self, images: Sequence[Image]) -> Vectors:
        """Embed decoded pictures: float32 [n, 256], unit rows in input order, cached."""
        return self._queries.encode_images(images)

    def open_image(self, source: ImageSource) -> Image:
        """Decode a picture given as path, bytes or already decoded; raises `InvalidImage`."""
        if isinstance(source, Image):
            return source
        data = source if isinstance(source, bytes) else read_bytes(source, self.settings.max_image_bytes)
        return decode(data, size=self.encoder.image_size, max_pixels=self.settings.max_pixels)

    def encode(self, queries: Sequence[Query], name: str) -> list[EncodedQuery | SemblanceError]:
        """Embed queries against a collection, as a search would; a bad one is an error in its place."""
        return self._queries.encode(queries, self.collection(name))

    # Search

    def search(
        self,
        name: str,
        text: str | None = None,
        *,
        image: ImageSource | None = None,
        k: int = 10,
        where: str | None = None,
        **options: Unpack[ListOptions],
    ) -> SearchResult:
        """Find the `k` products of collection `name` nearest to words, a picture, or both; raises what is wrong with it.

        `options` are the other fields of `Query`: `facets=["brand"]`, `sort=["price:asc"]`, `group_by="model"`, `cursor="*"`...
        """
        if text is None and image is None:
            raise InvalidQuery("nothing to look for: give words, an image, or both")
        terms = [] if text is None else [*terms_of(text)]
        terms += [] if image is None else [Term(self.open_image(image))]
        return self._ask(name, Query(tuple(terms), k=k, where=where, **parsed(options)))

    def recommend(
        self,
        name: str,
        like: Sequence[str],
        unlike: Sequence[str] = (),
        *,
        k: int = 10,
        where: str | None = None,
        **options: Unpack[ListOptions],
    ) -> SearchResult:
        """Find the `k` products like some of the collection and unlike others, all given by id; none of them is among the hits."""
        return self._ask(name, Query(recommendation(like, unlike), k=k, where=where, **parsed(options)))

    def _ask(self, name: str, query: Query) -> SearchResult:
        answer = self.search_many(name, [query])[0]
        if isinstance(answer, SemblanceError):
            raise answer
        return answer

    def recall(self, name: str, query: Query) -> bytes | None:
        """Give the answer that this process remembers, as `engine.results.unpack` reads it; None where it has to be searched for.

        Quick enough for an event loop: no collection is opened, no network reached, no picture digested, nothing made.
        """
        if self._log.enabled or any(isinstance(term.content, Image) for term in query.terms):
            return None
        try:
            collection = self.library.held(name)
            if collection is None:
                return None
            return self._cache.recall(result_key(self.encoder.fingerprint, collection, collection.version, query))
        except SemblanceError:  # it was dropped this moment, or the disk fails: who searches is told
            return None

    def search_many(self, name: str, queries: Sequence[Query]) -> list[Answer]:
        """Answer a batch of queries against one collection, in input order; a bad query fails alone, as a value."""
        timer = StageTimer()
        collection = self.collection(name)
        version = collection.version
        with timer.stage("cache"):
            keys = [result_key(self.encoder.fingerprint, collection, version, query) for query in queries]
            answers: dict[int, Answer] = self._cached_results(keys) | self._turned_pages(collection, queries)
        open_queries = [number for number in range(len(queries)) if number not in answers]
        with timer.stage("encode"):
            encoded = self._queries.encode([queries[number] for number in open_queries], collection)
        with timer.stage("search"):
            asked = {n: (queries[n], e) for n, e in zip(open_queries, encoded, strict=True)}
            found = retrieve(collection, asked)
        with timer.stage("judge"):
            looked = {n: result.judged for n, result in found.items() if not isinstance(result, SemblanceError)}
            good = {n: (q, e) for n, (q, e) in asked.items() if n in looked and isinstance(e, EncodedQuery)}
            advice = self._adviser.advise(collection, good, looked)
        with timer.stage("hydrate"):
            lists = [(r.entries, queries[n].k) for n, r in found.items() if not isinstance(r, SemblanceError)]
            read = read_ahead(collection, lists)
            fresh = {
                n: r if isinstance(r, SemblanceError) else self._conclude(collection, read, queries[n], r, advice.get(n, NO_ADVICE))
                for n, r in found.items()
            }
        packed = {keys[n]: pack(answer) for n, answer in fresh.items() if isinstance(answer, SearchResult)}
        self._cache.set_many(packed, cost_s=timer.seconds / max(1, len(packed)))
        answers |= fresh
        for number, query in enumerate(queries):
            answer = answers[number]
            if isinstance(answer, SearchResult):
                self._log.write(collection.path, query, answer)
        return [_timed(answers[number], timer) for number in range(len(queries))]

    def _cached_results(self, keys: Sequence[bytes]) -> dict[int, Answer]:
        results: dict[int, Answer] = {}
        for number, (data, tier) in enumerate(self._cache.get_many_with_tier(keys)):
            if data is not None and tier != "miss":
                with suppress(*UNREADABLE):  # a miss: what is found now takes its place
                    results[number] = unpack(data, tier)
        return results

    def _turned_pages(self, collection: Collection, queries: Sequence[Query]) -> dict[int, Answer]:
        """Answer the queries that continue a list; nothing is searched for them."""
        pages: dict[int, Answer] = {}
        for number, query in enumerate(queries):
            if query.cursor not in (None, START):
                try:
                    left = read_cursor(query.cursor or "", list_key(self.encoder.fingerprint, collection, query).hex())
                    pages[number] = turned(collection, query, left)
                except SemblanceError as error:
                    pages[number] = error
        return pages

    def _conclude(self, collection: Collection, read: Read, query: Query, found: Retrieved, advice: Advice) -> SearchResult:
        hits, taken = hits_of(read, found.entries, query.k)
        hits = described(hits, found)
        confidence, decision = assured(advice.confidence, advice.decision, found.lift)
        broaden = () if decision == "answer" else advice.broaden
        result = SearchResult(
            hits,
            confidence,
            decision,
            found.total,
            {},
            found.version,
            admitted=found.admitted,
            facets=found.facets,
            broaden=broaden,
        )
        return replace(
            result, cursor=frozen(list_key(self.encoder.fingerprint, collection, query).hex(), query, found, result, taken)
        )


def _timed(answer: Answer, timer: StageTimer) -> Answer:
    return replace(answer, timings_ms=timer.as_dict()) if isinstance(answer, SearchResult) else answer


def _batches(documents: Iterable[Document], size: int) -> Iterator[list[Document]]:
    """Cut into batches of distinct ids: whether a document is unchanged depends on what an earlier one of its id committed."""
    batch: dict[str, Document] = {}
    for document in documents:
        if len(batch) == size or document.id in batch:
            yield list(batch.values())
            batch = {}
        batch[document.id] = document
    if batch:
        yield list(batch.values())
