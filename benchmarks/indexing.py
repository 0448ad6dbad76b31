"""How much of the encoder's speed is left when a whole catalogue is indexed: files read, decoded, checked, encoded, committed.

    python -m benchmarks.indexing [--rows N] [--repeats N] [--sides PX ...] [--json FILE] [--stand-in MS]

Each repeat times, in this process, the encoder alone on the decoded pictures and titles of the catalogue, the plain way (decode
a picture's file, encode it, take the next batch), then `index_catalogue` on the same catalogue into an empty collection. The
pictures are JPEGs with smooth surfaces, edges and shadows like product photos, all different, of the sides given: where every core
encodes, what decoding costs is missing from encoding, so the ratio depends on it (`ratio_bound` is what a pipeline that costs
nothing would reach). Encoder: the default bundle where there is one; `--stand-in MS` burns that much processor time a picture
instead, on every core, to tune the pipeline itself. Target: median ratio >= 0.85.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from engine.build import BUNDLES, build_cache, build_encoder
from engine.config import load_settings
from engine.datatypes import Vectors
from engine.encoders.images import decode
from engine.protocols import Encoder
from engine.search import SearchEngine
from engine.testing import FakeEncoder
from indexer.job import IndexRequest, index_catalogue
from indexer.pipeline import BATCH_PICTURES

SIDES = (256, 500, 1000)
DRAWN = 1000
TARGET = 0.85


class StandIn(FakeEncoder):
    """Burns a given processor time per picture on every core, outside the interpreter's lock."""

    image_size = 260

    def __init__(self, milliseconds: float) -> None:
        super().__init__()
        self.name = f"stand-in:{milliseconds:g}ms"
        self._matrix = np.random.default_rng(0).standard_normal((1200, 1200)).astype(np.float32)
        began = time.perf_counter()
        for _ in range(20):
            self._matrix @ self._matrix
        self._products = milliseconds / (1e3 * (time.perf_counter() - began) / 20)

    def encode_images(self, images: Sequence[Image.Image]) -> Vectors:
        """Multiply matrices, then answer as the fake does."""
        for _ in range(round(self._products * len(images))):
            self._matrix @ self._matrix
        return super().encode_images(images)


