"""A smaller vocabulary for the text tower: which of XLM-R's 250,002 pieces are kept, and the tokenizer over them.

Kept are all single characters of every script (so nothing typed becomes unknown), everything the training texts use, and
the most frequent pieces of each script of the languages served. A pruned word falls back to shorter pieces. The tokenizer
holds about a kilobyte of memory a piece, so the limits below are what a serving process can afford.
"""

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable

import numpy as np
from jaxtyping import Int64
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from engine.training.pretrained import TextModel

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
META = "▁"
DEFAULT_LIMIT = 0
SCRIPT_LIMITS = {
    "LATIN": 28_000,
    "CYRILLIC": 7_000,
    "CJK": 9_000,
    "ARABIC": 2_500,
    "DEVANAGARI": 2_500,
    "HANGUL": 2_500,
    "HEBREW": 800,
    "GREEK": 1_500,
    "THAI": 2_000,
    "BENGALI": 1_200,
    "HIRAGANA": 1_200,
    "KATAKANA": 700,
    "DIGIT": 700,
    "OTHER": 1_000,
}
DROPPED_SCRIPTS = frozenset(
    "MALAYALAM GEORGIAN ARMENIAN SINHALA TELUGU ETHIOPIC KANNADA TAMIL MYANMAR GUJARATI KHMER ORIYA GURMUKHI LAO".split()
)


def script_of(piece: str) -> str:
    """Name the script most of a piece's characters belong to, `OTHER` for symbols."""
    names = (unicodedata.name(character, "?").split()[0] for character in piece if character != META)
    script = Counter(names).most_common(1)[0][0] if piece.strip(META) else "OTHER"
    return script if script in SCRIPT_LIMITS or script in DROPPED_SCRIPTS else "OTHER"


def choose_pieces(model: TextModel, texts: Iterable[str]) -> Int64[np.ndarray, " m"]:
    """Choose the rows of the pruned vocabulary, in the original order; the first four are the special pieces."""
    keep = set(range(len(SPECIAL)))
    keep.update(_used_pieces(model, texts))
    ranked: dict[str, list[int]] = defaultdict(list)
    for row in np.argsort(-model.scores[: len(model.pieces)], kind="stable"):
        ranked[script_of(model.pieces[row])].append(int(row))
    for script, rows in ranked.items():
        keep.update(rows[: SCRIPT_LIMITS.get(script, DEFAULT_LIMIT)])
    keep.update(row for row, piece in enumerate(model.pieces) if len(piece.lstrip(META)) <= 1)
    keep.discard(len(model.pieces) - 1 if model.pieces[-1] == "<mask>" else -1)
    return np.array(sorted(keep), np.int64)


def _used_pieces(model: TextModel, texts: Iterable[str]) -> set[int]:
    tokenizer = build_tokenizer(model, np.arange(len(model.pieces)))
    return {token for encoding in tokenizer.encode_batch_fast(list(texts)) for token in encoding.ids}


def build_tokenizer(model: TextModel, rows: Int64[np.ndarray, " m"]) -> Tokenizer:
    """Build the unigram tokenizer over the chosen pieces, normalised as SentencePiece's nmt_nfkc does."""
    pieces = [(model.pieces[row], float(model.scores[row])) for row in rows]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=SPECIAL.index("<unk>"), byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Replace(Regex(r"[\t\n\f\r\x{1680}\x{200b}-\x{200f}\x{2028}\x{2029}\x{2581}\x{feff}\x{fffd}]"), " "),
            normalizers.Replace(Regex(r"[\x00-\x1f\x7f\x{8f}\x{9f}]"), ""),
            normalizers.NFKC(),
        ]
    )
    split = pre_tokenizers.WhitespaceSplit()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.Metaspace(META, "always")])
    ends = [("<s>", SPECIAL.index("<s>")), ("</s>", SPECIAL.index("</s>"))]
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
    return tokenizer
