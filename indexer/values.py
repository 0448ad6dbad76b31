r"""What the text in a cell means: the typing rules of catalogues.

Only CSV has no types of its own, so these rules are for CSV, with one exception: money is read in every format.

- Spaces round a value are dropped. An empty cell, and `n/a`, `#n/a`, `null`, `nan`, mean "absent".
- A column is *numeric* when more than half of its values, among the first 10,000 rows, are numbers. There each value is typed
  alone: `19.90` and `40` become numbers, a stray `sold out` stays text and fails every comparison with a number.
- In every other column digits stay text, so a brand `501` among names, or a size `38` among `S` and `M`, is found as text.
- Never numbers: leading zeros (`00123` is an article code), more than 15 digits (a float could not hold them), exponents
  (`1E5` is an article code), `inf`, and anything with a thousands separator.
- `true` and `false` (any case) become booleans.
- A column in which some value has a `|` is a list column: `red|blue` is two texts, and `red` alone is a list of one.
- A column whose name says money (`price`, `sale_price`, `preis`, `prix`, ...) may carry a currency and a decimal comma:
  `19.90 USD`, `€ 19,90`, `1.299,00 EUR`, `1 299,00 €` become the number, and `<column>_currency` the sign as written.
  `1,299` could mean two things and stays text.

Which column plays which part does not belong here: see `indexer.columns`.
"""

import html
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, TypeAlias

from engine.datatypes import AttributeValue

Kind: TypeAlias = Literal["number", "list", "text"]

ABSENT = frozenset({"", "n/a", "#n/a", "null", "nan"})
MAX_DIGITS = 15
SEPARATOR = "|"
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?")
_CURRENCY = r"[A-Z]{3}|[€$£¥₹₽₩₺₫฿]|kr|zł|元|円"
_MONEY = re.compile(rf"(?P<before>{_CURRENCY})?\s*(?P<amount>-?[0-9][0-9.,'\u00a0\u202f ]*?)\s*(?P<after>{_CURRENCY})?")
_POINT = re.compile(r"-?(?:[0-9]+|[0-9]{1,3}(?:[,'\u00a0\u202f ][0-9]{3})+)\.[0-9]{1,2}|-?[0-9]{1,3}(?:[\u00a0\u202f '][0-9]{3})+")
_COMMA = re.compile(r"-?(?:[0-9]+|[0-9]{1,3}(?:[.'\u00a0\u202f ][0-9]{3})+),[0-9]{1,2}")
_TAG = re.compile(r"</?[a-z][a-z0-9]*(?:\s[^<>]*)?/?>|<!--.*?-->", re.IGNORECASE | re.DOTALL)
_UNSEEN = re.compile(r"<(script|style)\b.*?</\1\s*>", re.IGNORECASE | re.DOTALL)
_MONEY_NAMES = ("price", "preis", "prix", "precio", "prezzo", "preço", "cost", "msrp", "价格", "售价", "单价", "価格")


def number_of(text: str) -> int | float | None:
    """Read a plain number; None when the text is anything else (see the module's rules)."""
    if not _NUMBER.fullmatch(text) or sum(map(str.isdigit, text)) > MAX_DIGITS:
        return None
    return float(text) if "." in text else int(text)


def is_money(column: str) -> bool:
    """Say whether a column's name promises amounts of money."""
    folded = column.casefold()
    return any(name in folded for name in _MONEY_NAMES)


def money_of(text: str) -> tuple[int | float, str] | None:
    """Read an amount and its currency as written ("" when none is); None when it is not clearly one."""
    match = _MONEY.fullmatch(text)
    if match is None or (match["before"] and match["after"]):
        return None
    amount = _amount(match["amount"].strip())
    return None if amount is None else (amount, match["before"] or match["after"] or "")


def _amount(text: str) -> int | float | None:
    plain = number_of(text)
    if plain is not None:
        return plain
    digits = re.sub(r"['\u00a0\u202f ]", "", text)
    if _POINT.fullmatch(text):
        return number_of(digits.replace(",", ""))
    if _COMMA.fullmatch(text):
        return number_of(digits.replace(".", "").replace(",", "."))
    return None


class KindGuess:
    """Decides how a column is typed, from cells shown to it one by one."""

    def __init__(self) -> None:
        self._numbers = self._texts = 0
        self._list = False

    def see(self, text: str) -> None:
        """Count one cell."""
        text = text.strip()
        self._list = self._list or SEPARATOR in text
        if text.casefold() not in ABSENT:
            is_number = number_of(text) is not None
            self._numbers, self._texts = self._numbers + is_number, self._texts + (not is_number)

    @property
    def kind(self) -> Kind:
        """The decision so far."""
        if self._list:
            return "list"
        return "number" if self._numbers > self._texts else "text"


def attributes_of(name: str, text: str, kind: Kind) -> Mapping[str, AttributeValue]:
    """Type one cell: no attribute when absent, one, or two for money with a currency."""
    text = text.strip()
    if text.casefold() in ABSENT:
        return {}
    if text.casefold() in ("true", "false"):
        return {name: text.casefold() == "true"}
    if is_money(name):
        return money_attributes(name, text)
    if kind == "list":
        items = list_of(text)
        return {name: items} if items else {}
    number = number_of(text) if kind == "number" else None
    return {name: text if number is None else number}


def money_attributes(name: str, text: str) -> Mapping[str, AttributeValue]:
    """Type a cell of a money column: amount and currency, or the text as it is."""
    money = money_of(text.strip())
    if money is None:
        return {name: text}
    return {name: money[0], f"{name}_currency": money[1]} if money[1] else {name: money[0]}


def list_of(text: str) -> tuple[str, ...]:
    """Split `a|b|c`, dropping empty items and repetitions."""
    return tuple(dict.fromkeys(item.strip() for item in text.split(SEPARATOR) if item.strip()))


def kinds_of(columns: Sequence[str], sample: Iterable[Sequence[str]]) -> dict[str, Kind]:
    """Decide the kind of every column from sampled rows that have a cell for each."""
    guesses = [KindGuess() for _ in columns]
    for row in sample:
        for guess, cell in zip(guesses, row, strict=True):
            guess.see(cell)
    return {column: guess.kind for column, guess in zip(columns, guesses, strict=True)}


def without_markup(text: str) -> str:
    """Reduce HTML to the text that is seen; text without tags stays as it is, `a < b` included."""
    if not _TAG.search(text):
        return text
    return " ".join(html.unescape(_TAG.sub(" ", _UNSEEN.sub(" ", text))).split())
