"""What customers wanted and the shop does not stock: low-confidence queries of the log, gathered by meaning and counted."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from engine.datatypes import Vectors
from engine.errors import MissingExtra
from engine.querylog import Logged

MOST_TEXTS = 4_000  # all pairs of so many are compared at once, 128 MB
ALIKE = 0.6
SHOWN_QUERIES = 8


@dataclass(frozen=True, slots=True)
class Miss:
    """One unmet wish: its commonest wording, how often it was asked for in any, and how sure the answers were on average.

    `vector` is the mean of its queries, the commoner the heavier: what a drawing of it starts from. `best` is the id found most.
    """

    label: str
    count: int
    queries: tuple[str, ...]
    confidence: float
    best: str
    vector: np.ndarray

    def as_dict(self) -> dict[str, object]:
        """Lay it out as JSON, without the vector."""
        return {
            "label": self.label,
            "count": self.count,
            "queries": list(self.queries),
            "confidence": round(self.confidence, 4),
            "nearest": self.best,
        }


def missed(log: Iterable[Logged]) -> list[Logged]:
    """Keep the queries without an answer that mean something and had no filter to blame."""
    return [logged for logged in log if logged.decision == "generate"]


def gather_misses(logged: Sequence[Logged], texts: Sequence[str], vectors: Vectors, *, most: int = 20) -> list[Miss]:
    """Gather queries by meaning, most wanted first; `texts` are the distinct ones and `vectors` theirs.

    Average-linkage clustering by cosine (scikit-learn), so that one cluster is one wish however it is worded.
    """
    if not len(texts):
        return []
    clusters = dict(zip(texts, _clusters(vectors), strict=True))
    asked: dict[int, list[Logged]] = defaultdict(list)
    for entry in logged:
        if _plain(entry.text) in clusters:
            asked[int(clusters[_plain(entry.text)])].append(entry)
    rows = {text: row for row, text in enumerate(texts)}
    misses = [_miss(entries, rows, vectors) for entries in asked.values()]
    return sorted(misses, key=lambda miss: (-miss.count, miss.label))[:most]


def _miss(entries: Sequence[Logged], rows: Mapping[str, int], vectors: Vectors) -> Miss:
    counts = Counter(_plain(entry.text) for entry in entries)
    wordings = sorted(counts, key=lambda text: (-counts[text], text))
    mean = np.array([counts[text] for text in wordings], np.float32) @ vectors[[rows[text] for text in wordings]]
    confidence = float(np.mean([entry.confidence or 0.0 for entry in entries]))
    best = Counter(entry.best for entry in entries).most_common(1)[0][0]
    unit = mean / max(float(np.linalg.norm(mean)), 1e-9)
    return Miss(wordings[0], len(entries), tuple(wordings[:SHOWN_QUERIES]), confidence, best, unit.astype(np.float32))


def distinct_texts(logged: Sequence[Logged]) -> list[str]:
    """List the distinct queries, commonest first, as many as can be gathered at once."""
    return [text for text, _ in Counter(_plain(entry.text) for entry in logged).most_common(MOST_TEXTS)]


def _plain(text: str) -> str:
    return " ".join(text.lower().split())


def _clusters(vectors: Vectors) -> np.ndarray:
    if len(vectors) == 1:
        return np.zeros(1, np.int64)
    try:
        from sklearn.cluster import AgglomerativeClustering  # noqa: PLC0415  an extra, and seconds to import
    except ImportError:
        raise MissingExtra("gathering missed queries", "lab") from None
    clustering = AgglomerativeClustering(n_clusters=None, distance_threshold=1 - ALIKE, metric="cosine", linkage="average")
    found: np.ndarray = clustering.fit_predict(vectors)
    return found
