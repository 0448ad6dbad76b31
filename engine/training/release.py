"""The last steps of a bundle: measure what was exported, fit its confidence, write its card.

Everything here runs the exported bundle through the serving encoder, so the figures are those a user gets.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine.confidence import FILE
from engine.encoders.bundle import Bundle
from engine.encoders.openvino import OpenVINOEncoder
from engine.training.calibrate import calibrate
from engine.training.embedding import encode_pictures
from engine.training.evaluate import Recall, retrieval_report
from engine.training.export import finish_bundle
from engine.training.features import Progress
from engine.training.pairs import Item, Pairs


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
    image, parameters = manifest.image_tower, manifest.parameters
    finish_bundle(bundle, name=manifest.name, image=image, parameters=parameters, training=training | {"figures": figures})
    return bundle


def plain(report: dict[str, dict[str, Recall]]) -> dict[str, dict[str, dict[str, float]]]:
    """Give a report as plain numbers, for files."""
    return {name: {direction: figures.as_dict() for direction, figures in both.items()} for name, both in report.items()}
