"""Whole lists against a brute-force twin: found by vectors and words, counted, sorted and grouped."""

import math
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from engine import relevance
from engine.collection import Collection
from engine.config import Settings
from engine.datatypes import Document, Query, Term
from engine.documents import key_of
from engine.errors import InvalidFilter
from engine.index import planner, rows
from engine.index.lexical import LENGTH_SHARE, SATURATION
from engine.index.wording import EXACT
from engine.index.words import asked, words
from engine.listing import Boost, Facet, Sort
from engine.queries import EncodedQuery
from engine.ranking import Weighing
from engine.retrieval import Retrieved, retrieve
from tests.storage import encoded, unit

SETTINGS = Settings(threads=1, busy_timeout_ms=5000)
TITLES = ["red shoe", "nike red shoe", "Nike Air-Max 90", "blue hat", "蓝色 帽子", "hat"]
TEXTS = ["nike", "red shoe", "airmax 90", "p3", "P-3", "b1", "t2", "hat", "蓝色", "zebra"]
FILTERS: list[tuple[str | None, Callable[[Document], bool]]] = [
    (None, lambda d: True),
    ("price < 2", lambda d: d.attributes["price"] < 2),
    ("brand = 'b1' or price >= 3", lambda d: d.attributes["brand"] == "b1" or d.attributes["price"] >= 3),
]


def mixed(number: int) -> np.ndarray:
    """Unit vectors that are neither equal nor orthogonal."""
    vector = np.zeros(256, np.float32)
    vector[[number, (number + 1) % 6, 9]] = 1.0, 0.5, 0.3
    return vector / np.linalg.norm(vector)


class Twin:
    """The truth: every document scored one by one, words counted by a dictionary."""

    def __init__(self) -> None:
        self.documents: dict[str, tuple[Document, int | None, int]] = {}

    def words_of(self, document: Document) -> Counter[str]:
        found: Counter[str] = Counter()
        for text in (document.title, *self.codes_of(document)):
            for word in words(text):
                found[word] += 1
        return found

    def codes_of(self, document: Document) -> set[str]:
        return {document.id, str(document.attributes["brand"]), *document.attributes["tags"]}  # type: ignore[misc]

    def length(self, document: Document) -> int:
        return sum(self.words_of(document).values()) + len(self.codes_of(document))  # which are also there as a whole

    def informed(self, text: str) -> dict[str, float]:
        counted = [self.words_of(document) for document, *_ in self.documents.values()]
        frequency = {word: sum(word in one for one in counted) for word in asked([text])}
        return {word: math.log(1 + (len(counted) - n + 0.5) / (n + 0.5)) for word, n in frequency.items()}

    def held(self, document: Document, information: dict[str, float]) -> float:
        lengths = [self.length(d) for d, *_ in self.documents.values()]
        average = sum(lengths) / max(len(lengths), 1)
        counted, own = self.words_of(document), self.length(document)
        damping = SATURATION * (1 - LENGTH_SHARE + LENGTH_SHARE * own / average)
        gains = {word: counted[word] * (1 + SATURATION) / (counted[word] + damping) for word in information}
        return min(1.0, sum(information[word] * gains[word] for word in information) / sum(information.values()))

    def scores(self, text: str, vector: np.ndarray) -> dict[str, float]:
        information = self.informed(text)
        share = {id: self.held(document, information) for id, (document, *_) in self.documents.items()}
        typed = text.lower().replace("-", "")
        exact = {id for id, (document, *_) in self.documents.items() if typed in self.codes_of(document)}
        model = Weighing.load()
        coverage = 1.0 if exact else max(share.values(), default=0.0)
        title, lift = model.weigh(model.describe(list(information), list(information.values()), coverage))
        found = {}
        for id, (_, picture, named) in self.documents.items():
            views = [(title, named), *([(1 - title, picture)] if picture is not None else [])]
            cosine = sum(w * float(_half(mixed(n)) @ vector) for w, n in views) / sum(w for w, _ in views)
            moved = EXACT if id in exact else lift * share[id]
            found[id] = cosine + moved * (1 - cosine)
        return found


def _half(vector: np.ndarray) -> np.ndarray:
    return vector.astype(np.float16).astype(np.float32)


def ask(collection: Collection, text: str, number: int, **options: object) -> Retrieved:
    query = Query((Term(text),), **options)  # type: ignore[arg-type]
    encoded_query = EncodedQuery(mixed(number), (0.4, 0.6), frozenset(), (text,), 1.0, ("words",), (1.0,))
    found = retrieve(collection, {0: (query, encoded_query)})[0]
    assert isinstance(found, Retrieved), found
    return found


