"""Log lines as they leave the process: plain text, or one JSON object a line; both know the request they belong to.

Nothing is configured at import: `semblance serve` calls `configure`.
"""

import logging
import re
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TextIO

import orjson

REQUEST: ContextVar[str] = ContextVar("semblance_request", default="")
"""The id of the request that this context serves; empty outside requests."""

_TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_TELLS_TRACEBACKS = "uvicorn.error"
"""Whose messages hold what stopped the start, over several lines, and no word of a client."""
_OWN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


class TextLines(logging.Formatter):
    """Writes a record as one line of text: a name that holds a line break or a terminal escape cannot make up another."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  as logging calls it
        """Write the line; a traceback comes after it."""
        line = super().formatMessage(record)
        if record.name == _TELLS_TRACEBACKS:
            return line
        return _CONTROL.sub(lambda found: repr(found[0])[1:-1], line)


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
        printable = {name: _printable(value) for name, value in line.items()}
        return orjson.dumps(printable, default=str).decode("utf-8")


def _printable(value: object) -> object:
    """Escape what JSON cannot hold: half surrogate pairs, of which names of files may consist."""
    return value.encode("utf-8", "backslashreplace").decode("utf-8") if isinstance(value, str) else value


def configure(level: str, form: str, stream: TextIO | None = None) -> None:
    """Send the process's log lines of `level` and above to `stream` (standard error), as `text` or `json`."""
    lines = logging.StreamHandler(stream or sys.stderr)
    lines.setFormatter(JsonLines() if form == "json" else TextLines(_TEXT))
    logging.basicConfig(level=level.upper(), handlers=[lines], force=True)
    if level != "debug":
        for noisy in ("uvicorn", "faiss.loader"):  # faiss tells of every kernel it tries
            logging.getLogger(noisy).setLevel(logging.WARNING)
