"""The log of writes: who changed what, when, under which request id. One JSON object a line in `<data>/_audit/<day>.jsonl`.

A file per day, so that several processes append to the same file and none ever has to rename it. Requests that brought no valid key
are not listed: whoever has no key must not be able to fill the disk.
"""

import logging
import os
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.auth import key_of, need_of
from api.errors import REQUEST_ID

logger = logging.getLogger(__name__)

FOLDER = "_audit"
_FILE = re.compile(r"(\d{4}-\d\d-\d\d)\.jsonl")
_UNNAMED = frozenset({401, 421, 429})


class AuditLog:
    """Appends records to the file of the day and removes files older than `days`. Never fails: a disk that refuses is logged."""

    def __init__(self, data: Path, *, days: int) -> None:
        self._folder = data / FOLDER
        self._days = days
        self._today = ""

    def add(self, record: Mapping[str, object]) -> None:
        """Append one record, with the time before it."""
        now = datetime.now(UTC)
        line = orjson.dumps({"time": now.isoformat(timespec="milliseconds"), **record}) + b"\n"
        try:
            self._begin_day(now)
            file = os.open(self._folder / f"{self._today}.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                os.write(file, line)  # one call: lines of several processes never mix
            finally:
                os.close(file)
        except OSError as error:
            logger.error("a write could not be logged (%s): %s", error, line.decode("utf-8", "replace").rstrip())

    def _begin_day(self, now: datetime) -> None:
        today = now.date().isoformat()
        if today == self._today:
            return
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        oldest = (now - timedelta(days=self._days)).date().isoformat()
        for path in self._folder.iterdir():
            if (found := _FILE.fullmatch(path.name)) and found[1] < oldest:
                path.unlink(missing_ok=True)
        self._today = today


class Audit:
    """Logs every request that may change something, with what became of it."""

    def __init__(self, app: ASGIApp, *, log: AuditLog) -> None:
        self._app = app
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection; other kinds than HTTP pass through."""
        need = need_of(scope["method"], scope["path"]) if scope["type"] == "http" else None
        if need is None or need.scope == "read":
            await self._app(scope, receive, send)
            return
        status, started = 500, time.perf_counter()

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, observed)
        finally:
            if status not in _UNNAMED:
                milliseconds = round(1000 * (time.perf_counter() - started), 1)
                self._log.add(_record(scope) | {"status": status, "ms": milliseconds})


def _record(scope: Scope) -> dict[str, object]:
    key, need = key_of(scope), need_of(scope["method"], scope["path"])
    return {
        "request_id": scope.get(REQUEST_ID, ""),
        "key": None if key is None else {"id": key.id, "name": key.name},
        "client": (scope.get("client") or [None])[0],
        "method": scope["method"],
        "path": scope["path"][:2000],
        "collection": need.collection if need else None,
    }