def product_photo(seed: int, side: int) -> Image.Image:
    """Draw a square picture with the smoothness of a product photo."""
    random = np.random.default_rng(seed)
    ramp = np.linspace(0, 1, DRAWN)[:, None, None] * random.integers(0, 60, 3) + random.integers(150, 195, 3)
    photo = Image.fromarray(np.broadcast_to(ramp, (DRAWN, DRAWN, 3)).astype(np.uint8))
    draw = ImageDraw.Draw(photo)
    for _ in range(40):
        x, y, w, h = random.integers(0, DRAWN, 4)
        colour = tuple(int(c) for c in random.integers(0, 255, 3))
        shape = draw.ellipse if random.random() < 0.5 else draw.rectangle
        shape((x - w // 4, y - h // 4, x + w // 4, y + h // 4), fill=colour)
    for x in range(0, DRAWN, 7):  # texture
        draw.line((x, 600, x + 80, DRAWN), fill=(90, 90, 100))
    return photo.filter(ImageFilter.GaussianBlur(1)).resize((side, side), Image.Resampling.LANCZOS)


def write_catalogue(folder: Path, rows: int, side: int) -> tuple[Path, list[bytes], list[str]]:
    """Write the pictures and their CSV; return it with the files' bytes and the titles."""
    lines, files, titles = ["id,title,image,price,brand"], [], []
    for number in range(rows):
        path = folder / f"{number}.jpg"
        product_photo(number, side).save(path, quality=88)
        files.append(path.read_bytes())
        titles.append(f"product number {number} in colour {number % 17}")
        lines.append(f"p{number},{titles[-1]},{path.name},{number % 90}.5,brand {number % 9}")
    (folder / "feed.csv").write_text("\n".join(lines) + "\n")
    return folder / "feed.csv", files, titles


def encode_alone(encoder: Encoder, pictures: Sequence[Image.Image], titles: Sequence[str]) -> float:
    """Time the encoder on everything the catalogue holds, in the batches of the pipeline."""
    began = time.perf_counter()
    for at in range(0, len(pictures), BATCH_PICTURES):
        encoder.encode_images(pictures[at : at + BATCH_PICTURES])
        encoder.encode_texts(titles[at : at + BATCH_PICTURES])
    return time.perf_counter() - began


def plain_way(encoder: Encoder, files: Sequence[bytes], titles: Sequence[str]) -> float:
    """Time the loop one would write first: decode a batch, encode it, take the next."""
    began = time.perf_counter()
    for at in range(0, len(files), BATCH_PICTURES):
        batch = files[at : at + BATCH_PICTURES]
        encoder.encode_images([decode(data, size=encoder.image_size, max_pixels=10**8) for data in batch])
        encoder.encode_texts(titles[at : at + BATCH_PICTURES])
    return time.perf_counter() - began


def index(encoder: Encoder, catalogue: Path) -> float:
    """Time the job into an empty collection."""
    with tempfile.TemporaryDirectory() as data:
        settings = load_settings(data=data)
        with SearchEngine(settings, encoder, build_cache(settings)) as engine:
            began = time.perf_counter()
            report = index_catalogue(engine, IndexRequest(catalogue, "bench"))
            seconds = time.perf_counter() - began
    if report.exit_code:
        raise RuntimeError(f"the job did not index everything: {report}")
    return seconds


def measure(encoder: Encoder, rows: int, repeats: int, side: int) -> dict[str, object]:
    """Run everything and return the figures."""
    with tempfile.TemporaryDirectory() as folder:
        catalogue, files, titles = write_catalogue(Path(folder), rows, side)
        began = time.process_time()
        pictures = [decode(data, size=encoder.image_size, max_pixels=10**8) for data in files]
        decoding = time.process_time() - began
        encode_alone(encoder, pictures[:BATCH_PICTURES], titles[:BATCH_PICTURES])
        began = time.process_time()
        encode_alone(encoder, pictures, titles)
        encoding = time.process_time() - began
        alone, plain, whole = [], [], []
        for _ in range(repeats):
            alone.append(encode_alone(encoder, pictures, titles))
            whole.append(index(encoder, catalogue))
            plain.append(plain_way(encoder, files, titles))
        # The encoder again at the end: a machine that slowed down meanwhile would flatter or spoil the ratio.
        alone.append(encode_alone(encoder, pictures, titles))
    ratios = [((alone[n] + alone[n + 1]) / 2) / whole[n] for n in range(repeats)]
    ratio = statistics.median(ratios)
    return {
        "side": side,
        "rows": rows,
        "image_kb": round(sum(map(len, files)) / rows / 1e3, 1),
        "encoder_alone_per_s": round(rows / statistics.median(alone), 1),
        "plain_way_per_s": round(rows / statistics.median(plain), 1),
        "indexing_per_s": round(rows / statistics.median(whole), 1),
        "encoding_cpu_ms": round(1e3 * encoding / rows, 2),
        "decoding_cpu_ms": round(1e3 * decoding / rows, 2),
        "ratio_bound": round(encoding / (encoding + decoding), 3),
        "ratios": [round(value, 3) for value in ratios],
        "ratio": round(ratio, 3),
        "target": TARGET,
        "met": ratio >= TARGET,
        "ratio_to_plain_way": round(statistics.median(p / w for p, w in zip(plain, whole, strict=True)), 3),
    }


def main() -> None:
    """Measure, print, and write the figures where asked."""
    options = argparse.ArgumentParser(description="Throughput of indexing beside the encoder alone.")
    options.add_argument("--rows", type=int, default=1000)
    options.add_argument("--repeats", type=int, default=5)
    options.add_argument("--sides", type=int, nargs="+", default=SIDES, metavar="PX", help="sides of the pictures")
    options.add_argument("--stand-in", type=float, metavar="MS", help="use no model but burn so many milliseconds a picture")
    options.add_argument("--json", type=Path, default=Path("benchmarks/results/indexing.json"))
    given = options.parse_args()
    bundled = (BUNDLES / "default" / "bundle.json").is_file()
    standing_in = given.stand_in or (None if bundled else 7.0)
    encoder = build_encoder(load_settings()) if standing_in is None else StandIn(standing_in)
    figures = {
        "encoder": encoder.name,
        "cores": len(os.sched_getaffinity(0)),
        "machine": platform.processor() or platform.machine(),
        "pictures": [measure(encoder, given.rows, given.repeats, side) for side in given.sides],
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }
    text = json.dumps(figures, indent=2)
    print(text)
    if standing_in is None:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