class Machine(RuleBasedStateMachine):
    """Random histories: whatever happened, the list is the twin's."""

    @initialize()
    def start(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        path = Path(self.folder.name) / "shop"
        self.collection, self.twin = Collection.create(path, fingerprint="f", encoder="e", settings=SETTINGS), Twin()

    @rule(
        rows=st.lists(
            st.tuples(st.integers(0, 11), st.none() | st.integers(0, 5), st.integers(0, 5), st.integers(0, 5), st.integers(0, 4)),
            max_size=6,
        )
    )
    def upsert(self, rows: list[tuple[int, int | None, int, int, int]]) -> None:
        for n, picture, named, title, price in rows:
            attributes = {"price": price, "brand": f"b{price % 3}", "tags": tuple(f"t{t}" for t in range(price))}
            made = encoded(f"p{n}", [] if picture is None else [mixed(picture)], mixed(named), text=TITLES[title], **attributes)
            self.collection.upsert([made])
            self.twin.documents[f"p{n}"] = (made.document, picture, named)

    @rule(n=st.integers(0, 11), title=st.sampled_from(TITLES))
    def update(self, n: int, title: str) -> None:
        if f"p{n}" in self.twin.documents:
            old, picture, named = self.twin.documents[f"p{n}"]
            document = Document(old.id, title, "", old.images, old.attributes)
            self.collection.update(document)
            self.twin.documents[old.id] = (document, picture, named)

    @rule(ids=st.lists(st.integers(0, 11), max_size=3))
    def delete(self, ids: list[int]) -> None:
        self.collection.delete([f"p{n}" for n in ids])
        for n in ids:
            self.twin.documents.pop(f"p{n}", None)

    @rule()
    def compact(self) -> None:
        self.collection.compact()

    @rule()
    def reopen(self) -> None:
        self.collection.close()
        self.collection = Collection.open(self.collection.path, settings=SETTINGS)

    @rule(text=st.sampled_from(TEXTS), number=st.integers(0, 5), condition=st.sampled_from(FILTERS))
    def search(self, text: str, number: int, condition: tuple[str | None, Callable[[Document], bool]]) -> None:
        where, holds = condition
        scores = self.twin.scores(text, mixed(number))
        expected = {id: score for id, score in scores.items() if holds(self.twin.documents[id][0])}
        facets = (Facet("brand"), Facet("price", (1.0, 3.0)), Facet("tags"))
        found = ask(self.collection, text, number, k=50, where=where, facets=facets, explain=True)
        names = [self.name(entry.key) for entry in found.entries]
        assert sorted(names) == sorted(expected)
        assert [entry.score for entry in found.entries] == pytest.approx([expected[name] for name in names], abs=2e-3)
        pairs = [(-entry.score, entry.key) for entry in found.entries]
        assert pairs == sorted(pairs)
        assert found.admitted == len(expected)
        self.check_counts(found, names[: found.total])
        self.check_explanation(found)

    def name(self, key: int) -> str:
        return next(id for id in self.twin.documents if key_of(id) == key)

    def check_counts(self, found: Retrieved, relevant: list[str]) -> None:
        documents = [self.twin.documents[id][0] for id in relevant]
        brands = Counter(document.attributes["brand"] for document in documents)
        assert {value.value: value.count for value in found.facets[0].values} == dict(brands)
        prices = [document.attributes["price"] for document in documents]
        edges = [(-math.inf, 1), (1, 3), (3, math.inf)]
        assert [one.count for one in found.facets[1].ranges] == [sum(low <= p < high for p in prices) for low, high in edges]
        tags = Counter(tag for document in documents for tag in document.attributes["tags"])
        assert {value.value: value.count for value in found.facets[2].values} == dict(tags)
        assert found.facets[2].missing == sum(not document.attributes["tags"] for document in documents)

    def check_explanation(self, found: Retrieved) -> None:
        """The evidence adds up to the score, and the relevant are those above the bound."""
        assert found.explained is not None
        for entry, views in zip(found.entries, found.explained, strict=True):
            held = [(views[name].weight, views[name].score) for name in ("image", "title") if name in views]
            cosine = sum(w * s for w, s in held) / sum(w for w, _ in held)
            moved = views["lexical"].weight * views["lexical"].score
            assert entry.score == pytest.approx(cosine + moved * (1 - cosine), abs=1e-4)
        scores = [entry.score for entry in found.entries]
        if 0 < found.total < len(scores):
            assert scores[found.total - 1] > scores[found.total]

    @rule(text=st.sampled_from(TEXTS), number=st.integers(0, 5), descending=st.booleans())
    def sort_and_group(self, text: str, number: int, descending: bool) -> None:
        plain = ask(self.collection, text, number, k=50)
        relevant = {entry.key: entry.score for entry in plain.entries[: plain.total]}
        found = ask(self.collection, text, number, k=50, sort=(Sort("price", descending),), group_by="brand")
        attributes = {key: self.twin.documents[self.name(key)][0].attributes for key in relevant}
        sign = -1 if descending else 1
        order = sorted(relevant, key=lambda key: (sign * attributes[key]["price"], -relevant[key], key))
        leaders: dict[object, list[int]] = {}
        for key in order:
            leaders.setdefault(attributes[key]["brand"], []).append(key)
        assert [(entry.key, *entry.variants) for entry in found.entries] == [tuple(group) for group in leaders.values()]

    def teardown(self) -> None:
        self.collection.close()
        self.folder.cleanup()


MACHINE = settings(max_examples=10, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck))


