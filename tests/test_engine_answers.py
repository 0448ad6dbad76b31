"""Pages and recommendations through the whole engine: nothing twice, nothing left out, while others write."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.answers import ASSURED, assured
from engine.cache import MemoryCache, TieredCache
from engine.config import load_settings
from engine.datatypes import Document, Query, SearchResult, Term
from engine.errors import DocumentNotFound, InvalidQuery
from engine.search import SearchEngine
from engine.testing import FakeEncoder


def open_engine(data: Path) -> SearchEngine:
    return SearchEngine(load_settings(data=data), FakeEncoder(), TieredCache(MemoryCache(1000, ttl_s=60), None))


def mug(n: int, **attributes: object) -> Document:
    return Document(f"p{n}", "red mug", attributes={"price": n % 7, "model": f"m{n % 5}", **attributes})


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[SearchEngine]:
    with open_engine(tmp_path / "data") as opened:
        opened.index("shop", [mug(n) for n in range(40)])
        opened.index("shop", [Document(f"hat{n}", "green hat", attributes={"price": 1}) for n in range(10)])
        yield opened


def pages(engine: SearchEngine, k: int = 7, **options: object) -> Iterator[SearchResult]:
    cursor: str | None = "*"
    while cursor:
        result = engine.search("shop", "red mug", k=k, cursor=cursor, **options)  # type: ignore[arg-type]
        yield result
        cursor = result.cursor


def ids(result: SearchResult) -> list[str]:
    return [hit.id for hit in result.hits]


@pytest.mark.parametrize("options", [{}, {"sort": ["price:desc"]}, {"group_by": "model"}, {"where": "price > 3"}])
def test_pages_together_are_the_whole_list(engine, options):
    whole = engine.search("shop", "red mug", k=1000, **options)
    found = list(pages(engine, **options))
    together = [hit for page in found for hit in page.hits]
    relevant = {id for id in ids(whole) if id.startswith("p")}
    assert [hit.id for hit in together] == [id for id in ids(whole) if id in relevant]
    assert {page.total for page in found} == {whole.total}
    assert {page.version for page in found} == {whole.version}
    assert {(page.decision, page.confidence) for page in found} == {(whole.decision, whole.confidence)}
    variants = {hit.id: hit.variants for hit in whole.hits}
    assert all(hit.variants == variants[hit.id] for hit in together)


def test_only_relevant_documents_are_counted_and_paged(engine):
    result = engine.search("shop", "red mug", k=50, facets=["price"])
    assert (result.total, result.admitted, len(result.hits)) == (40, 50, 50)
    assert sum(value.count for value in result.facets[0].values) == 40
    assert len(engine.search("shop", "red mug", k=50, sort=["price"]).hits) == 40


def test_a_page_may_be_asked_for_in_another_engine_and_after_a_restart(engine, tmp_path):
    first = engine.search("shop", "red mug", k=30, cursor="*")
    engine.close()
    with open_engine(tmp_path / "data") as other:
        second = other.search("shop", "red mug", k=30, cursor=first.cursor)
    assert len(set(ids(first)) | set(ids(second))) == 40


def test_a_cursor_is_for_its_own_search(engine):
    cursor = engine.search("shop", "red mug", k=3, cursor="*").cursor
    for change in ({"text": "blue mug"}, {"where": "price = 1"}, {"sort": ["price"]}, {"target": "title"}):
        with pytest.raises(InvalidQuery, match="another search"):
            engine.search("shop", **{"text": "red mug", "k": 3, "cursor": cursor, **change})
    assert len(engine.search("shop", "red mug", k=11, cursor=cursor).hits) == 11


def test_without_a_cursor_there_is_none_and_at_the_end_neither(engine):
    assert engine.search("shop", "red mug", k=3).cursor is None
    assert engine.search("shop", "red mug", k=40, cursor="*").cursor is None


WRITES = st.lists(st.tuples(st.sampled_from(["delete", "update", "upsert", "compact"]), st.integers(0, 60)), max_size=8)


@given(writes=st.lists(WRITES, min_size=8, max_size=8), k=st.integers(3, 15))
@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
def test_whatever_is_written_meanwhile_pages_hold_the_frozen_list(tmp_path_factory, writes, k):
    with open_engine(tmp_path_factory.mktemp("data")) as engine:
        engine.index("shop", [mug(n) for n in range(30)])
        frozen = ids(engine.search("shop", "red mug", k=1000, sort=["price"]))
        seen: list[str] = []
        deleted: set[str] = set()
        for page, batch in zip(pages(engine, k=k, sort=["price"]), [*writes, *[[]] * 20], strict=False):
            seen += ids(page)
            for kind, n in batch:
                write(engine, kind, n, deleted)
        assert len(seen) == len(set(seen))
        assert seen == [id for id in frozen if id in set(seen)]
        assert set(frozen) - set(seen) <= deleted


def write(engine: SearchEngine, kind: str, n: int, deleted: set[str]) -> None:
    collection = engine.collection("shop")
    if kind == "delete":
        collection.delete([f"p{n}"])
        deleted.add(f"p{n}")
    elif kind == "update":
        held = collection.get([f"p{n}"])[0]
        if held is not None:
            collection.update(replace(held, attributes={"price": 99}))
    elif kind == "upsert":
        engine.index("shop", [mug(n, price=n % 3)])
    else:
        collection.compact()


def test_pages_while_a_thread_writes(engine):
    done = threading.Event()
    frozen = ids(engine.search("shop", "red mug", k=1000, sort=["price"]))

    def upset() -> None:
        n = 0
        while not done.is_set():
            engine.index("shop", [mug(n % 80, price=(n * 7) % 11)])
            n += 1

    thread = threading.Thread(target=upset)
    found = pages(engine, k=4, sort=["price"])
    seen = ids(next(found))
    thread.start()
    try:
        for page in found:
            seen += ids(page)
    finally:
        done.set()
        thread.join()
    assert seen == frozen


def test_recommendations_are_like_some_and_unlike_others_and_none_of_them(engine):
    engine.index("shop", [Document("both", "red hat"), Document("mug", "green mug")])
    liked = engine.recommend("shop", ["p1", "p2"], k=50)
    assert {"p1", "p2"} & set(ids(liked)) == set()
    assert ids(liked)[0].startswith("p")
    steered = engine.recommend("shop", ["both"], ["hat1"], k=60)
    assert {"both", "hat1"} & set(ids(steered)) == set()
    assert ids(steered).index("p3") < ids(steered).index("hat2")
    assert all(int(id[1:]) % 7 > 3 for id in ids(engine.recommend("shop", ["p1"], where="price > 3")))
    with pytest.raises(DocumentNotFound, match="nobody"):
        engine.recommend("shop", ["nobody"])
    with pytest.raises(InvalidQuery, match="at least one"):
        engine.recommend("shop", [])


def test_facets_and_explanations_come_out_of_the_cache_as_they_went_in(engine):
    asked = Query((Term("red mug"),), **{"facets": (), "explain": True, "group_by": "model"})
    (first,), (second,) = engine.search_many("shop", [asked]), engine.search_many("shop", [asked])
    assert (first.cache, second.cache) == ("miss", "memory")
    assert replace(second, cache="miss", timings_ms=first.timings_ms) == first
    other = engine.search_many("shop", [replace(asked, explain=False)])[0]
    assert other.cache == "miss"


def test_words_that_fit_make_an_answer_of_what_the_cosines_doubt():
    assert assured(0.2, "abstain", 0.98) == (pytest.approx(0.984), "answer")
    assert assured(None, "abstain", ASSURED) == (None, "answer")
    assert assured(0.2, "generate", 0.1) == (pytest.approx(0.28), "generate")
    assert assured(0.2, "generate", 0.0) == (0.2, "generate")
