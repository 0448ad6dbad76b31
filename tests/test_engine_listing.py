"""Lists of results: what may be asked of them, and what counting, sorting, grouping and paging do to them."""

import base64
import zlib

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.arrange import grouped, lifts, sorted_places, without_duplicates
from engine.datatypes import Query, Term
from engine.errors import InvalidQuery
from engine.facets import count
from engine.index.instants import instant, span
from engine.listing import Boost, Counted, CountedRange, Facet, Sort, parsed
from engine.paging import Entry, Frozen, read
from engine.ranking import FEATURES, Weighing, lifted
from engine.relevance import NEARNESS, bound


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("price", Sort("price")),
        ("price:asc", Sort("price")),
        ("price:desc", Sort("price", descending=True)),
        ("score", Sort("score", descending=True)),
        ("score:asc", Sort("score")),
        ("og:price", Sort("og:price")),
        ("og:price:desc", Sort("og:price", descending=True)),
    ],
)
def test_a_sort_is_read(text, expected):
    assert Sort.parse(text) == expected


def test_options_given_as_texts_are_read():
    fields = parsed({"facets": ["brand", Facet("price", (5.0,))], "sort": ["price"], "boosts": ["sold=0.2", "new"], "dedup": True})
    assert fields["facets"] == (Facet("brand"), Facet("price", (5.0,)))
    assert fields["sort"] == (Sort("price"),)
    assert fields["boosts"] == (Boost("sold", 0.2), Boost("new"))
    assert fields["dedup"] is True


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Facet(""), "names the attribute ''"),
        (lambda: Facet("a", limit=0), "asks for 0 values"),
        (lambda: Facet("a", (2.0, 1.0)), "ascending finite numbers"),
        (lambda: Facet("a", (1.0, float("inf"))), "ascending finite numbers"),
        (lambda: Sort(" "), "names the attribute"),
        (lambda: Boost("a", 0.0), "weighs 0.0"),
        (lambda: Boost("a", 2.0), "weighs 2.0"),
        (lambda: Boost.parse("a=many"), "no number after the ="),
        (lambda: Query((Term("a"),), facets=(Facet("a"), Facet("a"))), "each attribute once"),
        (lambda: Query((Term("a"),), sort=(Sort("a"),) * 9), "up to 8"),
    ],
)
def test_what_cannot_be_asked_says_so(make, sentence):
    with pytest.raises(InvalidQuery, match=sentence):
        make()


# Facets


def test_values_are_counted_the_most_frequent_first():
    result = count(Facet("brand", limit=2), [("b",), ("a",), ("b",), (), ("c",), ("a", "c")])
    assert result.values == (Counted("a", 2), Counted("b", 2))
    assert (result.other, result.missing, result.low) == (2, 1, None)


def test_true_and_one_are_different_values():
    result = count(Facet("x"), [(True,), (1,), (1.0,), ("1",)])
    assert [(value.value, value.count) for value in result.values] == [(1, 2), (True, 1), ("1", 1)]
    assert [type(value.value) for value in result.values][1] is bool


def test_edges_make_ranges_that_hold_their_lower_end():
    result = count(Facet("price", (10.0, 20.0)), [(9.9,), (10,), (19,), (20,), ("text",), ()])
    assert result.ranges == (CountedRange(None, 10.0, 1), CountedRange(10.0, 20.0, 2), CountedRange(20.0, None, 1))
    assert (result.values, result.other, result.missing, result.low, result.high) == ((), 1, 1, 9.9, 20.0)


def test_many_numbers_get_ranges_of_their_own():
    result = count(Facet("price"), [(float(n),) for n in range(1000)])
    assert [one.low for one in result.ranges] == [None, 200.0, 400.0, 600.0, 800.0]
    assert [one.count for one in result.ranges] == [200] * 5


VALUES = st.lists(st.lists(st.sampled_from(["a", "b", 1, 2.5, True]), max_size=2, unique_by=str).map(tuple), max_size=20)


@given(values=VALUES, limit=st.integers(1, 5))
@settings(deadline=None)
def test_every_document_is_counted_somewhere(values, limit):
    result = count(Facet("x", limit=limit), values)
    if result.ranges:
        return
    listed = [value.value for value in result.values]
    assert result.missing == sum(not own for own in values)
    for value in result.values:
        alike = [[v for v in own if v == value.value and isinstance(v, bool) == isinstance(value.value, bool)] for own in values]
        assert value.count == sum(map(bool, alike))
    if len(listed) < limit:
        assert result.other == 0
    assert [value.count for value in result.values] == sorted((value.count for value in result.values), reverse=True)


# Order


def places(sorts, scores, **columns):
    return sorted_places(tuple(map(Sort.parse, sorts)), np.array(scores, np.float32), columns.__getitem__)


def test_documents_without_the_attribute_come_last_either_way_and_scores_break_ties():
    price = [(5,), (), (2.5,), (5,)]
    scores = [0.1, 0.9, 0.2, 0.3]
    assert places(["price"], scores, price=price) == [2, 3, 0, 1]
    assert places(["price:desc"], scores, price=price) == [3, 0, 2, 1]
    assert places(["price", "score:asc"], scores, price=price) == [2, 0, 3, 1]


def test_dates_sort_as_instants_and_lists_by_their_first():
    on = [("2026-02-01",), ("2026-01-31T23:30:00-02:00",), ("2026-01-31",)]
    assert places(["on"], [0, 0, 0], on=on) == [2, 0, 1]
    assert places(["tags:desc"], [0, 0, 0], tags=[("a", "b"), ("c",), ("a",)]) == [1, 0, 2]


