"""Pictures that a collection keeps for itself: as long as a document shows them, and no longer."""

import io
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from engine import media
from engine.cache import MemoryCache, TieredCache
from engine.config import Settings
from engine.datatypes import Document
from engine.encoders.images import content_of
from engine.search import SearchEngine
from engine.testing import FakeEncoder


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[SearchEngine]:
    settings = Settings(data=tmp_path / "data", threads=1)
    with SearchEngine(settings, FakeEncoder(), TieredCache(MemoryCache(10, ttl_s=10), None)) as engine:
        engine.create("shop")
        yield engine


def png(colour: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), colour).save(buffer, "PNG")
    return buffer.getvalue()


def add(engine: SearchEngine, id: str, colour: str) -> None:
    engine.index("shop", [Document(id, f"{colour} mug", images=("upload",))], uploads={"upload": png(colour)})


def kept(engine: SearchEngine) -> set[str]:
    return {path.name for path in (engine.collection("shop").path / "media").iterdir()}


def name(colour: str) -> str:
    return f"{content_of(png(colour)).hex()}.webp"


def let_an_hour_pass(engine: SearchEngine) -> None:
    for path in (engine.collection("shop").path / "media").iterdir():
        os.utime(path, (time.time() - 2 * media.GRACE_S,) * 2)


def test_what_no_document_shows_any_more_is_removed_by_a_compaction(engine: SearchEngine):
    for id, colour in (("a", "red"), ("b", "blue"), ("c", "blue"), ("d", "green")):
        add(engine, id, colour)
    (engine.collection("shop").path / "media" / ".0123.part").write_bytes(b"half")  # of a process that was killed
    engine.collection("shop").delete(["a", "b"])
    add(engine, "d", "white")
    engine.collection("shop").compact()
    assert kept(engine) == {name("red"), name("blue"), name("green"), name("white"), ".0123.part"}  # they may be waiting
    let_an_hour_pass(engine)
    engine.collection("shop").compact()
    assert kept(engine) == {name("blue"), name("white")}
    assert engine.picture("shop", "c")


def test_one_that_is_laid_there_again_waits_for_its_document(engine: SearchEngine):
    add(engine, "a", "red")
    engine.collection("shop").delete(["a"])
    let_an_hour_pass(engine)
    add(engine, "b", "red")
    engine.collection("shop").delete(["b"])
    media.keep(engine.collection("shop").path, content_of(png("red")), png("red"), max_pixels=10_000)
    engine.collection("shop").compact()
    assert kept(engine) == {name("red")}
