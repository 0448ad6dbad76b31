"""Speed, size and memory of the default bundle, beside the same towers in torch float32 in the same process.

    python -m benchmarks.encoders [--bundle DIR] [--pictures N] [--json FILE]

`images_per_s` begins with decoded pictures of the size the tower looks at, `jpegs_per_s` with the bytes of JPEGs of 1,000 pixels a
side: they are decoded by one thread for each core, 64 at a time, then encoded. OpenVINO and torch take turns and the median of the
rounds counts, so that a machine that slows down meanwhile slows both. `serving` is what `semblance serve` with the example shop
holds in memory after searches by text and by picture; with it, `targets` says which of the bundle's bars are met.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import httpx
import numpy as np
from PIL import Image

from benchmarks.indexing import product_photo
from engine.encoders.bundle import Bundle
from engine.encoders.images import decode
from engine.encoders.openvino import OpenVINOEncoder
from engine.encoders.runtime import cores

Texts = Callable[[list[str]], object]
Images = Callable[[list[Image.Image]], object]

QUERIES = (
    "red shoes",
    "blue t-shirt for men",
    "两个孩子在草地上玩耍",
    "a laptop on a wooden desk",
    "schwarze Handtasche aus Leder",
)
REPEATS = 25
ROUNDS = 3
BATCH = 64
JPEG_SIDE = 1000
TARGETS = {"bundle_mb": 90, "serving_mb": 450, "query_p50_ms": 4, "images_per_s": 120, "jpegs_per_s": 90}
EXAMPLES = Path(__file__).parents[1] / "examples"


def milliseconds(call: Callable[[], object], repeats: int = REPEATS) -> list[float]:
    """Time a call after one warm-up."""
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - start))
    return times


def pictures(count: int, size: int) -> list[Image.Image]:
    """Make random pictures."""
    random = np.random.default_rng(0)
    return [Image.fromarray(random.integers(0, 255, (size, size, 3), dtype=np.uint8)) for _ in range(count)]


def jpegs(count: int, folder: Path) -> list[bytes]:
    """Make JPEGs like product photos."""
    files = [folder / f"{number}.jpg" for number in range(count)]
    for number, file in enumerate(files):
        product_photo(number, JPEG_SIDE).save(file, quality=88)
    return [file.read_bytes() for file in files]


def measure(encode_texts: Texts, encode_images: Images, images: list[Image.Image], files: Sequence[bytes]) -> dict[str, float]:
    """Measure one implementation: one query at a time, texts in bulk, pictures in bulk, files in bulk."""
    queries = [milliseconds(partial(encode_texts, [query])) for query in QUERIES]
    bulk = list(QUERIES) * 12
    texts = milliseconds(lambda: encode_texts(bulk), 1)
    photos = milliseconds(lambda: encode_images(images), 1)
    size = images[0].width
    with ThreadPoolExecutor(cores()) as decoders:

        def from_bytes() -> None:
            for at in range(0, len(files), BATCH):
                batch = files[at : at + BATCH]
                encode_images(list(decoders.map(lambda data: decode(data, size=size, max_pixels=10**8), batch)))

        read = milliseconds(from_bytes, 1)
    return {
        "query_p50_ms": float(np.median(np.concatenate(queries))),
        "query_p95_ms": float(np.percentile(np.concatenate(queries), 95)),
        "texts_per_s": 1e3 * len(bulk) / texts[0],
        "images_per_s": 1e3 * len(images) / photos[0],
        "jpegs_per_s": 1e3 * len(files) / read[0],
    }


def torch_encoder(folder: Path) -> tuple[Texts, Images]:
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


def serving_memory() -> dict[str, int]:
    """Index the example shop, serve it, search it by words and by a picture, and read what the process holds, in MB."""
    with tempfile.TemporaryDirectory() as data, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
        free.close()
        command = [sys.executable, "-m", "cli"]
        shop = ["index", str(EXAMPLES / "shop" / "products.csv"), "--collection", "shop", "--data", data]
        subprocess.run([*command, *shop], check=True, stdout=subprocess.DEVNULL)
        serve = [*command, "serve", "--port", port, "--data", data]
        server = subprocess.Popen(serve, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            _search(f"http://127.0.0.1:{port}")
            lines = Path(f"/proc/{server.pid}/status").read_text(encoding="ascii").splitlines()
        finally:
            server.terminate()
            server.wait()
    status = dict(line.split(":", 1) for line in lines)
    return {name: int(status[key].split()[0]) // 1024 for name, key in (("resident_mb", "VmRSS"), ("anonymous_mb", "RssAnon"))}


def _search(address: str) -> None:
    photo = (EXAMPLES / "shop" / "images" / "road-bike.jpg").read_bytes()
    with httpx.Client(base_url=f"{address}/v1/collections/shop/search", timeout=60) as client:
        _until_ready(f"{address}/readyz")
        for query in QUERIES * 4:
            client.post("/text", json={"query": query}).raise_for_status()
            client.post("/image", files={"image": photo}).raise_for_status()


def _until_ready(address: str) -> None:
    for _ in range(600):
        try:
            if httpx.get(address).is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise RuntimeError(f"{address} did not answer in two minutes: start `semblance serve` by hand and see why")


def report(folder: Path, count: int) -> dict[str, object]:
    """Measure OpenVINO in each precision and torch, and put sizes beside them."""
    manifest = Bundle.load(folder).manifest
    images = pictures(count, manifest.image_size)
    encoders: dict[str, tuple[Texts, Images]] = {}
    for precision in ("auto", "fp32"):
        encoder = OpenVINOEncoder.load(folder, precision=precision)
        encoders[f"openvino-{precision}"] = encoder.encode_texts, encoder.encode_images
    encoders["torch-fp32"] = torch_encoder(folder)
    with tempfile.TemporaryDirectory() as temporary:
        files = jpegs(count, Path(temporary))
        rounds = [{name: measure(*encoders[name], images, files) for name in encoders} for _ in range(ROUNDS)]
    results = {
        name: {key: round(float(np.median([one[name][key] for one in rounds])), 2) for key in rounds[0][name]} for name in encoders
    }
    ours, theirs = results["openvino-auto"], results["torch-fp32"]
    ratios = {key: round(ours[key] / theirs[key], 2) for key in ("texts_per_s", "images_per_s", "jpegs_per_s")}
    sizes = {name: record.bytes for name, record in manifest.files.items()}
    folder_size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())  # with the decoder and the calibrator
    serving = serving_memory()
    reached = {"bundle_mb": folder_size / 1e6, "serving_mb": serving["resident_mb"], **ours}
    return {
        "cpus": os.cpu_count(),
        "fingerprint": manifest.fingerprint,
        "parameters": manifest.parameters,
        "bytes": sizes | {"total": sum(sizes.values())},
        "serving": serving,
        "speed": results,
        "faster_than_torch": ratios | {"query": round(theirs["query_p50_ms"] / ours["query_p50_ms"], 2)},
        "targets": {
            name: {"bar": bar, "reached": round(reached[name], 1), "met": _met(name, reached[name])}
            for name, bar in TARGETS.items()
        },
    }


def _met(name: str, value: float) -> bool:
    return value >= TARGETS[name] if name.endswith("_per_s") else value <= TARGETS[name]


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
