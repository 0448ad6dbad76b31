"""Other vector indexes, each used as its own documentation says, on the same vectors and queries; used by `benchmarks.beside`.

Every peer is built into a folder and opened from it. Two threads for everybody. How they are measured: `benchmarks.beside`.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from engine.collection import Collection
from engine.config import Settings
from engine.datatypes import Vectors
from engine.documents import key_of
from engine.index.planner import find
from engine.index.tuning import Tuning

K = 10
THREADS = 2

Ask = Callable[[Vectors, int], np.ndarray]


@dataclass(frozen=True)
class Peer:
    """What to import, how to build it in an empty folder, and how to open it: a function (queries, effort) -> rows [q, k]."""

    name: str
    module: str
    build: Callable[[Any, Vectors, Path], None]
    open: Callable[[Any, Path], Ask]


def build_hnsw_flat(faiss: Any, vectors: Vectors, folder: Path) -> None:  # noqa: ANN401
    """Build faiss IndexHNSWFlat."""
    faiss.omp_set_num_threads(THREADS)
    index = faiss.IndexHNSWFlat(vectors.shape[1], 32, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = 120
    index.add(vectors)
    faiss.write_index(index, str(folder / "index"))


def build_hnsw_bytes(faiss: Any, vectors: Vectors, folder: Path) -> None:  # noqa: ANN401
    """Build faiss HNSW over 8-bit codes; not a peer, but what this index could be made of instead of inverted lists."""
    faiss.omp_set_num_threads(THREADS)
    index = faiss.IndexHNSWSQ(vectors.shape[1], faiss.ScalarQuantizer.QT_8bit, 32, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = 120
    index.train(vectors[:: max(1, len(vectors) // 65_536)])
    index.add(vectors)
    faiss.write_index(index, str(folder / "index"))


def open_hnsw(faiss: Any, folder: Path) -> Ask:  # noqa: ANN401
    """Read it whole."""
    faiss.omp_set_num_threads(THREADS)
    index = faiss.read_index(str(folder / "index"))
    return lambda queries, effort: index.search(queries, K, params=faiss.SearchParametersHNSW(efSearch=max(effort, K)))[1]


def build_ivf_flat(faiss: Any, vectors: Vectors, folder: Path) -> None:  # noqa: ANN401
    """Build faiss IndexIVFFlat."""
    faiss.omp_set_num_threads(THREADS)
    lists = 2 ** round(np.log2(4 * len(vectors) ** 0.5))
    index = faiss.index_factory(vectors.shape[1], f"IVF{lists},Flat", faiss.METRIC_INNER_PRODUCT)
    index.train(vectors[:: max(1, len(vectors) // (40 * lists))])
    index.add(vectors)
    faiss.write_index(index, str(folder / "index"))


def open_ivf_flat(faiss: Any, folder: Path) -> Ask:  # noqa: ANN401
    """Read it whole."""
    faiss.omp_set_num_threads(THREADS)
    index = faiss.read_index(str(folder / "index"))
    return lambda queries, effort: index.search(queries, K, params=faiss.SearchParametersIVF(nprobe=min(effort, index.nlist)))[1]


def build_hnswlib(module: Any, vectors: Vectors, folder: Path) -> None:  # noqa: ANN401
    """Build hnswlib."""
    index = module.Index(space="ip", dim=vectors.shape[1])
    index.init_index(max_elements=len(vectors), ef_construction=120, M=16)
    index.set_num_threads(THREADS)
    index.add_items(vectors, np.arange(len(vectors)))
    index.save_index(str(folder / "index"))


def open_hnswlib(module: Any, folder: Path) -> Ask:  # noqa: ANN401
    """Read it whole."""
    index = module.Index(space="ip", dim=256)
    index.load_index(str(folder / "index"))
    index.set_num_threads(THREADS)

    def ask(queries: Vectors, effort: int) -> np.ndarray:
        index.set_ef(max(effort, K))
        return np.asarray(index.knn_query(queries, k=K)[0]).astype(np.int64)

    return ask


def build_usearch(module: Any, vectors: Vectors, folder: Path) -> None:  # noqa: ANN401
    """Build usearch."""
    index = module.Index(ndim=vectors.shape[1], metric="ip", dtype="f32")
    index.add(np.arange(len(vectors)), vectors, threads=THREADS)
    index.save(str(folder / "index"))


def open_usearch(module: Any, folder: Path) -> Ask:  # noqa: ANN401
    """Read it whole."""
    index = module.Index.restore(str(folder / "index"))

    def ask(queries: Vectors, effort: int) -> np.ndarray:
        index.expansion_search = max(effort, K)
        return np.asarray(index.search(queries, K, threads=THREADS).keys).reshape(len(queries), -1).astype(np.int64)

    return ask


def build_chromadb(module: Any, vectors: Vectors, folder: Path) -> None:  # noqa: ANN401
    """Build a persistent chromadb collection."""
    client = module.PersistentClient(str(folder), settings=module.Settings(anonymized_telemetry=False))
    threads = {"space": "ip", "num_threads": THREADS}
    collection = client.create_collection("peer", configuration={"hnsw": threads})
    for start in range(0, len(vectors), 5_000):
        part = vectors[start : start + 5_000]
        collection.add(ids=[str(start + n) for n in range(len(part))], embeddings=part)


def open_chromadb(module: Any, folder: Path) -> Ask:  # noqa: ANN401
    """Open it; its effort is a property of the collection."""
    client = module.PersistentClient(str(folder), settings=module.Settings(anonymized_telemetry=False))
    set_to: list[int] = []

    def ask(queries: Vectors, effort: int) -> np.ndarray:
        collection = client.get_collection("peer")
        if set_to != [effort]:
            collection.modify(configuration={"hnsw": {"ef_search": max(effort, K)}})
            set_to[:] = [effort]
        return np.array(collection.query(query_embeddings=queries, n_results=K, include=[])["ids"], dtype=np.int64)

    return ask


def build_lancedb(module: Any, vectors: Vectors, folder: Path) -> None:  # noqa: ANN401
    """Build a LanceDB table with its usual index, IVF_PQ."""
    pyarrow = importlib.import_module("pyarrow")
    column = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(vectors.ravel()), vectors.shape[1])
    data = pyarrow.table({"id": np.arange(len(vectors)), "vector": column})
    table = module.connect(str(folder)).create_table("peer", data)
    table.create_index(metric="dot", vector_column_name="vector")


def open_lancedb(module: Any, folder: Path) -> Ask:  # noqa: ANN401
    """Open the table; candidates are refined by their full vectors."""
    table = module.connect(str(folder)).open_table("peer")

    def one(query: np.ndarray, effort: int) -> list[int]:
        asked = table.search(query).distance_type("dot").nprobes(effort).refine_factor(max(10, effort)).limit(K).select(["id"])
        found: list[int] = asked.to_arrow()["id"].to_pylist()
        return found + [-1] * (K - len(found))

    return lambda queries, effort: np.array([one(query, effort) for query in queries], dtype=np.int64)


def build_qdrant(module: Any, vectors: Vectors, folder: Path) -> None:  # noqa: ANN401
    """Fill qdrant-client's local mode, which scans exactly."""
    client, models = module.QdrantClient(path=str(folder)), module.models
    parameters = models.VectorParams(size=vectors.shape[1], distance=models.Distance.DOT)
    client.create_collection("peer", vectors_config=parameters)
    client.upload_collection("peer", vectors=vectors, ids=range(len(vectors)))
    client.close()


