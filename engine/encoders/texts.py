"""Texts to token embeddings: the tokenizer and the table of token vectors of a bundle, without torch.

The table stays on disk, memory-mapped, four bits a weight: a query touches a few kilobytes of it. The encoder that
follows is in `engine.encoders.openvino` and `engine.encoders.towers`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64, UInt8
from tokenizers import Tokenizer

GROUP = 32
PREFIX = "query: "
MAX_CHARACTERS = 1_000
STEP = 4
"""Texts are padded to a multiple of so many tokens: OpenVINO keeps kernels for every shape it has met, some 0.7 MB each."""


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """Texts of similar length as the tower takes them: zero rows and a zero mask where a text has ended."""

    embeddings: Float32[np.ndarray, "b t w"]
    mask: Float32[np.ndarray, "b t"]


class TextReader:
    """Reads texts into token vectors. Safe to call from several threads."""

    def __init__(self, tokenizer: Tokenizer, table: UInt8[np.ndarray, "v bytes"], max_tokens: int) -> None:
        self._tokenizer = tokenizer
        self._table = table
        self._max_tokens = max_tokens
        self._tokenizer.enable_truncation(max_tokens)
        self._tokenizer.no_padding()

    @classmethod
    def load(cls, tokenizer: Path, table: Path, max_tokens: int) -> "TextReader":
        """Open a tokenizer and map its table of packed token vectors."""
        return cls(Tokenizer.from_file(str(tokenizer)), np.load(table, mmap_mode="r"), max_tokens)

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokenise; long texts are cut, an empty one keeps the prefix and the two end marks."""
        cut = [PREFIX + printable(text[:MAX_CHARACTERS]) for text in texts]
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(cut)]

    def padded(self, tokens: int) -> int:
        """Say how long a text of so many tokens is after padding."""
        return min(-(-tokens // STEP) * STEP, self._max_tokens)

    def batch(self, ids: Sequence[Sequence[int]]) -> TokenBatch:
        """Look tokens up and pad to the longest text, and further to a multiple of `STEP`."""
        longest = self.padded(max(map(len, ids)))
        mask = np.zeros((len(ids), longest), np.float32)
        padded = np.zeros((len(ids), longest), np.int64)
        for row, tokens in enumerate(ids):
            padded[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = 1.0
        embeddings = unpack(self._table[padded.reshape(-1)]).reshape(len(ids), longest, -1)
        return TokenBatch(embeddings * mask[:, :, None], mask)


def printable(text: str) -> str:
    """Drop what UTF-8 cannot carry: halves of surrogate pairs."""
    return text.encode("utf-8", "ignore").decode()


def unpack(rows: UInt8[np.ndarray, "v bytes"]) -> Float32[np.ndarray, "v w"]:
    """Unpack 4-bit rows: groups of 32 weights, each a float16 scale and 16 bytes (llama.cpp's Q4_0 layout)."""
    groups = rows.reshape(len(rows), -1, 2 + GROUP // 2)
    scale = np.ascontiguousarray(groups[:, :, :2]).view(np.float16).astype(np.float32)
    nibbles = groups[:, :, 2:]
    weights = np.concatenate([nibbles & 15, nibbles >> 4], axis=2).astype(np.float32) - 8.0
    return (weights * scale).reshape(len(rows), -1)


def select(table: UInt8[np.ndarray, "v bytes"], rows: Int64[np.ndarray, " m"]) -> UInt8[np.ndarray, "m bytes"]:
    """Keep the packed vectors of a pruned vocabulary, in its order."""
    return np.ascontiguousarray(table[rows])
