"""Other vector indexes, each used as its own documentation says, on the same vectors and queries; used by `benchmarks.search`.

Every peer is built once and asked with more and more effort until it reaches each recall of `TARGETS`; then one query at a time and
all in one batch are timed. Two threads for everybody.
"""

import importlib
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from engine.collection import Collection
from engine.config import Settings
from engine.datatypes import Document, Embedding, EncodedDocument, Vectors
from engine.documents import key_of
from engine.index.planner import find
from engine.index.tuning import Tuning

K = 10
TARGETS = (0.95, 0.99)
EFFORTS = (4, 8, 16, 32, 64, 128, 256, 512, 1024)
THREADS = 2

Ask = Callable[[Vectors, int], np.ndarray]


@dataclass(frozen=True)
class Peer:
    """What to import, and how to build it: vectors and an empty folder -> a function (queries, effort) -> row numbers [q, k]."""

    name: str
    module: str
    build: Callable[[Any, Vectors, Path], Ask]


def hnsw_flat(faiss: Any, vectors: Vectors, folder: Path) -> Ask:  # noqa: ANN401
    """Build faiss IndexHNSWFlat."""
    faiss.omp_set_num_threads(THREADS)
    index = faiss.IndexHNSWFlat(vectors.shape[1], 32, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = 120
    index.add(vectors)
    return lambda queries, effort: index.search(queries, K, params=faiss.SearchParametersHNSW(efSearch=max(effort, K)))[1]


def ivf_flat(faiss: Any, vectors: Vectors, folder: Path) -> Ask:  # noqa: ANN401
    """Build faiss IndexIVFFlat."""
    faiss.omp_set_num_threads(THREADS)
    lists = 2 ** round(np.log2(4 * len(vectors) ** 0.5))
    index = faiss.index_factory(vectors.shape[1], f"IVF{lists},Flat", faiss.METRIC_INNER_PRODUCT)
    index.train(vectors[:: max(1, len(vectors) // (40 * lists))])
    index.add(vectors)
    return lambda queries, effort: index.search(queries, K, params=faiss.SearchParametersIVF(nprobe=min(effort, lists)))[1]


def hnswlib(module: Any, vectors: Vectors, folder: Path) -> Ask:  # noqa: ANN401
    """Build hnswlib."""
    index = module.Index(space="ip", dim=vectors.shape[1])
    index.init_index(max_elements=len(vectors), ef_construction=120, M=16)
    index.set_num_threads(THREADS)
    index.add_items(vectors, np.arange(len(vectors)))

    def ask(queries: Vectors, effort: int) -> np.ndarray:
        index.set_ef(max(effort, K))
        return np.asarray(index.knn_query(queries, k=K)[0]).astype(np.int64)

    return ask


def usearch(module: Any, vectors: Vectors, folder: Path) -> Ask:  # noqa: ANN401
    """Build usearch."""
    index = module.Index(ndim=vectors.shape[1], metric="ip", dtype="f32")
    index.add(np.arange(len(vectors)), vectors, threads=THREADS)

    def ask(queries: Vectors, effort: int) -> np.ndarray:
        index.expansion_search = max(effort, K)
        return np.asarray(index.search(queries, K, threads=THREADS).keys).reshape(len(queries), -1).astype(np.int64)

    return ask


def chromadb(module: Any, vectors: Vectors, folder: Path) -> Ask:  # noqa: ANN401
    """Build a persistent chromadb collection; its effort is set when it is made."""
    client = module.PersistentClient(str(folder), settings=module.Settings(anonymized_telemetry=False))
    collection = client.create_collection("peer", configuration={"hnsw": {"space": "ip", "ef_search": 128}})
    for start in range(0, len(vectors), 5_000):
        part = vectors[start : start + 5_000]
        collection.add(ids=[str(start + n) for n in range(len(part))], embeddings=part)
    return lambda queries, _: np.array(collection.query(query_embeddings=queries, n_results=K)["ids"], dtype=np.int64)


def lancedb(module: Any, vectors: Vectors, folder: Path) -> Ask:  # noqa: ANN401
    """Build a LanceDB table with IVF_PQ and refinement."""
    pyarrow = importlib.import_module("pyarrow")
    column = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(vectors.ravel()), vectors.shape[1])
    data = pyarrow.table({"id": np.arange(len(vectors)), "vector": column})
    table = module.connect(str(folder)).create_table("peer", data)
    table.create_index(metric="dot", vector_column_name="vector")

    def one(query: np.ndarray, effort: int) -> list[int]:
        found = table.search(query).metric("dot").nprobes(effort).refine_factor(10).limit(K).select(["id"]).to_arrow()
        return found["id"].to_pylist()  # type: ignore[no-any-return]

    return lambda queries, effort: np.array([one(query, effort) for query in queries], dtype=np.int64)


def qdrant(module: Any, vectors: Vectors, folder: Path) -> Ask:  # noqa: ANN401
    """Build qdrant-client's local mode, which scans exactly."""
    client, models = module.QdrantClient(":memory:"), module.models
    parameters = models.VectorParams(size=vectors.shape[1], distance=models.Distance.DOT)
    client.create_collection("peer", vectors_config=parameters)
    client.upload_collection("peer", vectors=vectors, ids=list(range(len(vectors))))

    def ask(queries: Vectors, _: int) -> np.ndarray:
        return np.array([[p.id for p in client.query_points("peer", query=q.tolist(), limit=K).points] for q in queries])

    return ask


def milvus(module: Any, vectors: Vectors, folder: Path) -> Ask:  # noqa: ANN401
    """Build milvus-lite through its client."""
    client = module.MilvusClient(str(folder / "peer.db"))
    client.create_collection("peer", dimension=vectors.shape[1], metric_type="IP")
    for start in range(0, len(vectors), 5_000):
        part = vectors[start : start + 5_000]
        client.insert("peer", [{"id": start + n, "vector": vector.tolist()} for n, vector in enumerate(part)])

    def ask(queries: Vectors, _: int) -> np.ndarray:
        found = client.search("peer", data=queries.tolist(), limit=K)
        return np.array([[hit["id"] for hit in hits] for hits in found])

    return ask


def semblance(_: Any, vectors: Vectors, folder: Path) -> Ask:  # noqa: ANN401
    """Build a collection and search its snapshot, the way `Collection.search` does."""
    settings = Settings(threads=THREADS)
    keys = np.array([key_of(f"p{number}") for number in range(len(vectors))])
    with closing(Collection.create(folder / "semblance", fingerprint="peer", encoder="peer", settings=settings)) as made:
        for start in range(0, len(vectors), 100):
            made.upsert([_document(number, vectors[number]) for number in range(start, min(start + 100, len(vectors)))])
        made.compact()
    snapshot = Collection.open(folder / "semblance", settings=settings)._index.current()
    order = np.argsort(keys)
    weights = np.array([[1.0, 0.0]], np.float32)

    def ask(queries: Vectors, effort: int) -> np.ndarray:
        published = None if snapshot.published is None else replace(snapshot.published, tuning=Tuning(probes=effort))
        found = find(replace(snapshot, published=published), queries, np.repeat(weights, len(queries), 0), K, None)
        wanted = np.array([[candidate.key for candidate in candidates] for candidates in found])
        return order[np.searchsorted(keys[order], wanted)]

    return ask


PEERS = (
    Peer("semblance", "faiss", semblance),
    Peer("faiss HNSWFlat", "faiss", hnsw_flat),
    Peer("faiss IVFFlat", "faiss", ivf_flat),
    Peer("hnswlib", "hnswlib", hnswlib),
    Peer("usearch", "usearch.index", usearch),
    Peer("chromadb", "chromadb", chromadb),
    Peer("lancedb", "lancedb", lancedb),
    Peer("qdrant-client (local)", "qdrant_client", qdrant),
    Peer("milvus-lite", "pymilvus", milvus),
)


def compare(vectors: Vectors, queries: Vectors, expected: Sequence[set[int]], folder: Path) -> list[dict[str, object]]:
    """Measure every peer that is installed; the others are named with the reason why not."""
    results = []
    for number, peer in enumerate(PEERS):
        place = folder / f"peer-{number}-{len(vectors)}"
        place.mkdir()
        try:
            results.append(_measured(peer, vectors, queries, expected, place))
        except Exception as error:
            results.append({"name": peer.name, "skipped": f"{type(error).__name__}: {error}"})
        print(results[-1], flush=True)
    return results


def _measured(peer: Peer, vectors: Vectors, queries: Vectors, expected: Sequence[set[int]], folder: Path) -> dict[str, object]:
    module = importlib.import_module(peer.module)
    held, start = _resident_mb(), time.perf_counter()
    ask = peer.build(module, vectors, folder)
    result: dict[str, object] = {
        "name": peer.name,
        "version": str(getattr(module, "__version__", "")),
        "build_s": round(time.perf_counter() - start, 2),
    }
    targets = list(TARGETS)
    for effort in EFFORTS:
        found = ask(queries, effort)
        recall = float(np.mean([len(e & set(f.tolist())) / len(e) for f, e in zip(found, expected, strict=True)]))
        while targets and recall >= targets[0]:
            result[f"at_{targets.pop(0)}"] = {"effort": effort, "recall_at_10": round(recall, 4), **_timed(ask, queries, effort)}
        if not targets:
            break
    result["best_recall_at_10"] = round(recall, 4)
    result["memory_mb"] = _resident_mb() - held
    return result


def _timed(ask: Ask, queries: Vectors, effort: int) -> dict[str, float]:
    times = []
    for number in range(len(queries)):
        start = time.perf_counter()
        ask(queries[number : number + 1], effort)
        times.append(1000 * (time.perf_counter() - start))
    start = time.perf_counter()
    ask(queries, effort)
    batch = len(queries) / (time.perf_counter() - start)
    return {
        "p50_ms": round(float(np.median(times)), 3),
        "p99_ms": round(float(np.percentile(times, 99)), 3),
        "qps_alone": round(1000 / float(np.mean(times))),
        "qps_batch": round(batch),
    }


def _resident_mb() -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmRSS:")[2].split()[0]) // 1024


def _document(number: int, vector: np.ndarray) -> EncodedDocument:
    embedding = Embedding("image", f"i{number:015d}".encode(), vector, f"/{number}.jpg")
    return EncodedDocument(Document(f"p{number}", f"product {number}"), b"", (embedding,))