def open_qdrant(module: Any, folder: Path) -> Ask:  # noqa: ANN401
    """Open it."""
    client = module.QdrantClient(path=str(folder))

    def ask(queries: Vectors, _: int) -> np.ndarray:
        return np.array([[p.id for p in client.query_points("peer", query=q.tolist(), limit=K).points] for q in queries])

    return ask


def build_milvus(module: Any, vectors: Vectors, folder: Path) -> None:  # noqa: ANN401
    """Fill milvus-lite through its client."""
    client = module.MilvusClient(str(folder / "peer.db"))
    client.create_collection("peer", dimension=vectors.shape[1], metric_type="IP")
    for start in range(0, len(vectors), 2_000):
        part = vectors[start : start + 2_000]
        client.insert("peer", [{"id": start + n, "vector": vector} for n, vector in enumerate(part)])
    client.close()


def open_milvus(module: Any, folder: Path) -> Ask:  # noqa: ANN401
    """Open it."""
    client = module.MilvusClient(str(folder / "peer.db"))
    client.load_collection("peer")

    def ask(queries: Vectors, effort: int) -> np.ndarray:
        found = client.search(
            "peer", data=list(queries), limit=K, search_params={"params": {"ef": max(effort, K), "nprobe": effort}}
        )
        return np.array([[hit["id"] for hit in hits] for hits in found])

    return ask


def no_build(_: Any, vectors: Vectors, folder: Path) -> None:  # noqa: ANN401
    """Do nothing: the collection beside the peers has the same vectors."""


def open_semblance(_: Any, folder: Path) -> Ask:  # noqa: ANN401
    """Search the state of the collection, as `Collection.search` does."""
    collection = Collection.open(folder.parent / "collection", settings=Settings(threads=THREADS))
    snapshot, total = collection._index.current(), len(np.load(folder.parent / "vectors.npy", mmap_mode="r"))
    keys = np.array([key_of(f"p{number}") for number in range(total)])
    order = np.argsort(keys)
    weights, ordered = np.array([[1.0, 0.0]], np.float32), keys[order]

    def ask(queries: Vectors, effort: int) -> np.ndarray:
        published = None if snapshot.published is None else replace(snapshot.published, tuning=Tuning(probes=effort))
        found = find(replace(snapshot, published=published), queries, np.repeat(weights, len(queries), 0), K, None)
        wanted = np.array([[candidate.key for candidate in candidates] for candidates in found])
        return order[np.searchsorted(ordered, wanted)]

    return ask


PEERS = (
    Peer("semblance", "faiss", no_build, open_semblance),
    Peer("faiss-ivf-flat", "faiss", build_ivf_flat, open_ivf_flat),
    Peer("faiss-hnsw-flat", "faiss", build_hnsw_flat, open_hnsw),
    Peer("faiss-hnsw-sq8", "faiss", build_hnsw_bytes, open_hnsw),
    Peer("hnswlib", "hnswlib", build_hnswlib, open_hnswlib),
    Peer("usearch", "usearch.index", build_usearch, open_usearch),
    Peer("lancedb", "lancedb", build_lancedb, open_lancedb),
    Peer("chromadb", "chromadb", build_chromadb, open_chromadb),
    Peer("milvus-lite", "pymilvus", build_milvus, open_milvus),
    Peer("qdrant-client-local", "qdrant_client", build_qdrant, open_qdrant),
)
