"""Log lines as they leave the process: plain text, or one JSON object a line; both know the request they belong to.

Nothing is configured at import: `semblance serve` calls `configure`.
"""

import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TextIO

import orjson

REQUEST: ContextVar[str] = ContextVar("semblance_request", default="")
"""The id of the request that this context serves; empty outside requests."""

_TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_OWN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


class JsonLines(logging.Formatter):
    """Writes a record as one JSON object: time, level, logger, message, request_id, and whatever was passed as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one line."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request := REQUEST.get():
            line["request_id"] = request
        line |= {name: value for name, value in record.__dict__.items() if name not in _OWN}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode("utf-8", "replace")


def configure(level: str, form: str, stream: TextIO | None = None) -> None:
    """Send the process's log lines of `level` and above to `stream` (standard error), as `text` or `json`."""
    lines = logging.StreamHandler(stream or sys.stderr)
    lines.setFormatter(JsonLines() if form == "json" else logging.Formatter(_TEXT))
    logging.basicConfig(level=level.upper(), handlers=[lines], force=True)
    if level != "debug":
        for noisy in ("uvicorn", "faiss.loader"):  # faiss tells of every kernel it tries
            logging.getLogger(noisy).setLevel(logging.WARNING)
