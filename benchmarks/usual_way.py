"""The same search written the usual way, to compare with: FastAPI, torch encoders of the same weights, a flat FAISS index.

    python -m benchmarks.usual_way DATA COLLECTION

What one writes first: load the model, put every picture's vector into `IndexFlatIP`, and for each request encode, search, look the
products up, return a dictionary. One request at a time, as torch and FAISS use every core for it; nothing is batched or remembered.
Vectors and products are those of the collection, and the weights those of the default bundle in torch fp32. It answers the two
addresses that `benchmarks.service` asks, with `timings_ms` for its own share.
"""

import argparse
import io
import socket
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import orjson
import uvicorn
from fastapi import FastAPI, UploadFile
from PIL import Image
from pydantic import BaseModel

from engine.build import BUNDLES
from engine.encoders.torch import TorchEncoder


class TextQuery(BaseModel):
    """A search by words."""

    query: str
    k: int = 10


class Shop:
    """Vectors and products of one collection, in memory."""

    def __init__(self, folder: Path) -> None:
        self.encoder = TorchEncoder.from_bundle(BUNDLES / "default", device="cpu", precision="auto")
        self._one_at_a_time = threading.Lock()
        with sqlite3.connect(f"file:{folder / 'documents.sqlite'}?mode=ro", uri=True) as database:
            rows = database.execute(
                "SELECT e.key, v.vector FROM embeddings e JOIN vectors v ON v.content = e.content WHERE e.view = 'image'"
            ).fetchall()
            found = database.execute("SELECT key, id, title, attributes FROM documents")
            self._products = {key: {"id": id, "title": title, "attributes": orjson.loads(rest)} for key, id, title, rest in found}
        self._keys = [key for key, _ in rows]
        self._index = faiss.IndexFlatIP(256)
        for first in range(0, len(rows), 100_000):
            vectors = np.stack([np.frombuffer(vector, np.float16) for _, vector in rows[first : first + 100_000]])
            self._index.add(vectors.astype(np.float32))

    def search(self, encode: Callable[[], np.ndarray], k: int) -> dict[str, Any]:
        """Encode, search, look up."""
        with self._one_at_a_time:
            began = time.perf_counter()
            scores, places = self._index.search(encode(), k)
            hits = [
                self._products[self._keys[place]] | {"score": float(score)}
                for score, place in zip(scores[0], places[0], strict=True)
                if place >= 0
            ]
            return {"hits": hits, "timings_ms": {"total": 1000 * (time.perf_counter() - began)}}


def application(shop: Shop, collection: str) -> FastAPI:
    """Make the two routes."""
    app = FastAPI()

    @app.post(f"/v1/collections/{collection}/search/text")
    def by_text(body: TextQuery) -> dict[str, Any]:
        return shop.search(lambda: shop.encoder.encode_texts([body.query]), body.k)

    @app.post(f"/v1/collections/{collection}/search/image")
    def by_image(image: UploadFile) -> dict[str, Any]:
        picture = Image.open(io.BytesIO(image.file.read())).convert("RGB")
        return shop.search(lambda: shop.encoder.encode_images([picture]), 10)

    return app


def main() -> None:
    """Serve until ended."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("collection")
    options = parser.parse_args()
    app = application(Shop(options.data / options.collection), options.collection)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sys.stderr.write(f"It is at http://127.0.0.1:{listener.getsockname()[1]}\n")
        sys.stderr.flush()
        uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])


if __name__ == "__main__":
    main()
