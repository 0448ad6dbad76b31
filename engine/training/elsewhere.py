"""Words for things that some shop sells, in English and Chinese: a background of queries where there are no training data."""

import csv
from pathlib import Path

from engine.training.lexicon import Lexicon

LANGUAGES = ("en", "zh")


def everyday_words() -> list[str]:
    """List the nouns of the lexicon and of the table of objects, each once, in a fixed order."""
    words = [
        word
        for (kind, _), names in Lexicon.load().words.items()
        if kind in ("type", "family")
        for lang in LANGUAGES
        for word in names[lang]
    ]
    with Path(__file__).with_name("objects.tsv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            words += [word for language in LANGUAGES for word in row[language].split("/")]
    return sorted({word for word in words if word})