def test_a_boost_lifts_by_the_logarithm_of_the_number():
    found = lifts(Boost("sold", 0.2), [(0,), (99,), (9,), (-5,), (), (True,)])
    assert found == pytest.approx([0, 0.2, 0.1, 0, 0, 0])
    assert lifts(Boost("sold", 0.2), [(), ()]).tolist() == [0, 0]


# Groups and duplicates


def test_variants_stand_behind_the_best_of_their_group():
    assert grouped([3, 0, 1, 2], [("m",), ("m",), ("n",), ("n",)]) == ([3, 0], {3: (2,), 0: (1,)})


def test_documents_without_the_attribute_stand_for_themselves():
    kept, behind = grouped([0, 1, 2, 3, 4], [("m",), (), ("n",), ("m",), ()])
    assert kept == [0, 1, 2, 4]
    assert behind == {0: (3,)}


def test_true_and_one_are_different_groups():
    assert grouped([0, 1], [(True,), (1,)])[0] == [0, 1]


def test_a_chain_of_small_differences_does_not_collapse():
    angles = np.array([0.0, 0.2, 0.4])
    vectors = np.zeros((4, 256), np.float32)
    vectors[:3, 0], vectors[:3, 1] = np.cos(angles), np.sin(angles)
    kept, behind = without_duplicates([0, 1, 2, 3], vectors, np.array([True, True, True, False]))
    assert (kept, behind) == ([0, 2, 3], {0: (1,)})
    assert without_duplicates([1, 0, 2, 3], vectors, np.array([True, True, True, False]))[0] == [1, 3]


def test_documents_without_pictures_are_never_duplicates():
    assert without_duplicates([0, 1], np.zeros((2, 256), np.float32), np.zeros(2, bool)) == ([0, 1], {})


# Pages

FROZEN = Frozen("digest", 7, 3, 9, 0.5, "answer", (Entry(1, 0.5, (2,), ()), Entry(3, 0.25, (), (4, 5)), Entry(6, 0.125)))


def test_a_cursor_comes_back_as_it_was_written():
    assert read(FROZEN.text(), "digest") == FROZEN
    assert read(FROZEN.after(2).text(), "digest").left == FROZEN.left[2:]
    assert FROZEN.after(3) is None


@pytest.mark.parametrize("cursor", ["x", "***", "eyJhIjoxfQ", base64.urlsafe_b64encode(zlib.compress(b"[]")).decode(), "é"])
def test_what_is_no_cursor_is_refused(cursor):
    with pytest.raises(InvalidQuery, match="send the one of the answer before"):
        read(cursor, "digest")


@pytest.mark.parametrize(
    "changed",
    [
        *(
            {"left": left}
            for left in ([["1", 0.5, [], []]], [[1, "x", [], []]], [[-1, 0.5, [], []]], [[1, 0.5, [2**63], []]], [[1]])
        ),
        {"confidence": "sure"},
        {"confidence": []},
        {"decision": []},
        {"decision": "guess"},
        {"total": "1"},
        {"version": None},
        {"admitted": 1.5},
        {"more": 1},
    ],
    ids=str,
)
def test_a_cursor_that_was_tampered_with_is_refused(changed):
    fields = {"asked": "digest", "version": 1, "total": 1, "admitted": 1, "confidence": None, "decision": "answer", "left": []}
    assert read(base64.urlsafe_b64encode(zlib.compress(orjson.dumps(fields))).decode(), "digest").total == 1
    fields |= changed
    text = base64.urlsafe_b64encode(zlib.compress(orjson.dumps(fields, option=orjson.OPT_NON_STR_KEYS))).decode()
    with pytest.raises(InvalidQuery, match="cannot be read"):
        read(text, "digest")


def test_a_cursor_of_another_search_is_refused():
    with pytest.raises(InvalidQuery, match="another search"):
        read(FROZEN.text(), "other")


def test_a_cursor_that_unpacks_without_end_is_refused():
    bomb = base64.urlsafe_b64encode(zlib.compress(b" " * 50_000_000)).decode()
    with pytest.raises(InvalidQuery, match="cannot be read"):
        read(bomb, "digest")


# Scores and relevance


def test_the_bound_lies_between_the_collection_and_the_best():
    assert bound(0.5, 0.1) == pytest.approx(0.1 + NEARNESS * 0.4)
    assert bound(0.1, 0.3) == 0.1  # the best is relevant even where a filter left only bad ones


def test_words_lift_and_never_lower():
    cosines = np.array([0.2, 0.2, -0.5, -np.inf, -np.inf], np.float32)
    found = lifted(cosines, np.array([0.0, 0.5, 0.5, 0.5, 0.0], np.float32))
    assert found == pytest.approx([0.2, 0.6, 0.25, 0.5, -np.inf])


def test_words_that_are_seen_pull_towards_the_picture_and_rare_ones_towards_the_text():
    model = Weighing.load()
    seen = max(model.visual, key=model.visual.__getitem__)
    plain, visual = (model.weigh(model.describe([word], [2.0], 0.5)) for word in ("qwertz", seen))
    assert visual[0] < plain[0]
    rare, common = (model.weigh(model.describe(["qwertz"], [nats], coverage)) for nats, coverage in ((9.0, 1.0), (1.0, 0.2)))
    assert rare[1] > 2 * common[1]
    assert model.weigh(model.describe([], [], 0.0))[0] == pytest.approx(0.6, abs=0.01)
    assert len(model.share) == len(model.lift) == len(FEATURES)


def test_dates_are_instants():
    assert instant("2026-01-31") == instant("2026-01-31T00:00:00Z") == instant("2026-01-31T02:00+02:00")
    assert [instant(text) for text in ("2026", "yesterday", "2026-13-01", "20260131xx")] == [None] * 4
    assert span("2026-01-31") == (instant("2026-01-31"), instant("2026-02-01"))
