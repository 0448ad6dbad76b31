"""The corpus of a training run: items, their cached features, and lookups from captions to cached texts."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64

from engine.encoders.texts import TextReader, select
from engine.encoders.towers import Backbone, ImageShape, ImageTower, TextShape, TextTower, Towers
from engine.training.features import Cut, MapJob, Progress, StateJob, States, cache_maps, cache_states, pooled_of
from engine.training.imagenet import class_captions
from engine.training.pairs import Caption, Pairs
from engine.training.pretrained import Classifier, TextModel, load_image_weights, load_text_weights, read_text_model
from engine.training.sources import read_default
from engine.training.teacher import english, sentence_vectors, teach
from engine.training.views import CachedView, View, Views
from engine.training.vocabulary import build_tokenizer, choose_pieces

KIND_DELAY = {"multi30k": 1, "ja_mt": 2, "tag": 3}
LANGUAGE_DELAY = {"en": 0, "zh": 0, "de": 1}
OTHER_LANGUAGE = 2


@dataclass(frozen=True, slots=True)
class ObjectTexts:
    """Cached texts that name one general object. `everyday` ones have names in several languages and are drawn more often."""

    english: Int64[np.ndarray, " m"]
    every: Int64[np.ndarray, " n"]

    @property
    def everyday(self) -> bool:
        """Say whether a shop is likely to sell it."""
        return len(self.every) > len(self.english)


@dataclass(frozen=True, slots=True)
class Corpus:
    """Everything a run reads. `text_rows[j]` is the cached text of caption `j`; `objects[k]` the texts of ImageNet class `k`.

    `views` hold what the pictures are at the image tower's cut, `pooled` what the untrained tower makes of each. `teacher` has a
    row for every cached text.
    """

    pairs: Pairs
    texts: tuple[str, ...]
    text_rows: Int64[np.ndarray, " n"]
    objects: tuple[ObjectTexts, ...]
    views: Views
    pooled: Float32[np.ndarray, "i f"]
    states: States
    classifier: Classifier
    teacher: Float32[np.ndarray, "t w"]

    def usable(self) -> Bool[np.ndarray, " n"]:
        """Say which captions have cached states."""
        return self.text_rows < self.states.done

    def rows_of(self, texts: Sequence[str]) -> Int64[np.ndarray, " m"]:
        """Find texts among the cached ones."""
        index = {text: row for row, text in enumerate(self.texts)}
        return np.array([index[text] for text in texts], np.int64)


def pretrained_towers() -> tuple[Towers, Classifier, TextModel]:
    """Build both towers with the weights training starts from."""
    image, text, model = ImageTower(ImageShape()), TextTower(TextShape()), read_text_model()
    classifier = load_image_weights(image)
    load_text_weights(text, model)
    return Towers(image.eval(), text.eval()), classifier, model


def prepare(data: Path, work: Path, cut: Cut, towers: Towers, sources: tuple[Classifier, TextModel], progress: Progress) -> Corpus:
    """Read the data, choose the vocabulary, and compute whatever features are not cached yet."""
    classifier, model = sources
    pairs = Pairs.build(read_default(data))
    objects = class_captions()
    every = [*pairs.captions, *(caption for captions in objects for caption in captions)]
    texts = order_texts(every)
    reader = prepare_vocabulary(model, texts, work, towers.text.positions.shape[0])
    with torch.no_grad():
        views = cache_views(towers.image, pairs, cut.block, work, progress)
        pooled = pooled_of(towers.image, views.plain.features, cut.block)
        states = cache_states(towers.text, StateJob(reader, texts, cut.layer), work, 0, progress)
    index = {text: row for row, text in enumerate(texts)}
    text_rows = np.array([index[caption.text] for caption in pairs.captions], np.int64)
    taught = english(every)
    vectors = dict(zip(taught, sentence_vectors(taught, work, 0, progress), strict=True))
    teacher = teach(every, index, vectors)
    return Corpus(pairs, tuple(texts), text_rows, object_texts(objects, index), views, pooled, states, classifier, teacher)


def cache_views(tower: Backbone, pairs: Pairs, block: int, work: Path, progress: Progress) -> Views:
    """Cache all pictures as they are, those of training mirrored, and the photos of training cropped: products fill their frame."""
    paths = [item.image for item in pairs.items]
    train = np.array([row for row, item in enumerate(pairs.items) if item.split == "train"])
    photos = np.array([row for row in train if pairs.items[row].source == "flickr8k"], np.int64)

    def cached(view: View, rows: Int64[np.ndarray, " n"]) -> CachedView:
        return cache_maps(tower, MapJob(paths, rows, ImageShape().size, block, view), work, 0, progress)

    others: dict[View, CachedView] = {"flipped": cached("flipped", train)}
    if len(photos):
        others["cropped"] = cached("cropped", photos)
    return Views(cached("plain", np.arange(len(paths))), others)


def object_texts(objects: Sequence[Sequence[Caption]], index: Mapping[str, int]) -> tuple[ObjectTexts, ...]:
    """Find the names of each object among the cached texts."""
    return tuple(
        ObjectTexts(
            np.array([index[c.text] for c in captions if c.language == "en"], np.int64),
            np.array([index[c.text] for c in captions], np.int64),
        )
        for captions in objects
    )


def order_texts(captions: Sequence[Caption]) -> list[str]:
    """List every distinct text once, the ones training needs most first."""
    places = places_of(captions)
    return sorted(places, key=lambda text: (places[text], text))


def places_of(captions: Sequence[Caption]) -> dict[str, int]:
    """Say how soon training needs each distinct text; 0 are the English and Chinese ones."""
    places: dict[str, int] = {}
    for caption in captions:
        place = KIND_DELAY.get(caption.kind, 0) + LANGUAGE_DELAY.get(caption.language, OTHER_LANGUAGE)
        places[caption.text] = min(place, places.get(caption.text, place))
    return places


def with_deeper_states(corpus: Corpus, layer: int, work: Path, progress: Progress) -> Corpus:
    """Swap the token states for those after `layer`, of the texts that training needs first; the others fall out of use.

    The text tower up to `layer` is the pretrained one: whoever trained it further must not call this.
    """
    towers, _, _ = pretrained_towers()
    places = places_of([*corpus.pairs.captions, *(caption for captions in class_captions() for caption in captions)])
    first = sum(place == 0 for place in places.values())
    reader = TextReader.load(work / "tokenizer.json", work / "tokens.npy", towers.text.positions.shape[0])
    with torch.no_grad():
        states = cache_states(towers.text, StateJob(reader, corpus.texts[:first], layer), work, 0, progress)
    objects = tuple(ObjectTexts(o.english[o.english < first], o.every[o.every < first]) for o in corpus.objects)
    return replace(corpus, states=states, objects=objects)


def prepare_vocabulary(model: TextModel, texts: Sequence[str], work: Path, max_tokens: int) -> TextReader:
    """Choose the pieces, write tokenizer and token table into the work folder, and open them."""
    work.mkdir(parents=True, exist_ok=True)
    chosen = work / "pieces.json"
    if chosen.exists():
        rows = np.array(json.loads(chosen.read_text()), np.int64)
    else:
        rows = choose_pieces(model, texts)
        chosen.write_text(json.dumps(rows.tolist()))
    build_tokenizer(model, rows).save(str(work / "tokenizer.json"), pretty=False)
    np.save(work / "tokens.npy", select(model.table, rows))
    return TextReader.load(work / "tokenizer.json", work / "tokens.npy", max_tokens)
