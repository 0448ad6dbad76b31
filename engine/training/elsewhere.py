"""Words for things that some shop sells, in English and Chinese: the concepts a result is likened to.

They are also the background of queries where there are no training data.
"""

import csv
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from engine.datatypes import Vectors
from engine.training.lexicon import Lexicon

LANGUAGES = ("en", "zh")


def everyday_words() -> list[str]:
    """List the nouns of the lexicon and of the table of objects, each once, in a fixed order."""
    return sorted({name for names in _concepts() for name in names})


def concept_vectors(encode: Callable[[Sequence[str]], Vectors]) -> Vectors:
    """Embed every concept: a unit vector in the middle of its names in all languages."""
    words = everyday_words()
    vectors = dict(zip(words, encode(words), strict=True))
    middles = np.stack([np.mean([vectors[name] for name in names], axis=0) for names in _concepts()])
    unit: Vectors = middles / np.maximum(np.linalg.norm(middles, axis=1, keepdims=True), 1e-9)
    return unit


def _concepts() -> Iterator[list[str]]:
    """Give the names of each type and family of the lexicon and of each object of the table."""
    for (kind, _), names in Lexicon.load().words.items():
        if kind in ("type", "family"):
            yield [word for language in LANGUAGES for word in names[language] if word]
    with Path(__file__).with_name("objects.tsv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            yield [word for language in LANGUAGES for word in row[language].split("/") if word]
