import numpy as np
import pytest

from engine.datatypes import MAX_TERMS, Document, DocumentRef, Query, Term
from engine.errors import InvalidDocument, InvalidQuery


@pytest.mark.parametrize("id", ["", "  ", "x" * 513, "a\x00b", "\ud800"])
def test_an_id_that_cannot_be_stored_is_refused(id):
    with pytest.raises(InvalidDocument):
        Document(id)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 2**63, None, {"a": 1}, (1, 2), "x\x00"])
def test_an_attribute_that_cannot_be_filtered_is_refused(value):
    with pytest.raises(InvalidDocument):
        Document("p1", attributes={"size": value})


@pytest.mark.parametrize("attributes", [{f"a{number}": 1 for number in range(1_001)}, {"tags": ("x",) * 1_001}])
def test_more_attributes_than_are_stored_are_refused(attributes):
    with pytest.raises(InvalidDocument, match=r"1,001 .*at most 1,000 are stored"):
        Document("a", attributes=attributes)


def test_a_document_is_frozen_down_to_its_attributes():
    attributes = {"price": 5}
    document = Document("p1", attributes=attributes)
    attributes["price"] = 6
    assert document.attributes["price"] == 5
    with pytest.raises(TypeError):
        document.attributes["price"] = 7


@pytest.mark.parametrize("weight", [0, float("nan"), float("inf"), 101, -101])
def test_a_weight_that_means_nothing_is_refused(weight):
    with pytest.raises(InvalidQuery):
        Term("red", weight)


@pytest.mark.parametrize("content", ["", " \n", "x" * 10_001, "a\x00", "\ud800", np.zeros(256, np.float32), np.ones(3, np.float32)])
def test_a_term_that_says_nothing_is_refused(content):
    with pytest.raises(InvalidQuery):
        Term(content)


@pytest.mark.parametrize(
    "arguments",
    [
        {"terms": ()},
        {"terms": (Term("red", -1),)},
        {"terms": (Term("red"),) * (MAX_TERMS + 1)},
        {"terms": (Term("red"),), "k": 0},
        {"terms": (Term("red"),), "k": 1001},
        {"terms": (Term("red"),), "k": True},
    ],
)
def test_a_query_that_cannot_be_answered_is_refused(arguments):
    with pytest.raises(InvalidQuery):
        Query(**arguments)


def test_three_terms_make_one_query():
    query = Query((Term(DocumentRef("dress")), Term("red", 0.7), Term("sleeveless", -0.5)))
    assert [term.weight for term in query.terms] == [1.0, 0.7, -0.5]
