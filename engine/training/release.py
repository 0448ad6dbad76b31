"""The last steps of a bundle: measure what was exported, fit its confidence, write its card.

Everything here runs the exported bundle through the serving encoder, so the figures are those a user gets.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from engine.confidence import FILE
from engine.datatypes import DIMENSIONS, Vectors
from engine.encoders.bundle import Bundle
from engine.encoders.openvino import OpenVINOEncoder
from engine.training.calibrate import calibrate
from engine.training.evaluate import Recall, retrieval_report
from engine.training.export import finish_bundle
from engine.training.features import Progress
from engine.training.pairs import Item, Pairs, Split

PICTURES_PER_CALL = 64


def encode_pictures(encoder: OpenVINOEncoder, items: Sequence[Item], splits: set[Split], progress: Progress) -> Vectors:
    """Embed the pictures of some splits from their files; the other rows stay zero."""
    vectors = np.zeros((len(items), DIMENSIONS), np.float32)
    rows = [row for row, item in enumerate(items) if item.split in splits]
    for start in range(0, len(rows), PICTURES_PER_CALL):
        chosen = rows[start : start + PICTURES_PER_CALL]
        vectors[chosen] = encoder.encode_images([Image.open(items[row].image) for row in chosen])
        progress("pictures of the bundle", start, len(rows))
    return vectors


def release(bundle: Path, items: Sequence[Item], training: dict[str, Any], progress: Progress) -> Path:
    """Evaluate an exported bundle on validation and test data, calibrate it, and write manifest and card anew.

    Test data are only measured: nothing here chooses by them.
    """
    encoder = OpenVINOEncoder.load(bundle)
    images = encode_pictures(encoder, items, {"val", "test"}, progress)
    pairs = Pairs.build(items)
    figures = plain(retrieval_report(pairs, images, encoder.encode_texts, "val"))
    figures |= plain(retrieval_report(pairs, images, encoder.encode_texts, "test"))
    calibrate(encoder, items, images).save(bundle / FILE)
    manifest = Bundle.load(bundle).manifest
    finish_bundle(bundle, name=manifest.name, parameters=manifest.parameters, training=training | {"figures": figures})
    return bundle


def plain(report: dict[str, dict[str, Recall]]) -> dict[str, dict[str, dict[str, float]]]:
    """Give a report as plain numbers, for files."""
    return {name: {direction: figures.as_dict() for direction, figures in both.items()} for name, both in report.items()}
