"""The studio: which candidate is kept, what is never shown, and the same in a process of its own."""

import os
import pickle
import threading
import time

import numpy as np
import pytest

from engine.drawings import GeneratedImage, GenerationRequest
from engine.errors import GenerationCancelled, GenerationRefused, Unavailable
from engine.generation.process import LOWEST_PRIORITY, StudioProcess
from engine.generation.safety import ConceptList, MeaningCheck
from engine.generation.studio import Studio
from engine.protocols import Generator
from engine.testing import COLOURS, FakeEncoder, FakeGenerator, toy_studio


class Painter:
    """Draws the colours it was given, one per seed."""

    name, size = "painter", 64

    def __init__(self, *colours: str) -> None:
        self.colours = colours

    def generate(self, request: GenerationRequest) -> list[GeneratedImage]:
        seeds = range(request.seed, request.seed + request.count)
        return [GeneratedImage(np.full((64, 64, 3), COLOURS[self.colours[seed]], np.uint8), seed, self.name, "d") for seed in seeds]


class Prude:
    """Finds everything of one colour explicit."""

    def __init__(self, colour: str) -> None:
        self.colour = COLOURS[colour]

    def scores(self, images):
        return np.array([0.9 if image.getpixel((9, 9)) == self.colour else 0.1 for image in images], np.float32)


def studio(generator: Generator, prude: Prude | None = None) -> Studio:
    encoder = FakeEncoder()
    return Studio(generator, encoder, MeaningCheck(encoder, ConceptList([("hate", "swastika")])), prude)


def ask(words: str, **fields) -> GenerationRequest:
    return GenerationRequest(FakeEncoder().encode_texts([words]), prompt=words, size=64, **fields)


def test_fakes_are_generators():
    assert isinstance(FakeGenerator(), Generator)


def test_the_nearest_candidate_is_kept():
    drawing = studio(Painter("blue", "red", "green")).draw(ask("red", count=3))
    assert (drawing.picture.seed, drawing.picture.similarity) == (1, pytest.approx(1.0))
    assert drawing.similarities == pytest.approx((0.0, 1.0, 0.0))
    assert drawing.vector == pytest.approx(FakeEncoder().encode_texts(["red"])[0])
    assert drawing.nudity_checked is False


def test_one_by_one_is_the_same_and_tells_of_each():
    told = []
    one_by_one = studio(FakeGenerator()).draw(ask("red", count=3, seed=5), lambda *seen: told.append(seen) or True)
    together = studio(FakeGenerator()).draw(ask("red", count=3, seed=5))
    assert np.array_equal(one_by_one.picture.pixels, together.picture.pixels)
    assert [(picture.seed, done, total) for picture, done, total in told] == [(5, 1, 3), (6, 2, 3), (7, 3, 3)]
    assert all(picture.similarity == pytest.approx(1.0) for picture, _, _ in told)


def test_saying_no_cancels_before_the_next_candidate():
    generator = FakeGenerator()
    with pytest.raises(GenerationCancelled):
        studio(generator).draw(ask("red", count=5), lambda *_: False)
    assert generator.drawn == 1


def test_explicit_candidates_are_neither_kept_nor_shown():
    told = []
    drawing = studio(Painter("red", "blue"), Prude("red")).draw(ask("red", count=2), lambda *seen: told.append(seen) or True)
    assert (drawing.picture.seed, drawing.nudity_checked) == (1, True)
    assert [picture.seed for picture, _, _ in told] == [1]
    with pytest.raises(GenerationRefused, match="rule 'nudity'"):
        studio(Painter("red", "red"), Prude("red")).draw(ask("red", count=2))


def test_a_request_that_means_what_is_blocked_draws_nothing():
    generator = FakeGenerator()
    with pytest.raises(GenerationRefused, match="rule 'hate'"):
        studio(generator).draw(ask("swastika"))
    vectors = FakeEncoder().encode_texts(["red", "swastika"])
    with pytest.raises(GenerationRefused, match="rule 'hate'"):  # also as a small part of it
        studio(generator).draw(GenerationRequest(vectors, (1.0, 0.1), size=64))
    assert generator.drawn == 0
    avoided = GenerationRequest(vectors, (1.0, -0.5), size=64)
    assert studio(generator).draw(avoided).picture.similarity


def test_a_refusal_keeps_its_rule_between_processes():
    again = pickle.loads(pickle.dumps(GenerationRefused("no", rule="hate")))
    assert (str(again), again.rule) == ("no", "hate")


# In a process of its own


class Sleeper:
    name, size = "sleeper", 64

    def generate(self, request):
        if request.prompt == "die":
            os._exit(3)
        if request.prompt == "niceness":
            return [GeneratedImage(np.zeros((64, 64, 3), np.uint8), os.nice(0), str(os.getpid()), "d")]
        if request.prompt == "fail":
            raise ZeroDivisionError("inside")
        time.sleep(30)
        raise AssertionError("nobody waited so long")


def sleepy_studio() -> Studio:
    return studio(Sleeper())


@pytest.fixture
def beside():
    process = StudioProcess(toy_studio)
    yield process
    process.close()


def test_beside_draws_the_same_pixels(beside):
    request = ask("red", count=2, seed=3)
    told = []
    drawing = beside.draw(request, lambda *seen: told.append(seen[1:]) or True)
    assert np.array_equal(drawing.picture.pixels, toy_studio().draw(request).picture.pixels)
    assert told == [(1, 2), (2, 2)]
    with pytest.raises(GenerationCancelled):
        beside.draw(request, lambda *_: False)
    with pytest.raises(GenerationRefused, match="rule 'hate'"):
        beside.draw(ask("swastika"))
    assert beside.draw(request).picture.similarity == pytest.approx(1.0)


def test_beside_has_the_lowest_priority_and_survives_its_death():
    process = StudioProcess(sleepy_studio)
    try:
        first = process.draw(ask("niceness")).picture
        assert first.seed == LOWEST_PRIORITY
        with pytest.raises(Unavailable, match="ended unexpectedly"):
            process.draw(ask("die"))
        with pytest.raises(RuntimeError):
            process.draw(ask("fail"))
        assert process.draw(ask("niceness")).picture.model != first.model
    finally:
        process.close()


def test_closing_ends_a_drawing_under_way():
    process = StudioProcess(sleepy_studio)
    process.draw(ask("niceness"))
    failed: list[BaseException] = []

    def wait() -> None:
        try:
            process.draw(ask("sleep"))
        except Unavailable as error:
            failed.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    time.sleep(0.3)
    process.close()
    waiting.join(10)
    assert not waiting.is_alive()
    assert len(failed) == 1
