"""Product feeds in XML (Google Merchant's RSS and Atom, and whatever else lists products so) become lines of JSON.

Every outermost `<item>`, `<entry>`, `<product>` or `<offer>` is a row. Its attributes and children are the columns, named without
their prefix (`g:image_link` is `image_link`); a child that stands there several times is a list, one with children an object. What
a column means is decided in `indexer.columns`. A document type, which could define entities that grow, is refused.
"""

import re
from collections.abc import Iterable, Iterator
from itertools import chain
from xml.parsers import expat

import orjson

from engine.errors import InvalidCatalogue

PRODUCTS = frozenset({"item", "entry", "product", "offer"})
_REWRITTEN = re.compile(rb"(?:\xef\xbb\xbf)?\s*<\?xml[^>]*encoding=.utf-?(16|32)", re.IGNORECASE)
"""A declaration that can be read as bytes and promises wider characters: the file was rewritten as UTF-8 before."""
MAX_CHARACTERS = 2**20
MAX_DEPTH = 8


def json_lines(chunks: Iterable[bytes], catalogue: str) -> Iterator[bytes]:
    """Give one line of JSON for each product of an XML feed. Raises `InvalidCatalogue` for what is not XML, or has no product."""
    pieces = iter(chunks)
    first = next(pieces, b"")
    products = _Products(catalogue, "utf-8" if _REWRITTEN.match(first) else None)
    found = False
    try:
        for chunk in chain([first], pieces):
            products.parser.Parse(chunk, False)
            for line in products.taken():
                found = True
                yield line
        products.parser.Parse(b"", True)
    except expat.ExpatError as error:
        raise InvalidCatalogue(f"{catalogue} is not valid XML ({error}): export or download it again") from None
    if not found:
        known = ", ".join(f"<{name}>" for name in sorted(PRODUCTS))
        raise InvalidCatalogue(f"{catalogue} is XML without products (none of {known}): export it as CSV, JSONL or Parquet")


class _Element:
    """One element being read: its text, and its children by name."""

    def __init__(self, name: str, attributes: dict[str, str]) -> None:
        self.name = name
        self.text: list[str] = []
        self._children: dict[str, list[object]] = {_local(key): [value] for key, value in attributes.items()}
        self._prefixed: set[str] = set()

    def add(self, child: "_Element") -> None:
        """Keep a child. Of `<g:title>`, meant for shops, and `<title>`, for readers of news, the prefixed one counts."""
        name, value, prefixed = _local(child.name), child.value(), ":" in child.name
        if value in ("", {}) or (name in self._prefixed and not prefixed):
            return
        if prefixed and name not in self._prefixed:
            self._prefixed.add(name)
            self._children.pop(name, None)
        self._children.setdefault(name, []).append(value)

    def value(self) -> object:
        """Give what it holds: its text, or an object of its children."""
        text = "".join(self.text).strip()
        if text or not self._children:
            return text
        return {name: values[0] if len(values) == 1 else values for name, values in self._children.items()}


class _Products:
    """Gathers products as expat meets their parts."""

    def __init__(self, catalogue: str, encoding: str | None) -> None:
        self.parser = expat.ParserCreate(encoding)
        self.parser.buffer_text = True
        self.parser.StartDoctypeDeclHandler = self._doctype
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._characters
        self._catalogue = catalogue
        self._open: list[_Element] = []
        self._done: list[bytes] = []
        self._size = 0

    def taken(self) -> list[bytes]:
        """Hand over the products that are complete."""
        done, self._done = self._done, []
        return done

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if self._open or _local(name).lower() in PRODUCTS:
            self._open.append(_Element(name, attributes))
            self._bound(sum(map(len, attributes.values())))

    def _end(self, _: str) -> None:
        if not self._open:
            return
        element = self._open.pop()
        if self._open:
            self._open[-1].add(element)
        else:
            self._size = 0
            value = element.value()
            self._done.append(orjson.dumps(value if isinstance(value, dict) else {}) + b"\n")

    def _characters(self, text: str) -> None:
        if self._open:
            self._open[-1].text.append(text)
            self._bound(len(text))

    def _bound(self, more: int) -> None:
        self._size += more
        if self._size > MAX_CHARACTERS or len(self._open) > MAX_DEPTH:
            line = self.parser.CurrentLineNumber
            raise InvalidCatalogue(
                f"{self._catalogue} has a product at line {line} of more than {MAX_CHARACTERS:,} characters, or {MAX_DEPTH} levels "
                "deep: close its elements, or export it as CSV, JSONL or Parquet"
            )

    def _doctype(self, *_: object) -> None:
        raise InvalidCatalogue(f"{self._catalogue} defines a document type, which no product feed needs: remove <!DOCTYPE ...>")


def _local(name: str) -> str:
    return name.rpartition(":")[2]
