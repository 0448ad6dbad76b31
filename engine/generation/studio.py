"""One drawing from end to end: draw candidates, look at them as the search engine does, keep the best that may be shown.

Here belongs the choice among candidates and every check of them. What draws, embeds and judges is given; queues, caches and
searches are not here. `engine.generation.process` runs a studio beside a server.
"""

from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np

from engine.datatypes import Vector
from engine.drawings import GeneratedImage, GenerationRequest
from engine.errors import GenerationCancelled
from engine.generation.nudity import NudityFilter
from engine.generation.safety import MeaningCheck, refusal
from engine.protocols import Encoder, Generator


@dataclass(frozen=True, slots=True, eq=False)
class Drawing:
    """What a studio hands out: the best candidate with its `vector`, and how all candidates did, in the order drawn.

    `nudity_checked` says whether a nudity filter was there to look.
    """

    picture: GeneratedImage
    vector: Vector
    similarities: tuple[float, ...]
    nudity_checked: bool


@runtime_checkable
class Progress(Protocol):
    """Told of every candidate that may be shown; returns False to stop."""

    def __call__(self, candidate: GeneratedImage, done: int, total: int) -> bool:
        """Take note of candidate number `done` of `total`."""


class Studio:
    """Draws the best of several candidates. Not shared between threads; `engine.generation.process` queues them."""

    def __init__(
        self,
        generator: Generator,
        encoder: Encoder,
        meaning: MeaningCheck,
        nudity: NudityFilter | None = None,
        *,
        nudity_threshold: float = 0.5,
    ) -> None:
        self.generator = generator
        self._encoder = encoder
        self._meaning = meaning
        self._nudity = nudity
        self._threshold = nudity_threshold

    def draw(self, request: GenerationRequest, progress: Progress | None = None) -> Drawing:
        """Draw `request.count` candidates and keep the one nearest to the request.

        With `progress` they are drawn one by one, else in one batch, which is faster. Raises `GenerationRefused` when the request
        or every candidate breaks a rule, `GenerationCancelled` when `progress` says so.
        """
        self._meaning.check(np.vstack([request.vectors[np.array(request.weights) > 0], request.joint]), "what is asked for")
        looked_at = self._batch(request) if progress is None else self._one_by_one(request, progress)
        shown = [(picture, vector) for picture, vector in looked_at if self._harmless(picture)]
        if not shown:
            raise refusal("nudity", "every candidate drawn")
        best, vector = max(shown, key=lambda pair: pair[0].similarity or 0.0)
        self._meaning.check(vector[None], "the picture drawn")
        similarities = tuple(float(picture.similarity or 0.0) for picture, _ in looked_at)
        return Drawing(best, vector, similarities, self._nudity is not None)

    def _batch(self, request: GenerationRequest) -> list[tuple[GeneratedImage, Vector]]:
        return self._look(self.generator.generate(request), request)

    def _one_by_one(self, request: GenerationRequest, progress: Progress) -> list[tuple[GeneratedImage, Vector]]:
        looked_at: list[tuple[GeneratedImage, Vector]] = []
        for number in range(request.count):
            single = replace(request, seed=request.seed + number, count=1)
            looked_at += self._look(self.generator.generate(single), request)
            candidate = looked_at[-1][0]
            if self._harmless(candidate) and not progress(candidate, number + 1, request.count):
                raise GenerationCancelled("the drawing was cancelled")
        return looked_at

    def _look(self, pictures: list[GeneratedImage], request: GenerationRequest) -> list[tuple[GeneratedImage, Vector]]:
        vectors = self._encoder.encode_images([picture.image for picture in pictures])
        similarities = vectors @ request.joint
        return [
            (replace_similarity(picture, float(similarity)), vector)
            for picture, similarity, vector in zip(pictures, similarities, vectors, strict=True)
        ]

    def _harmless(self, picture: GeneratedImage) -> bool:
        return self._nudity is None or float(self._nudity.scores([picture.image])[0]) < self._threshold


def replace_similarity(picture: GeneratedImage, similarity: float) -> GeneratedImage:
    """Note the measured similarity on a drawing."""
    return GeneratedImage(picture.pixels, picture.seed, picture.model, picture.prompt_digest, similarity)
