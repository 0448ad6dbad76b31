"""What is not drawn: blocked concepts, found in the words of a prompt and in what vectors mean.

Here belongs the refusal and its rule. Pictures are scored in `engine.generation.nudity`; what may come into a catalogue is decided
in `engine.moderation`. The lists are beside this module: `concepts.tsv` and, as the other side of the line, `benign.txt`.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from engine.datatypes import Query, Vectors
from engine.errors import ConfigurationError, GenerationRefused
from engine.protocols import Encoder

CONCEPTS = Path(__file__).parent / "concepts.tsv"
BENIGN = Path(__file__).parent / "benign.txt"
MARGIN = 0.09
"""How much nearer a request must be to a blocked concept than the nearest harmless one is. Measured: docs/decisions/0060."""

REMEMBERED = 1_000  # texts, as the same searches come again and again; reading one takes 60 microseconds

_ACCENTS = re.compile(r"[\u0300-\u036f]")
_SPELT = re.compile(r"\b(?!a )\w(?: \w\b)+")
_MIXED = re.compile(r"[a-z0-9@$]*[a-z][a-z0-9@$]*")
_LOOKALIKES = str.maketrans("абвеіјкмнорсѕтухαεηικνορτυχ", "abbeijkmhopcstyxaenikvoptux")
_DIGITS = str.maketrans("013457@$", "oieastas")
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")


class ConceptList:
    """Blocked concepts: pairs of a rule and the words it forbids."""

    def __init__(self, entries: Sequence[tuple[str, str]]) -> None:
        self.entries = tuple(entries)
        self._patterns = [(rule, re.compile(_pattern(words))) for rule, words in self.entries]
        self._known = lru_cache(REMEMBERED)(self._broken_by)

    def rule_for(self, text: str) -> str | None:
        """Name the rule that the words of a text break, None for none.

        Spacing, case, width, accents and punctuation do not hide them, nor do letters that only look like those of a word.
        """
        return self._known(text)

    def _broken_by(self, text: str) -> str | None:
        spellings = {_folded(text), _undisguised(text)}
        return next((rule for rule, pattern in self._patterns if any(map(pattern.search, spellings))), None)

    def rule_of(self, query: Query) -> str | None:
        """Name the rule that the words a query asks for break, None for none."""
        wanted = (term.content for term in query.terms if isinstance(term.content, str) and term.weight > 0)
        return next(filter(None, map(self.rule_for, wanted)), None)

    def check(self, text: str) -> None:
        """Raise `GenerationRefused` for words that are not drawn."""
        rule = self.rule_for(text)
        if rule is not None:
            raise refusal(rule, "the wording of the request")


@cache
def concept_list(further: Path | None = None) -> ConceptList:
    """Read the list built in, and an operator's file after it, once per process; raises `ConfigurationError` for a bad file."""
    return ConceptList([*_read_concepts(CONCEPTS), *(_read_concepts(further) if further else ())])


class MeaningCheck:
    """Finds blocked concepts in vectors of one encoder's space, where a paraphrase or a picture lies near the words.

    Each concept has its own radius: `MARGIN` beyond the nearest harmless phrase, so that encoders with other habits of cosine
    need no other numbers.
    """

    def __init__(self, encoder: Encoder, concepts: ConceptList) -> None:
        self._rules = [rule for rule, _ in concepts.entries]
        self._directions = encoder.encode_texts([words for _, words in concepts.entries])
        nearest = (encoder.encode_texts(_benign()) @ self._directions.T).max(axis=0)
        self._limits: Float32[np.ndarray, " c"] = np.minimum(nearest + MARGIN, 0.999)

    def rule_for(self, vectors: Vectors) -> str | None:
        """Name the rule that the clearest of some unit vectors breaks, None for none."""
        excess = (vectors @ self._directions.T - self._limits).max(axis=0, initial=-np.inf)
        worst = int(excess.argmax())
        return self._rules[worst] if excess[worst] >= 0 else None

    def check(self, vectors: Vectors, what: str) -> None:
        """Raise `GenerationRefused` for vectors that mean what is not drawn."""
        rule = self.rule_for(vectors)
        if rule is not None:
            raise refusal(rule, what)


def refusal(rule: str, what: str) -> GenerationRefused:
    """Make the refusal that names its rule."""
    return GenerationRefused(f"nothing is drawn: {what} breaks the rule {rule!r}, change the request", rule=rule)


def _read_concepts(path: Path) -> Iterator[tuple[str, str]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the list of blocked concepts {str(path)!r} cannot be read ({error}): check the path") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        rule, tab, words = line.partition("\t")
        if not (tab and rule.strip() and words.strip()):
            raise ConfigurationError(f"line {number} of {str(path)!r} is no `rule<TAB>words`: write it so")
        yield rule.strip(), words.strip()


def _benign() -> list[str]:
    return [line for line in BENIGN.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]


def _folded(text: str) -> str:
    """Fold case, width and accents' spelling; drop what is invisible; make every run of other characters one space."""
    bare = _ACCENTS.sub("", unicodedata.normalize("NFKD", text))
    plain = "".join(c for c in unicodedata.normalize("NFKC", bare).casefold() if unicodedata.category(c) != "Cf")
    return " ".join(re.findall(r"[\w']+", plain))


def _undisguised(text: str) -> str:
    """Fold a text further: letters of other alphabets and digits as the Latin letters they look like, letters spelt out joined."""
    latin = unicodedata.normalize("NFKC", text).casefold().translate(_LOOKALIKES)
    words = _folded(_MIXED.sub(lambda word: word[0].translate(_DIGITS), latin))
    return _SPELT.sub(lambda spelt: spelt[0].replace(" ", ""), words)


def _pattern(words: str) -> str:
    """Match the words whole, plurals included; in scripts without spaces, anywhere, spaces between characters or not."""
    folded = _folded(words)
    if _CJK.search(folded):
        return r"\s?".join(re.escape(c) for c in folded.replace(" ", ""))
    return rf"\b{re.escape(folded)}(s|es)?\b"
