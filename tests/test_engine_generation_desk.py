"""The desk: orders become requests, drawings are kept and found again, and real products come with them."""

import io
import os
import threading
import time

import numpy as np
import pytest
from PIL import Image

from engine.cache import MemoryCache, TieredCache
from engine.config import Settings
from engine.datatypes import Document
from engine.errors import GenerationRefused, InvalidInput, InvalidQuery, NotFound
from engine.generation.album import Album
from engine.generation.desk import DrawingDesk, Order
from engine.generation.prompts import STYLES, WEIGHTS
from engine.generation.provenance import SOURCE_TYPE, is_synthetic
from engine.search import SearchEngine
from engine.testing import COLOURS, FakeEncoder, tiny_catalogue, toy_studio


class Counting:
    def __init__(self) -> None:
        self.studio, self.drawn = toy_studio(), 0

    def draw(self, request, progress=None):
        self.drawn += 1
        return self.studio.draw(request, progress)


@pytest.fixture
def engine(tmp_path):
    tiny_catalogue(tmp_path)
    settings = Settings(data=tmp_path / "data", drawing_cache=3, drawing_candidates=2)
    with SearchEngine(settings, FakeEncoder(), TieredCache(MemoryCache(100, ttl_s=60), None)) as engine:
        engine.index("shop", [Document(name, f"{name} mug", images=(f"{name}.png",)) for name in COLOURS], base=tmp_path)
        yield engine


@pytest.fixture
def studio():
    return Counting()


@pytest.fixture
def desk(engine, studio):
    return DrawingDesk(engine, studio, size=64, generator="toy")


def test_an_order_becomes_weighted_vectors_and_a_sentence(desk, engine):
    request = desk.request(Order("mug [focus:red][avoid:lid]", style="retro", seed=3))
    assert request.weights == tuple(WEIGHTS[role] for role in ("subject", "focus", "avoid", "style"))
    assert request.vectors == pytest.approx(engine.embed_texts(["mug", "red", "lid", STYLES["retro"]]))
    assert request.prompt.startswith("a product photo of mug, red")
    assert (request.size, request.count, request.seed) == (64, 2, 3)


@pytest.mark.parametrize(
    ("order", "error"),
    [
        (Order(" "), InvalidQuery),
        (Order("mug", style="baroque"), InvalidInput),
        (Order("mug", size=8), InvalidQuery),
        (Order("mug", vector=b"short"), InvalidQuery),
        (Order("a nude woman"), GenerationRefused),
        (Order("mug [focus:nude woman]"), GenerationRefused),
        (Order("nude[style:retro] woman"), GenerationRefused),
        (Order("nude woman", vector=np.ones(256, "<f4").tobytes()), GenerationRefused),
    ],
)
def test_orders_that_cannot_be_drawn(desk, studio, order, error):
    with pytest.raises(error):
        desk.request(order)
    assert studio.drawn == 0


def test_the_same_order_is_drawn_once_in_any_process(desk, engine, studio):
    first = desk.draw(desk.request(Order("red [style:retro]")))
    again = desk.draw(desk.request(Order("red【风格：retro】")))
    later = DrawingDesk(engine, studio, size=64, generator="toy").draw(desk.request(Order("red [style:retro]")))
    assert studio.drawn == 1
    assert first.id == again.id == later.id
    assert later.vector == pytest.approx(first.vector)
    assert later.as_dict() == first.as_dict()
    others = [Order("red [style:retro]", seed=1), Order("red"), Order("red [style:retro]", photo=Image.new("RGB", (9, 9)))]
    assert len({first.id, *(desk.id_of(desk.request(order)) for order in others)}) == 4


def test_another_generator_draws_anew(desk, engine, studio):
    request = desk.request(Order("red"))
    assert DrawingDesk(engine, studio, size=64, generator="other").id_of(request) != desk.id_of(request)


def test_equal_orders_at_one_time_are_drawn_once(desk, studio):
    request = desk.request(Order("blue"))
    threads = [threading.Thread(target=desk.draw, args=(request,)) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert studio.drawn == 1


def test_what_is_kept_is_a_png_that_says_what_it_is(desk):
    kept = desk.draw(desk.request(Order("red")))
    data = desk.album.png(kept.id)
    assert is_synthetic(data)
    assert SOURCE_TYPE.encode() in data
    assert Image.open(io.BytesIO(data)).size == (64, 64)
    assert kept.as_dict()["synthetic"] is True
    assert kept.similarity == pytest.approx(1.0)


def test_closest_are_real_products_by_their_pictures(desk, engine):
    kept = desk.draw(desk.request(Order("red")))
    result = desk.closest(kept, "shop", k=20)
    assert {hit.id for hit in result.hits} == set(COLOURS)
    assert (result.hits[0].id, result.hits[0].score) == ("red", pytest.approx(1.0, abs=2e-3))
    assert [hit.id for hit in desk.closest(kept, "shop", k=3, where="title = 'x'").hits] == []


def test_the_oldest_drawings_go_first_and_damage_is_a_miss(desk, studio):
    kept = []
    for number, word in enumerate(("red", "green", "blue", "black")):
        kept.append(desk.draw(desk.request(Order(word))))
        sheet = desk.album._folder / f"{kept[-1].id}.json"
        os.utime(sheet, (time.time() - 100 + number,) * 2)
    assert [desk.album.find(each.id) is not None for each in kept] == [False, True, True, True]
    with pytest.raises(NotFound):
        desk.album.png(kept[0].id)
    (desk.album._folder / f"{kept[1].id}.json").write_text("{")
    assert desk.album.find(kept[1].id) is None
    assert desk.draw(desk.request(Order("green"))).id == kept[1].id
    assert studio.drawn == 5


@pytest.mark.parametrize("id", ["../../etc/passwd", "", "g" * 32])
def test_only_ids_name_files(tmp_path, id):
    with pytest.raises(NotFound):
        Album(tmp_path, most=3).png(id)