def test_any_history_lists_what_brute_force_does():
    run_state_machine_as_test(Machine, settings=MACHINE)


def test_any_history_lists_what_brute_force_does_through_the_index(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(planner, "EXACT_DOCUMENTS", 2)
    monkeypatch.setattr(rows, "RESIDENT_ROWS", 0)
    run_state_machine_as_test(Machine, settings=settings(MACHINE, max_examples=5))


@pytest.fixture
def collection(tmp_path: Path) -> Iterator[Collection]:
    made = Collection.create(tmp_path / "shop", fingerprint="f", encoder="e", settings=SETTINGS)
    yield made
    made.close()


def test_a_filter_that_does_not_parse_fails_its_query_alone(collection: Collection):
    good, bad = Query((Term("red"),)), Query((Term("red"),), where="price <")
    asking = EncodedQuery(mixed(0), (0.4, 0.6), frozenset(), ("red",), 1.0, ("words",), (1.0,))
    found = retrieve(collection, {0: (good, asking), 1: (bad, asking)})
    assert isinstance(found[0], Retrieved)
    assert isinstance(found[1], InvalidFilter)


def test_the_other_process_finds_a_word_at_its_next_search(collection: Collection):
    other = Collection.open(collection.path, settings=SETTINGS)
    assert ask(other, "wh1000xm4", 0).entries == ()
    collection.upsert([encoded("s1", title=mixed(1), text="Sony WH-1000XM4"), encoded("s2", title=mixed(3), text="Sony")])
    assert ask(other, "wh1000xm4", 0).entries[0].key == key_of("s1")
    collection.delete(["s1"])
    assert [entry.key for entry in ask(other, "wh1000xm4", 0).entries] == [key_of("s2")]
    other.close()


def test_a_document_without_vectors_is_found_by_its_words(collection: Collection):
    collection.upsert([encoded("bare", text="Sony WH-1000XM4"), encoded("x", title=mixed(0), text="hat")])
    assert ask(collection, "bare", 3).entries[0].key == key_of("bare")


def test_an_article_number_is_first_through_the_index(collection: Collection, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(planner, "EXACT_DOCUMENTS", 10)
    monkeypatch.setattr(rows, "RESIDENT_ROWS", 0)
    monkeypatch.setattr(relevance, "DEPTH", 5)  # so that the vectors alone do not bring in everything
    near = mixed(0) + 0.5 * unit(400, seed=1)
    near /= np.linalg.norm(near, axis=1, keepdims=True)
    collection.upsert([encoded(f"n{n}", title=near[n], text="lamp", sku=f"AB-{n:04}") for n in range(400)])
    collection.upsert([encoded("wanted", title=mixed(3), text="lamp", sku="ZZ-0042")])
    collection.compact()
    for text in ("ZZ-0042", "zz0042", "zz 0042"):
        assert ask(collection, text, 0).entries[0].key == key_of("wanted")
    assert ask(collection, "ZZ-0042", 0).lift > 0.5


def test_a_total_stops_at_the_depth(collection: Collection, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(relevance, "DEPTH", 20)
    collection.upsert([encoded(f"n{n}", title=mixed(0), text="lamp") for n in range(50)])
    found = ask(collection, "lamp", 0, k=30)
    assert (found.total, found.admitted, len(found.entries)) == (20, 50, 20)


def test_a_boost_reorders_the_relevant_alone(collection: Collection):
    collection.upsert([encoded(f"n{n}", title=mixed(0), text="lamp", sold=n) for n in range(5)])
    collection.upsert([encoded("far", title=mixed(3), text="zebra", sold=1000)])
    found = ask(collection, "lamp", 0, boosts=(Boost("sold", 0.5),), explain=True)
    assert [entry.key for entry in found.entries] == [*(key_of(f"n{n}") for n in (4, 3, 2, 1, 0)), key_of("far")]
    assert found.explained is not None
    assert found.explained[0]["boost:sold"].score == pytest.approx(0.5)
    assert found.total == 5


def test_duplicates_stand_behind_the_best(collection: Collection):
    collection.upsert([encoded(f"n{n}", [mixed(0)], mixed(n), text="lamp") for n in range(3)])
    collection.upsert([encoded("other", [mixed(4)], mixed(0), text="lamp"), encoded("bare", title=mixed(0), text="lamp")])
    found = ask(collection, "lamp", 0, dedup=True)
    assert len(found.entries) == 3
    (first,) = (entry for entry in found.entries if entry.duplicates)
    assert {first.key, *first.duplicates} == {key_of(f"n{n}") for n in range(3)}
    assert first.key == key_of("n0")
