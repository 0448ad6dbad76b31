"""The log of queries: what was asked of a collection and how sure the answer was, one JSON line each.

Off unless `log_queries` is set, because what people search for is theirs. No address, no user and no picture is written: of a query
only its words are kept. The file lies in the collection's folder and goes with it.
"""

import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson

from engine.datatypes import Query, SearchResult

logger = logging.getLogger(__name__)
LOG = "queries.jsonl"
OLDER = "queries.1.jsonl"
MAX_BYTES = 64_000_000


@dataclass(frozen=True, slots=True)
class Logged:
    """One query of the log. `time` is in seconds since 1970, `best` the id of the first hit, "" for none."""

    time: float
    text: str
    where: str | None
    confidence: float | None
    decision: str
    best: str


class QueryLog:
    """Appends to the logs of all collections; thread-safe. A log that cannot be written costs a warning, never an answer."""

    def __init__(self, *, enabled: bool) -> None:
        self.enabled = enabled
        self._lock = threading.Lock()
        self._failed = False

    def write(self, folder: Path, query: Query, result: SearchResult) -> None:
        """Append one query of words to the log in a collection's folder; queries without words are left out."""
        text = " ".join(term.content for term in query.terms if isinstance(term.content, str) and term.weight > 0)
        if not self.enabled or not text:
            return
        best = result.hits[0].id if result.hits else ""
        fields = {
            "time": round(time.time(), 3),
            "text": text,
            "where": query.where,
            "confidence": None if result.confidence is None else round(result.confidence, 4),
            "decision": result.decision,
            "best": best,
        }
        try:
            with self._lock:
                _append(folder, orjson.dumps(fields) + b"\n")
                self._failed = False
        except OSError as error:
            if not self._failed:
                logger.warning("queries are not logged: %s", error)
            self._failed = True


def _append(folder: Path, line: bytes) -> None:
    path = folder / LOG
    if path.exists() and path.stat().st_size > MAX_BYTES:
        path.replace(folder / OLDER)
    with path.open("ab") as file:
        file.write(line)


def read_log(folder: Path, *, since: float = 0.0) -> Iterator[Logged]:
    """Read a collection's log, oldest first, from a time on; a line cut short by a crash is left out."""
    for name in (OLDER, LOG):
        path = folder / name
        if not path.exists():
            continue
        with path.open("rb") as file:
            for line in file:
                try:
                    logged = Logged(**orjson.loads(line))
                except (orjson.JSONDecodeError, TypeError):
                    logger.info("a line of %s is damaged and left out", path)
                    continue
                if logged.time >= since:
                    yield logged
