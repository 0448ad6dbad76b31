"""Write the golden vectors of the default bundle: `python tests/golden/write_encoder.py`, after a new bundle, never by a test.

They are computed by torch in float32, not by the encoder under test.
"""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from engine.build import BUNDLES
from engine.encoders.bundle import read_manifest
from engine.encoders.torch import TorchEncoder

HERE = Path(__file__).parent
PICTURES = Path(__file__).parents[2] / "examples" / "emoji" / "images"
TEXTS = (
    "red shoes",
    "a dog runs through the snow",
    "Nike Men's Blue T-Shirt",
    "笔记本电脑",
    "两个孩子在草地上玩耍",
    "ein Fahrrad am Strand",
    "赤いドレス",
    "красная сумка",
    "빨간 신발",
    "حذاء أحمر",
)


def pictures() -> dict[str, Image.Image]:
    """Take ten pictures of the example shop, evenly from all of them."""
    paths = sorted(PICTURES.iterdir())
    return {path.name: Image.open(path).convert("RGB") for path in paths[:: len(paths) // 10][:10]}


def write() -> None:
    """Encode and write both files."""
    encoder = TorchEncoder.from_bundle(BUNDLES / "default", device="cpu", precision="fp32")
    images = pictures()
    np.savez_compressed(
        HERE / "encoder.npz", texts_vectors=encoder.encode_texts(TEXTS), images=encoder.encode_images(list(images.values()))
    )
    fingerprint = read_manifest(BUNDLES / "default").fingerprint
    facts = {"fingerprint": fingerprint, "texts": TEXTS, "pictures": list(images)}
    (HERE / "encoder.json").write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write()
