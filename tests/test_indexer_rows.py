"""Cells of one row become a document."""

import pytest

from indexer.columns import plan_columns
from indexer.rows import RowBuilder
from indexer.shard import RowError

NAMES = ["id", "title", "description", "image", "image_2", "price", "box"]


def build(tmp_path, kinds=None, **cells):
    return RowBuilder(plan_columns(NAMES, {}, "feed"), tmp_path, kinds).build(7, cells)


@pytest.mark.parametrize(
    ("cell", "names"),
    [
        ("a.jpg", ["a.jpg"]),
        (" a.jpg | b.jpg |", ["a.jpg", "b.jpg"]),
        ('["a.jpg", "b.jpg"]', ["a.jpg", "b.jpg"]),
        ("[a].jpg", ["[a].jpg"]),
        (["a.jpg", "", None, "b.jpg"], ["a.jpg", "b.jpg"]),
        ([{"src": "a.jpg", "alt": "x"}, {"url": "b.jpg"}], ["a.jpg", "b.jpg"]),
        ({"path": "a.jpg", "bytes": None}, ["a.jpg"]),
        ("a.jpg|a.jpg", ["a.jpg"]),
        ("", []),
        (None, []),
        (float("nan"), []),
    ],
)
def test_images_of_a_cell(tmp_path, cell, names):
    row = build(tmp_path, id="x", title="t", image=cell)
    assert row.document.images == tuple(str(tmp_path / name) for name in names)


def test_urls_separated_by_commas_or_bars(tmp_path):
    row = build(tmp_path, id="x", title="t", image="https://a/1.jpg?x=1,2, https://a/2.jpg | http://b/3.jpg", image_2="//c/4.jpg")
    assert row.document.images == ("https://a/1.jpg?x=1,2", "https://a/2.jpg", "http://b/3.jpg", "https://c/4.jpg")


@pytest.mark.parametrize("cell", [5, True, {"alt": "x"}, {"bytes": b"x", "path": "a.jpg"}, b"x", [5]])
def test_images_that_are_none(tmp_path, cell):
    assert build(tmp_path, id="x", title="t", image=cell).code == "type"


def test_pictures_beyond_the_twentieth_are_left_out_with_a_remark(tmp_path):
    row = build(tmp_path, id="x", title="t", image="|".join(f"{n}.jpg" for n in range(25)))
    assert len(row.document.images) == 20
    assert [remark.code for remark in row.remarks] == ["picture_left_out"]


@pytest.mark.parametrize(
    ("id", "stored"), [("  a1 ", "a1"), (7, "7"), (7.0, "7"), (7.5, "7.5"), ("00123", "00123"), ("1E5", "1E5")]
)
def test_ids_are_text(tmp_path, id, stored):
    assert build(tmp_path, id=id, title="t").document.id == stored


@pytest.mark.parametrize(
    ("id", "code"),
    [
        ("", "id_missing"),
        ("  ", "id_missing"),
        (None, "id_missing"),
        (True, "type"),
        (["a"], "type"),
        ("x" * 600, "invalid"),
        ("a\0", "invalid"),
    ],
)
def test_ids_that_are_none(tmp_path, id, code):
    error = build(tmp_path, id=id, title="t")
    assert isinstance(error, RowError)
    assert (error.row, error.code) == (7, code)


def test_typed_attributes(tmp_path):
    row = build(
        tmp_path, id="x", title="t", price="19.90 USD", box={"w": 1, "in": {"h": " 2 "}, "none": None}, other=["a", 1, True]
    )
    assert dict(row.document.attributes) == {
        "price": 19.9,
        "price_currency": "USD",
        "box.w": 1,
        "box.in.h": "2",
        "other": ("a", "1", "true"),
    }


def test_infinity_refuses_the_row_and_nan_is_absent(tmp_path):
    assert build(tmp_path, id="x", title="t", price=float("inf")).code == "invalid"
    assert dict(build(tmp_path, id="x", title="t", price=float("nan")).document.attributes) == {}


def test_csv_cells_are_typed_by_their_column(tmp_path):
    row = build(tmp_path, {"price": "number", "box": "list"}, id="x", title="007", price="5", box="a|b", brand="501")
    assert row.document.title == "007"
    assert dict(row.document.attributes) == {"price": 5, "box": ("a", "b"), "brand": "501"}
