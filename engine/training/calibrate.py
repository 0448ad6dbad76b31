"""The confidence of a bundle, fitted: curves on queries with and without an answer, thresholds by conformal risk control.

Half of the queries fit a curve, the figures are those of the other half, of which one part sets the threshold; which half a query
is in is drawn by its meaning. The curve is a plain logistic: isotonic steps on top of it fitted noise (docs/decisions/0070).
scikit-learn is needed here only: what runs is arithmetic on the numbers that are written. The queries are made in
`engine.training.asked`, the figures in `engine.training.reliability`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64
from PIL import Image, ImageEnhance

from engine.confidence import (
    CURVES,
    FILE,
    KIND,
    NONSENSE_BELOW,
    Calibration,
    Calibrator,
    CurveName,
    Sense,
    standardised,
    threshold_for,
)
from engine.datatypes import DIMENSIONS, Vectors
from engine.encoders.bundle import read_manifest, record, write_manifest
from engine.errors import MissingExtra
from engine.evidence import FEATURES, Background
from engine.protocols import Encoder
from engine.training.asked import (
    CONDITIONS,
    QUERY_KINDS,
    TITLE_KINDS,
    Asker,
    Case,
    EncodeTexts,
    Shop,
    foreign_captions,
    foreign_cases,
    nonsense,
    picture_cases,
    word_cases,
)
from engine.training.elsewhere import concept_vectors
from engine.training.pairs import Item
from engine.training.reliability import figures_of, mix_weights

try:
    from sklearn.linear_model import LogisticRegression
except ImportError:
    raise MissingExtra("fitting a confidence curve", "lab") from None

MIX = dict(zip(CONDITIONS, (0.6, 0.1, 0.1, 0.1, 0.1), strict=True))
RISK: dict[CurveName, float] = {"titled": 0.15, "untitled": 0.3, "picture": 0.1}
BANK_PER_KIND = 120
PICTURES_ELSEWHERE = {"fashion": 800, "flickr8k": 300, "emoji": 200}
TITLES_ELSEWHERE = {"fashion": 1_000, "flickr8k": 300, "emoji": 200}
PICTURES_ASKED = 300
FOREIGN_WORDS = 300
SENSIBLE_WORDS = 600
NONSENSE_WORDS = 600
FIT, SET = (0, 1), 2
TITLE = FEATURES.index("title_best")


def calibrate(encoder: Encoder, items: Sequence[Item], images: Vectors, seed: int = 0) -> Calibration:
    """Fit every curve of an encoder on the validation items; `images` holds one row an item, those of other splits are not read."""
    random = np.random.default_rng(seed)
    background = _background(encoder, items, random)
    validation = [row for row, item in enumerate(items) if item.split == "val"]
    held, vectors = [items[row] for row in validation], images[validation]
    cases: dict[CurveName, list[Case]] = {name: [] for name in CURVES}
    silly = [nonsense(random) for _ in range(NONSENSE_WORDS)]
    nonsensical = encoder.encode_texts(silly)
    for shop in _shops(held, vectors, encoder.encode_texts):
        asker = Asker(shop, background, random)
        cases[shop.curve] += word_cases(asker, encoder.encode_texts)
        cases[shop.curve] += _foreign_words(asker, items, encoder.encode_texts, random)
        chosen = random.choice(len(silly), FOREIGN_WORDS, replace=False)
        cases[shop.curve] += foreign_cases(asker, "nonsense", nonsensical[chosen], [("", "", silly[row]) for row in chosen])
    for source in ("fashion", "flickr8k"):
        cases["picture"] += _picture_cases(encoder, (held, vectors), source, background, random)
    curves = {name: fit(found, RISK[name]) for name, found in cases.items() if found}
    real = np.concatenate([background.queries, _sensible(items, encoder.encode_texts, random)])
    sense, told = fit_sense(real, nonsensical, random)
    figures: dict[str, Any] = {name: figures_of(cases[name], curves[name], MIX, seed) for name in curves}
    return Calibration(
        encoder.fingerprint,
        curves,
        sense,
        background.queries,
        background.pictures,
        background.titles,
        background.concepts,
        {**figures, "sense": told},
    )


def put_into(bundle: Path, calibration: Calibration) -> None:
    """Put a calibration into a bundle and list it in the manifest, which is written last."""
    calibration.save(bundle / FILE)
    manifest = read_manifest(bundle)
    write_manifest(bundle, replace(manifest, files={**manifest.files, FILE: record(bundle / FILE)}))


def fit(cases: Sequence[Case], risk: float) -> Calibrator:
    """Fit one curve and set its threshold; raises `ValueError` unless there are results with and without an answer."""
    described, answered = np.stack([case.described for case in cases]), np.array([case.answered for case in cases])
    folds, weights = np.array([case.fold for case in cases]), mix_weights(cases, MIX)
    fitted = np.isin(folds, FIT)
    if answered[fitted].all() or not answered[fitted].any():
        raise ValueError("calibration needs results with and without a relevant product: give both")
    means, deviations = described[fitted].mean(0), np.maximum(described[fitted].std(0), 1e-6)
    standard = standardised(described[fitted], means, deviations)
    # Where titles are compared too, tilts gain little and cost calibration; pictures have captions of no kind.
    tilted = cases[0].kind != "picture" and not described[:, TITLE].any()
    seen = np.concatenate([standard, standard * np.tanh(standard[:, KIND, None])], 1) if tilted else standard
    model = LogisticRegression(C=0.1 if tilted else 1.0, max_iter=1_000)  # twice as many weights want to be held a little
    model.fit(seen, answered[fitted], sample_weight=weights[fitted])
    curve = Calibrator(
        tuple(map(float, model.coef_[0][: len(means)])),
        float(model.intercept_[0]),
        tuple(map(float, means)),
        tuple(map(float, deviations)),
        tilts=tuple(map(float, model.coef_[0][len(means) :])),
    )
    setting = folds == SET
    said = curve.probability(described[setting])
    threshold = threshold_for(said, (~answered[setting]).astype(np.float64), weights[setting], risk)
    return replace(curve, threshold=threshold, risk=risk)


def bank_texts(items: Sequence[Item], random: np.random.Generator) -> list[str]:
    """Choose background queries from the training captions: of every kind and language some, the plainest everyday ones first."""
    kinds: dict[tuple[str, str], list[str]] = {}
    for item in items:
        for caption in item.captions if item.split == "train" else ():
            plain = caption.kind == "query" and caption.key.endswith("||")
            if caption.language in ("en", "zh"):
                kinds.setdefault((caption.language, "plain" if plain else caption.kind), []).append(caption.text)
    chosen: list[str] = []
    for kind in sorted(kinds):
        distinct = sorted(set(kinds[kind]))
        chosen += [str(text) for text in random.permutation(distinct)[:BANK_PER_KIND]]
    return [str(text) for text in random.permutation(list(dict.fromkeys(chosen)))]


def _background(encoder: Encoder, items: Sequence[Item], random: np.random.Generator) -> Background:
    """Embed what is asked for and sold elsewhere, from training data."""
    pictures: list[Item] = []
    titles: list[str] = []
    for source in QUERY_KINDS:
        there = [item for item in items if (item.source, item.split) == (source, "train")]
        pictures += [there[row] for row in random.permutation(len(there))[: PICTURES_ELSEWHERE[source]]]
        named = sorted({title for item in there if (title := _title(item))})
        titles += [str(title) for title in random.permutation(named)[: TITLES_ELSEWHERE[source]]]
    mixed = [pictures[row] for row in random.permutation(len(pictures))]  # the first of them are the null of pictures
    words, named_by = encoder.encode_texts(bank_texts(items, random)), encoder.encode_texts(titles)
    return Background(words, _embed(encoder, mixed, None), named_by, concept_vectors(encoder.encode_texts))


def _title(item: Item) -> str:
    """Give the text that names an item in English; a photo is named by its first caption."""
    return next((c.text for c in item.captions if c.kind in (*TITLE_KINDS, "caption") and c.language == "en"), "")


def _embed(encoder: Encoder, items: Sequence[Item], random: np.random.Generator | None) -> Vectors:
    vectors = np.zeros((len(items), DIMENSIONS), np.float32)
    for start in range(0, len(items), 32):
        chunk = items[start : start + 32]
        vectors[start : start + len(chunk)] = encoder.encode_images([another_view(item.image, random) for item in chunk])
    return vectors


def another_view(path: Path, random: np.random.Generator | None) -> Image.Image:
    """Open a picture; with `random` as somebody else might have taken it: nearer, mirrored, in another light."""
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    if random is None:
        return image
    width, height = image.size
    share = random.uniform(0.6, 0.95)
    left, top = random.uniform(0, 1 - share), random.uniform(0, 1 - share)
    image = image.crop((int(left * width), int(top * height), int((left + share) * width), int((top + share) * height)))
    if random.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    image = ImageEnhance.Brightness(image).enhance(random.uniform(0.7, 1.3))
    return ImageEnhance.Color(image).enhance(random.uniform(0.6, 1.4))


def _shops(items: Sequence[Item], images: Vectors, encode: EncodeTexts) -> Iterator[Shop]:
    for source in QUERY_KINDS:
        rows = [row for row, item in enumerate(items) if item.source == source]
        if rows:
            chosen = [items[row] for row in rows]
            if source != "emoji":  # their titles are short names, as in many shops; without them there is little to ask
                yield Shop.open(source, chosen, images[rows], None)
            titled = Shop.open(source, chosen, images[rows], encode)
            if titled.titles is not None:
                yield titled


def _foreign_words(asker: Asker, items: Sequence[Item], encode: EncodeTexts, random: np.random.Generator) -> Iterator[Case]:
    captions = foreign_captions([item for item in items if item.split == "val" or item.source == "emoji"], asker.shop.source)
    short = [caption for caption in captions if caption.kind in ("label", "query")]
    long = [caption for caption in captions if caption.kind not in ("label", "query")]
    for some in (short, long):
        chosen = [some[row] for row in random.permutation(len(some))[: FOREIGN_WORDS // 2]]
        if chosen:
            labels = [(caption.language, caption.kind, caption.text) for caption in chosen]
            yield from foreign_cases(asker, "out of catalogue", encode([caption.text for caption in chosen]), labels)


def _picture_cases(
    encoder: Encoder, held: tuple[Sequence[Item], Vectors], source: str, background: Background, random: np.random.Generator
) -> Iterator[Case]:
    items, vectors = held
    rows = [row for row, item in enumerate(items) if item.source == source]
    if not rows:
        return
    shop = Shop.open(source, [items[row] for row in rows], vectors[rows], None)
    asker = Asker(shop, replace(background, queries=background.pictures), random, pictures=True)
    shown = random.permutation(len(rows))[:PICTURES_ASKED].astype(np.int64)
    yield from picture_cases(asker, _embed(encoder, [shop.pairs.items[row] for row in shown], random), shown)
    others = np.array([row for row, item in enumerate(items) if item.source != source], np.int64)
    chosen: Int64[np.ndarray, " q"] = random.permutation(others)[:PICTURES_ASKED]
    labels = [("", "picture", items[row].id) for row in chosen]
    yield from foreign_cases(asker, "out of catalogue", vectors[chosen], labels)
    noise = [_noise(random) for _ in range(PICTURES_ASKED // 3)]
    yield from foreign_cases(asker, "nonsense", encoder.encode_images(noise), [("", "noise", str(i)) for i in range(len(noise))])


def _noise(random: np.random.Generator) -> Image.Image:
    """Draw what no camera takes: coarse or fine noise around some colour."""
    side = int(random.choice([1, 4, 16, 128]))
    pixels = np.clip(random.normal(random.uniform(0, 255, 3), random.uniform(5, 90), (side, side, 3)), 0, 255)
    return Image.fromarray(pixels.astype(np.uint8)).resize((224, 224), Image.Resampling.BILINEAR)


def fit_sense(real: Vectors, nonsensical: Vectors, random: np.random.Generator) -> tuple[Sense, dict[str, float]]:
    """Fit the curve that knows nonsense on half of both kinds; says which shares of the other half it keeps and catches."""
    rows = np.concatenate([real, nonsensical])
    sensible = np.arange(len(rows)) < len(real)
    fitted = random.random(len(rows)) < 0.5
    model = LogisticRegression(C=10.0, max_iter=1_000, class_weight="balanced").fit(rows[fitted], sensible[fitted])
    sense = Sense(model.coef_[0].astype(np.float32), float(model.intercept_[0]))
    told = np.array([sense.probability(row) >= NONSENSE_BELOW for row in rows[~fitted]])
    right = sensible[~fitted]
    return sense, {"kept": round(float(told[right].mean()), 4), "caught": round(float(1 - told[~right].mean()), 4)}


def _sensible(items: Sequence[Item], encode: EncodeTexts, random: np.random.Generator) -> Vectors:
    texts = sorted({c.text for item in items for c in item.captions if item.split == "val" and c.kind != "tag"})
    return encode([str(text) for text in random.permutation(texts)[:SENSIBLE_WORDS]])
