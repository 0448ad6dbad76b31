"""Orders in, kept drawings and the real products nearest to them out: draw-and-search.

Here an order in words becomes a request in vectors, is checked against the blocked words, drawn once, kept, and searched with.
How a drawing is made is in `engine.generation.studio`; queues and budgets belong to whoever serves.
"""

import threading
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from engine.datatypes import DIMENSIONS, Image, Query, SearchResult, Term, Vectors
from engine.drawings import GenerationRequest
from engine.errors import InvalidQuery, SemblanceError
from engine.generation.album import Album, KeptDrawing, drawing_id
from engine.generation.prompts import parse_prompt, sentence, styled
from engine.generation.safety import concept_list
from engine.generation.studio import Drawing, Progress
from engine.search import SearchEngine


@runtime_checkable
class Draws(Protocol):
    """A studio, here or in a process of its own."""

    def draw(self, request: GenerationRequest, progress: Progress | None = None) -> Drawing:
        """Draw the best of several candidates."""


@dataclass(frozen=True, slots=True)
class Order:
    """What somebody wants drawn. `prompt` may hold emphasis (`engine.generation.prompts`).

    `vector` (float32, 1,024 bytes) stands for what was asked when that is not words; `size` and `candidates` None leave them to the
    settings. `photo` is a decoded picture to restyle.
    """

    prompt: str = ""
    style: str | None = None
    category: str | None = None
    size: int | None = None
    candidates: int | None = None
    seed: int = 0
    steps: int | None = None
    guidance: float | None = None
    strength: float = 0.6
    vector: bytes | None = None
    photo: Image | None = None


class DrawingDesk:
    """Takes orders for one engine. Thread-safe; `studio` stays the caller's to close.

    `size` is what the generator draws best, `generator` its identity.
    """

    def __init__(self, engine: SearchEngine, studio: Draws, *, size: int, generator: str) -> None:
        self._engine = engine
        self._studio = studio
        self._size, self._generator = size, generator
        self._turn = threading.Lock()
        self.album = Album(engine.settings.data, most=engine.settings.drawing_cache)

    def request(self, order: Order) -> GenerationRequest:
        """Turn an order into a request; raises `GenerationRefused` for blocked words, `InvalidQuery` or `InvalidInput`."""
        settings = self._engine.settings
        blocked = concept_list(settings.blocked_concepts)
        blocked.check(order.prompt)
        vectors, weights, words = self._meaning(order)
        blocked.check(words)  # again, without the brackets that may have stood in between
        return GenerationRequest(
            vectors,
            weights,
            words,
            size=order.size or self._size,
            steps=order.steps,
            guidance=order.guidance,
            seed=order.seed,
            count=order.candidates or settings.drawing_candidates,
            image=order.photo,
            strength=order.strength,
        )

    def _meaning(self, order: Order) -> tuple[Vectors, tuple[float, ...], str]:
        if order.vector is None and not order.prompt.strip():
            raise InvalidQuery("the prompt is empty: say what to draw")
        prompt = styled(parse_prompt(order.prompt), order.style) if order.prompt.strip() else None
        words = sentence(prompt, order.category) if prompt else ""
        if order.vector is not None:
            if len(order.vector) != 4 * DIMENSIONS:
                raise InvalidQuery(f"the vector has {len(order.vector)} bytes: give {DIMENSIONS} numbers of 4 bytes")
            return np.frombuffer(order.vector, "<f4").reshape(1, DIMENSIONS).copy(), (1.0,), words
        terms = prompt.terms if prompt else ()
        return self._engine.embed_texts([str(term.content) for term in terms]), tuple(term.weight for term in terms), words

    def id_of(self, request: GenerationRequest) -> str:
        """Name the drawing a request will give: equal requests have equal names."""
        return drawing_id(request, generator=self._generator, fingerprint=self._engine.encoder.fingerprint)

    def draw(self, request: GenerationRequest, progress: Progress | None = None) -> KeptDrawing:
        """Return the drawing, kept or new; raises what `Studio.draw` raises. Equal requests at one time are drawn once."""
        id = self.id_of(request)
        with self._turn:
            kept = self.album.find(id)
            if kept is None:
                kept = self.album.keep(id, self._studio.draw(request, progress), restyled=request.image is not None)
        return kept

    def closest(self, drawing: KeptDrawing, collection: str, *, k: int = 10, where: str | None = None) -> SearchResult:
        """Find the real products whose pictures are nearest to a drawing; raises what is wrong with the search."""
        answer = self._engine.search_many(collection, [Query((Term(drawing.vector),), k, where, "image")])[0]
        if isinstance(answer, SemblanceError):
            raise answer
        return answer
