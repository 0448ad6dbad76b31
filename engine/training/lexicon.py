"""Everyday shop queries in six languages, made from a product's type, colour and gender.

The words are in `lexicon.tsv`, one concept a row, variants separated by a slash. A query's key is its meaning, so "red
shoes" and its translations are one query and every red shoe is a right answer.
"""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path

LANGUAGES = ("en", "zh", "de", "fr", "es", "ja")
COLOUR_FIRST = frozenset({"en", "zh", "de", "ja"})
UNSPACED = frozenset({"zh", "ja"})

Words = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class ShopQuery:
    """One short query and what it means."""

    text: str
    language: str
    key: str


@dataclass(frozen=True, slots=True)
class Lexicon:
    """Words for product types, their families, colours and genders, by language."""

    words: Mapping[tuple[str, str], Words]
    families: Mapping[str, tuple[str, ...]]

    @classmethod
    def load(cls) -> "Lexicon":
        """Read the table beside this module."""
        with Path(__file__).with_name("lexicon.tsv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
        words = {(row["kind"], row["name"]): {lang: tuple(row[lang].split("/")) for lang in LANGUAGES} for row in rows}
        families = {row["name"]: tuple(row["families"].split()) for row in rows if row["kind"] == "type"}
        return cls(words, families)

    def queries(self, row: Mapping[str, str]) -> Iterator[ShopQuery]:
        """Make the queries that a product with this `articleType`, `baseColour` and `gender` answers."""
        concepts = [("type", row["articleType"]), *(("family", f) for f in self.families.get(row["articleType"], ()))]
        colours = [("colour", row["baseColour"]), ("colour", "")]
        genders = [("gender", row["gender"]), ("gender", "")]
        for concept, colour, gender in product(concepts, colours, genders):
            if concept in self.words and all(self._known(part) for part in (colour, gender)):
                for language in LANGUAGES:
                    yield from self._phrases(language, concept, colour, gender)

    def _known(self, part: tuple[str, str]) -> bool:
        return not part[1] or part in self.words

    def _phrases(
        self, language: str, concept: tuple[str, str], colour: tuple[str, str], gender: tuple[str, str]
    ) -> Iterator[ShopQuery]:
        key = f"query:{':'.join(concept)}|{colour[1]}|{gender[1]}"
        nouns, tints, sexes = (self.words[part][language] if part[1] else ("",) for part in (concept, colour, gender))
        for number, noun in enumerate(nouns):
            text = phrase(language, noun, tints[number % len(tints)], sexes[number % len(sexes)])
            yield ShopQuery(text, language, key)


def phrase(language: str, noun: str, colour: str, gender: str) -> str:
    """Put the words in the order a customer of that language types them."""
    described = (colour, noun) if language in COLOUR_FIRST else (noun, colour)
    trailing = " " in gender or gender.startswith(("für", "pour", "para"))
    words = (*described, gender) if trailing else (gender, *described)
    return ("" if language in UNSPACED else " ").join(word for word in words if word)
