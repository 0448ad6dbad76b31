"""Typing rules of CSV cells."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.values import attributes_of, kinds_of, list_of, money_of, number_of, without_markup


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("19.90", 19.9),
        ("40", 40),
        ("-3", -3),
        ("0", 0),
        ("0.5", 0.5),
        ("00123", None),
        ("1E5", None),
        ("1e5", None),
        ("nan", None),
        ("inf", None),
        ("-Infinity", None),
        ("1,299", None),
        ("1_000", None),
        ("+5", None),
        (".5", None),
        ("5.", None),
        ("٣", None),
        ("1234567890123456", None),
        ("123456789012345", 123456789012345),
        ("", None),
        ("4 pack", None),
    ],
)
def test_numbers(text, value):
    assert number_of(text) == value
    assert type(number_of(text)) is type(value)


@pytest.mark.parametrize(
    ("text", "money"),
    [
        ("19.90 USD", (19.9, "USD")),
        ("USD 19.90", (19.9, "USD")),
        ("$19.90", (19.9, "$")),
        ("€ 19,90", (19.9, "€")),
        ("19,90", (19.9, "")),
        ("1 299,00 €", (1299.0, "€")),
        ("1\u00a0299,00 €", (1299.0, "€")),
        ("1.299,00 EUR", (1299.0, "EUR")),
        ("1,299.00", (1299.0, "")),
        ("12,345,678.90", (12345678.9, "")),
        ("1 299", (1299, "")),
        ("199", (199, "")),
        ("¥199", (199, "¥")),
        ("1,299", None),
        ("10-20", None),
        ("from 10", None),
        ("$19.90 USD", None),
        ("1.2.3", None),
        ("sold out", None),
        ("", None),
    ],
)
def test_money(text, money):
    assert money_of(text) == money


def kind_of(cells):
    return kinds_of(["x"], [[cell] for cell in cells])["x"]


def test_a_mostly_numeric_column_keeps_its_numbers_beside_a_stray_text():
    column = ["10", "20.5", "sold out", "n/a", ""]
    assert kind_of(column) == "number"
    assert [dict(attributes_of("weight", text, "number")) for text in column] == [
        {"weight": 10},
        {"weight": 20.5},
        {"weight": "sold out"},
        {},
        {},
    ]


def test_digits_among_names_stay_text():
    assert kind_of(["Levi's", "501", "Nike", "Adidas"]) == "text"
    assert attributes_of("brand", "501", "text") == {"brand": "501"}


def test_a_column_with_a_bar_is_a_list_column_throughout():
    assert kind_of(["red", "red|blue", "7"]) == "list"
    assert attributes_of("colours", "red | blue||red", "list") == {"colours": ("red", "blue")}
    assert attributes_of("colours", "red", "list") == {"colours": ("red",)}
    assert attributes_of("colours", "|", "list") == {}


@pytest.mark.parametrize(("text", "value"), [("true", True), ("FALSE", False), ("yes", "yes")])
def test_booleans(text, value):
    assert attributes_of("on_sale", text, "text") == {"on_sale": value}


@pytest.mark.parametrize("absent", ["", "  ", "n/a", "N/A", "#N/A", "null", "NULL", "NaN"])
def test_absent(absent):
    assert attributes_of("x", absent, "text") == {}
    assert attributes_of("price", absent, "number") == {}


def test_money_columns_carry_their_currency_beside_them():
    assert attributes_of("price", "19.90 USD", "text") == {"price": 19.9, "price_currency": "USD"}
    assert attributes_of("Sale Price", "12", "text") == {"Sale Price": 12}
    assert attributes_of("price", "ask us", "number") == {"price": "ask us"}
    assert attributes_of("size", "19,90", "text") == {"size": "19,90"}


@given(st.integers(-(10**15) + 1, 10**15 - 1))
def test_every_integer_of_15_digits_is_itself(value):
    assert number_of(str(value)) == value


@given(st.decimals(-(10**9), 10**9, places=2, allow_nan=False))
def test_decimal_comma_and_point_are_the_same_money(value):
    text = f"{value:.2f}"
    assert money_of(text.replace(".", ",")) == money_of(text) == (float(text), "")


@given(st.lists(st.text("abc ", min_size=1, max_size=4).filter(str.strip)))
def test_lists_keep_order_and_drop_repetitions(items):
    assert list_of("|".join(items)) == tuple(dict.fromkeys(item.strip() for item in items))


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>Cool <b>linen</b> shirt.</p><ul><li>Soft &amp; light</li></ul>", "Cool linen shirt. Soft & light"),
        ("<style>p {color: red}</style><p class='x'>seen<br/>text</p><!-- note -->", "seen text"),
        ("a < b and c > d", "a < b and c > d"),
        ("width <5 cm> & more", "width <5 cm> & more"),
    ],
)
def test_markup_is_reduced_to_what_is_seen(html, text):
    assert without_markup(html) == text
