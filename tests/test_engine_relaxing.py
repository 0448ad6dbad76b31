"""What a query is tried without."""

import numpy as np

from engine.datatypes import DocumentRef, Query, Term
from engine.filters import conjuncts
from engine.relaxing import MOST_TRIED, relaxed


def test_every_condition_and_then_the_whole_filter_is_dropped() -> None:
    found = [
        (step.kind, step.without, query.where) for step, query in relaxed(Query((Term("mug"),), where="price < 5 and brand = 'A'"))
    ]
    assert found == [
        ("filter", "price < 5", "(brand = 'A')"),
        ("filter", "brand = 'A'", "(price < 5)"),
        ("filter", "price < 5 and brand = 'A'", None),
    ]


def test_every_term_is_dropped_that_leaves_something_to_look_for() -> None:
    query = Query((Term("mug"), Term("red", 0.5), Term(DocumentRef("p1"), -1.0)))
    assert [step.without for step, _ in relaxed(query)] == ["mug", "red", "document p1"]
    alone = Query((Term("mug"), Term("red", -0.5)))
    assert [step.without for step, _ in relaxed(alone)] == ["red"]


def test_a_plain_query_has_nothing_to_give_up() -> None:
    assert list(relaxed(Query((Term("mug"),)))) == []


def test_only_so_many_are_tried() -> None:
    terms = tuple(Term(np.eye(256, dtype=np.float32)[place]) for place in range(12))
    assert len(list(relaxed(Query(terms)))) == MOST_TRIED


def test_filters_are_cut_at_their_outermost_ands() -> None:
    assert conjuncts("price < 50 and brand = 'A and B'") == ["price < 50", "brand = 'A and B'"]
    assert conjuncts("a = 1 or b = 2 and c = 3") == ["a = 1 or b = 2 and c = 3"]
    assert conjuncts("(a = 1 or b = 2) AND not c in ('x', 'y') and (d = 1 and e = 2)") == [
        "(a = 1 or b = 2)", "not c in ('x', 'y')", "(d = 1 and e = 2)",
    ]  # fmt: skip
    assert conjuncts("(a = 1 and b = 2)") == ["(a = 1 and b = 2)"]
    assert conjuncts("and = 5 and between = 6 and b = 1") == ["and = 5", "between = 6", "b = 1"]
    assert conjuncts("price between 1 and 5") == ["price between 1 and 5"]
    assert conjuncts("price not between 1 and 5 and (x between 'a' and 'b' and y = 2) and b = 1") == [
        "price not between 1 and 5", "(x between 'a' and 'b' and y = 2)", "b = 1",
    ]  # fmt: skip
