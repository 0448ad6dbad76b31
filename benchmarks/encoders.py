"""Speed and size of the default bundle, beside the same towers in torch float32 in the same process.

    python -m benchmarks.encoders [--bundle DIR] [--pictures N] [--json FILE]

Pictures are random pixels of the size the tower looks at: decoding is measured by `benchmarks.indexing`.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from engine.encoders.bundle import Bundle
from engine.encoders.openvino import OpenVINOEncoder

QUERIES = (
    "red shoes",
    "blue t-shirt for men",
    "两个孩子在草地上玩耍",
    "a laptop on a wooden desk",
    "schwarze Handtasche aus Leder",
)
REPEATS = 25


def milliseconds(call: Callable[[], object], repeats: int = REPEATS) -> dict[str, float]:
    """Time a call after one warm-up: median and 95th percentile."""
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - start))
    return {"p50_ms": round(float(np.median(times)), 2), "p95_ms": round(float(np.percentile(times, 95)), 2)}


def pictures(count: int, size: int) -> list[Image.Image]:
    """Make random pictures."""
    random = np.random.default_rng(0)
    return [Image.fromarray(random.integers(0, 255, (size, size, 3), dtype=np.uint8)) for _ in range(count)]


def measure(
    encode_texts: Callable[[list[str]], object], encode_images: Callable[[list[Image.Image]], object], images: list[Image.Image]
) -> dict[str, float]:
    """Measure one implementation: one query at a time, texts in bulk, pictures in bulk."""
    queries = [milliseconds(lambda query=query: encode_texts([query])) for query in QUERIES]
    bulk = list(QUERIES) * 12
    texts = milliseconds(lambda: encode_texts(bulk), 3)
    photos = milliseconds(lambda: encode_images(images), 3)
    return {
        "query_p50_ms": round(float(np.median([q["p50_ms"] for q in queries])), 2),
        "query_p95_ms": max(q["p95_ms"] for q in queries),
        "texts_per_s": round(1e3 * len(bulk) / texts["p50_ms"], 1),
        "images_per_s": round(1e3 * len(images) / photos["p50_ms"], 1),
    }


def torch_encoder(folder: Path) -> tuple[Callable[[list[str]], object], Callable[[list[Image.Image]], object]]:
    """Run the same bundle in torch float32, channels last, as a user without this engine would."""
    import torch  # noqa: PLC0415  the benchmark also runs without the train extra if --no-torch is given

    from engine.encoders.texts import TextReader  # noqa: PLC0415
    from engine.encoders.towers import build_towers  # noqa: PLC0415

    bundle = Bundle.load(folder)
    towers = build_towers(bundle)
    towers.image.to(memory_format=torch.channels_last)
    reader = TextReader.load(folder / "tokenizer.json", folder / "tokens.npy", bundle.manifest.text_tower["positions"])

    def texts(batch: list[str]) -> object:
        with torch.inference_mode():
            read = reader.batch(reader.token_ids(batch))
            return towers.text(torch.from_numpy(read.embeddings), torch.from_numpy(read.mask))

    def images(batch: list[Image.Image]) -> object:
        with torch.inference_mode():
            parts = [np.stack([np.asarray(image) for image in batch[at : at + 8]]) for at in range(0, len(batch), 8)]
            return [towers.image(torch.from_numpy(part)) for part in parts]

    return texts, images


def report(folder: Path, count: int) -> dict[str, object]:
    """Measure OpenVINO in each precision and torch, and put sizes beside them."""
    manifest = Bundle.load(folder).manifest
    images = pictures(count, manifest.image_size)
    results: dict[str, dict[str, float]] = {}
    for precision in ("auto", "fp32"):
        encoder = OpenVINOEncoder.load(folder, precision=precision)
        results[f"openvino-{precision}"] = measure(encoder.encode_texts, encoder.encode_images, images)
    results["torch-fp32"] = measure(*torch_encoder(folder), images)
    ours, theirs = results["openvino-auto"], results["torch-fp32"]
    ratios = {
        "query": round(theirs["query_p50_ms"] / ours["query_p50_ms"], 2),
        "texts": round(ours["texts_per_s"] / theirs["texts_per_s"], 2),
        "images": round(ours["images_per_s"] / theirs["images_per_s"], 2),
    }
    sizes = {name: record.bytes for name, record in manifest.files.items()}
    return {
        "cpus": os.cpu_count(),
        "fingerprint": manifest.fingerprint,
        "parameters": manifest.parameters,
        "bytes": sizes | {"total": sum(sizes.values())},
        "speed": results,
        "faster_than_torch": ratios,
    }


def main() -> None:
    """Print the report, and write it if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, default=Path(__file__).parents[1] / "engine" / "bundles" / "default")
    parser.add_argument("--pictures", type=int, default=64)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    text = json.dumps(report(options.bundle, options.pictures), indent=2)
    print(text)
    if options.json:
        options.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
