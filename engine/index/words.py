"""Texts -> the words they are found by: one rule for documents and queries, in any script.

A word is folded (compatibility forms, case, Latin accents) and kept as a 64-bit digest, so that an index needs no dictionary of
strings. What is written together is also found apart and the other way round: "WH-1000XM4" is `wh`, `1000xm4` and `wh1000xm4`.
Scripts that put no spaces between words are cut into overlapping pairs of characters. How words score stands in
`engine.index.lexical`.
"""

import functools
import hashlib
import itertools
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

import numpy as np
from jaxtyping import UInt8, UInt64

from engine.datatypes import Attributes

Counted: TypeAlias = tuple[UInt64[np.ndarray, " w"], UInt8[np.ndarray, " w"]]

MAX_WORDS = 2_000  # of one document; a description longer than that says nothing more about what it is
LONG_NUMBER = 100_000  # whole numbers from here on are article numbers and barcodes, and are typed as such
NAMED, TOLD = 2, 1  # a word of the id, title or an attribute counts as two of the description
MAX_COUNT = 255
MAX_CODE = 64
_ACCENTS = re.compile("[\u0300-\u036f]")
# Letters and digits, and the vowel signs and points that scripts from Hebrew to Khmer write as marks.
_SIGN = r"(?:[^\W_]|[\u0591-\u05bd\u064b-\u065f\u0900-\u0963\u0970-\u0dff\u0e31-\u0e4e\u0eb1-\u0ecd\u102b-\u103e\u17b4-\u17d3])"
_COMPOUND = re.compile(rf"{_SIGN}+(?:[-./_'’&+]{_SIGN}+)*")
_PART = re.compile(f"{_SIGN}+")
# The same of folded ASCII, which most words are, in a third of the time.
_PLAIN_COMPOUND = re.compile(r"[a-z0-9]+(?:[-./_'&+][a-z0-9]+)*")
_PLAIN_PART = re.compile("[a-z0-9]+")
# Han, kana, Hangul, Thai, Lao, Myanmar, Khmer
_UNSPACED = re.compile(
    "[\u2e80-\u2fdf\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\U00020000-\U000323af]+"
)
_LETTERS_OR_DIGITS = re.compile(r"\d+|\D+")


def fold(text: str) -> str:
    """Fold what a typist does not tell apart: width and ligatures, case, accents of Latin, Greek and Cyrillic letters."""
    if text.isascii():
        return text.lower()
    folded = unicodedata.normalize("NFKC", text).casefold()
    return folded if folded.isascii() else unicodedata.normalize("NFC", _ACCENTS.sub("", unicodedata.normalize("NFD", folded)))


def words(text: str, *, single: bool = True) -> list[str]:
    """Cut a text into words, in order; `single` also gives the single characters of unspaced scripts, for documents."""
    found: list[str] = []
    for token in fold(text).split():
        if not token.isascii():
            found += _in_any_script(token, single)
        elif token.isalnum():
            found.append(token)
        else:
            found += _plain(token)
    return found


def _plain(folded: str) -> Iterator[str]:
    for compound in _PLAIN_COMPOUND.findall(folded):
        if compound.isalnum():
            yield compound
        else:
            parts = _PLAIN_PART.findall(compound)
            yield from parts
            yield "".join(parts)


def _in_any_script(folded: str, single: bool) -> Iterator[str]:
    for compound in _COMPOUND.findall(folded):
        parts = _PART.findall(compound)
        for part in parts:
            yield from _spaced(part, single)
        if len(parts) > 1 and not _UNSPACED.search(compound):
            yield "".join(parts)


def _spaced(part: str, single: bool) -> Iterator[str]:
    """Cut one run of letters and digits at the borders of unspaced scripts, and these into pairs."""
    if part.isascii():
        yield part
        return
    place = 0
    for match in _UNSPACED.finditer(part):
        if match.start() > place:
            yield part[place : match.start()]
        run, place = match[0], match.end()
        if single or len(run) == 1:
            yield from run
        yield from map("".join, itertools.pairwise(run))
    if place < len(part):
        yield part[place:]


def letters_and_digits(word: str) -> tuple[str, ...]:
    """Cut a word where letters meet digits: "iphone15" -> "iphone", "15"; empty when there is nothing to cut."""
    parts = _LETTERS_OR_DIGITS.findall(word)
    return tuple(parts) if len(parts) > 1 else ()


@functools.lru_cache(maxsize=1 << 16)
def digest(word: str) -> int:
    """Shorten a word to 64 bits; two of a hundred million words share one with a probability of 0.0003."""
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")


def whole(code: str) -> int:
    """Digest an id or article number as a whole: its letters and digits without case or separators. No word has this digest."""
    folded = fold(code)
    return digest("\0" + "".join((_PLAIN_PART if folded.isascii() else _PART).findall(folded)))


def counted(id: str, title: str, description: str, attributes: Attributes) -> Counted:
    """Count the words of a document: distinct digests, ascending, and how often each occurs, the named ones twofold.

    The id, and every attribute that has a digit and so may be an article number, are also there as a whole.
    """
    counts: dict[str, int] = {}
    for text in (id, title, *_texts(attributes)):
        _count(counts, text, NAMED)
    _count(counts, description, TOLD)
    found = {digest(word): min(count, MAX_COUNT) for word, count in counts.items()}
    codes = (text for text in _texts(attributes) if len(text) <= MAX_CODE and any(character.isdigit() for character in text))
    found |= dict.fromkeys((whole(id), *map(whole, codes)), NAMED)
    return _arrays(found)


def _count(counts: dict[str, int], text: str, weight: int) -> None:
    for word in words(text):
        before = counts.get(word, 0)
        if not before and len(counts) >= MAX_WORDS:
            return
        counts[word] = before + weight


def _texts(attributes: Attributes) -> Iterator[str]:
    for value in attributes.values():
        if isinstance(value, str):
            yield value
        elif isinstance(value, tuple):
            yield from value
        elif isinstance(value, int) and not isinstance(value, bool) and value >= LONG_NUMBER:
            yield str(value)


def _arrays(found: Mapping[int, int]) -> Counted:
    digests = np.fromiter(found, np.uint64, len(found))
    order = np.argsort(digests)
    return digests[order], np.fromiter(found.values(), np.uint8, len(found))[order]


def asked(texts: Sequence[str]) -> list[str]:
    """List the distinct words of a query, in order."""
    return list(dict.fromkeys(word for text in texts for word in words(text, single=False)))
