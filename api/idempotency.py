"""Writes that can be sent twice: with `Idempotency-Key` a repeated request gets the first one's answer and changes nothing.

Answers of successful writes are kept for a day in `<data>/_answers.sqlite`, so that every process on the folder, and the next one
after a restart, knows them. A key belongs to the API key it came with. (IETF draft-ietf-httpapi-idempotency-key-header.)
"""

import asyncio
import hashlib
import logging
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import orjson
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.auth import READ_METHODS, key_of, need_of
from api.errors import REQUEST_ID, problem
from engine.errors import StorageError

logger = logging.getLogger(__name__)

FILE = "_answers.sqlite"
KEPT_S = 86_400
MAX_ANSWER_BYTES = 4_000_000

_VALID = re.compile(r"[\x21-\x7e][\x20-\x7e]{0,254}")
_BOUNDARY = re.compile(r'boundary="?([^";,]{8,70})', re.IGNORECASE)
_HELD_HEADERS = ("content-type", "location", "etag")
_SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (name BLOB PRIMARY KEY, request BLOB NOT NULL, at REAL NOT NULL, answer BLOB) WITHOUT ROWID
"""


@dataclass(frozen=True, slots=True)
class Earlier:
    """What is known of an earlier request of the same key: whether it was the same, and its answer once there is one."""

    same: bool
    answer: bytes | None


class Answers:
    """Answers by key, shared by the processes of one data folder; thread-safe. Raises `StorageError`."""

    def __init__(self, data: Path, *, busy_s: float, patience_s: float, clock: Callable[[], float] = time.time) -> None:
        self._path = data / FILE
        self._busy_s = busy_s
        self._patience_s = patience_s
        self._clock = clock
        self._lock = threading.Lock()

    def claim(self, name: bytes, request: bytes) -> Earlier | None:
        """Begin a request: None when it is the first of its name, else what is known of the earlier one.

        A request without an answer for longer than `patience_s` died with its process, and the next one takes its place.
        """
        now = self._clock()
        with self._writing() as connection:
            connection.execute("DELETE FROM answers WHERE at < ?", (now - KEPT_S,))
            connection.execute("DELETE FROM answers WHERE name = ? AND answer IS NULL AND at < ?", (name, now - self._patience_s))
            row = connection.execute("SELECT request, answer FROM answers WHERE name = ?", (name,)).fetchone()
            if row is None:
                connection.execute("INSERT INTO answers VALUES (?, ?, ?, NULL)", (name, request, now))
                return None
            return Earlier(row[0] == request, row[1])

    def settle(self, name: bytes, answer: bytes | None) -> None:
        """End a request: keep its answer, or forget it so that it can be tried again."""
        with self._writing() as connection:
            if answer is None or len(answer) > MAX_ANSWER_BYTES:
                connection.execute("DELETE FROM answers WHERE name = ?", (name,))
            else:
                connection.execute("UPDATE answers SET answer = ?, at = ? WHERE name = ?", (answer, self._clock(), name))

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._lock, closing(sqlite3.connect(self._path, timeout=self._busy_s, isolation_level=None)) as connection:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = NORMAL")
                connection.execute(_SCHEMA)
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")  # an error before it closes the connection, which rolls back
        except (OSError, sqlite3.Error) as error:
            raise StorageError(f"answers cannot be kept in {self._path} ({error}): check the folder and its disk") from error


class Idempotency:
    """Gives a repeated write the answer of the first; 422 when it is another request, 409 while the first is under way."""

    def __init__(self, app: ASGIApp, *, answers: Answers) -> None:
        self._app = app
        self._answers = answers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection; other kinds than HTTP pass through."""
        given = Headers(scope=scope).get("idempotency-key") if scope["type"] == "http" else None
        need = need_of(scope["method"], scope["path"]) if given is not None else None
        if given is None or need is None or need.scope == "read" or scope["method"] in READ_METHODS:
            await self._app(scope, receive, send)
        elif not _VALID.fullmatch(given):
            detail = "The header `Idempotency-Key` must be 1 to 255 printable ASCII characters: a UUID will do."
            await problem(scope, 400, detail)(scope, receive, send)
        else:
            await self._once(given, scope, receive, send)

    async def _once(self, given: str, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            body = await Request(scope, receive).body()
        except HTTPException as error:  # raised by the limits on bodies, which count while we read
            await problem(scope, error.status_code, error.detail, headers=error.headers)(scope, receive, send)
            return
        key = key_of(scope)
        name = _digest(key.id if key else "", given)
        try:
            earlier = await asyncio.to_thread(self._answers.claim, name, _request_digest(scope, body))
        except StorageError:
            logger.exception("request %s cannot be made repeatable", scope.get(REQUEST_ID))
            await problem(scope, 507)(scope, receive, send)
            return
        if earlier is None:
            await self._first(name, body, scope, receive, send)
        else:
            await _answer_again(earlier, scope)(scope, receive, send)

    async def _first(self, name: bytes, body: bytes, scope: Scope, receive: Receive, send: Send) -> None:
        answer = _Recorder(send)
        try:
            await self._app(scope, _replayed(body, receive), answer.send)
        finally:
            try:
                await asyncio.to_thread(self._answers.settle, name, answer.packed())
            except StorageError:
                logger.exception("the answer to request %s is not kept", scope.get(REQUEST_ID))


class _Recorder:
    """Passes an answer on and remembers it if it is a success."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._status = 0
        self._headers: dict[str, str] = {}
        self._body = bytearray()
        self._complete = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._headers = {name: value for name, value in Headers(raw=message["headers"]).items() if name in _HELD_HEADERS}
        elif message["type"] == "http.response.body":
            self._body += message.get("body", b"")
            self._complete = not message.get("more_body", False)
        await self._send(message)

    def packed(self) -> bytes | None:
        if not self._complete or not 200 <= self._status < 300:
            return None
        return orjson.dumps([self._status, self._headers]) + b"\n" + self._body


def _answer_again(earlier: Earlier, scope: Scope) -> Response:
    if not earlier.same:
        detail = "This `Idempotency-Key` was used for another request: take a new one for each request that is to be made."
        return problem(scope, 422, detail, kind="IdempotencyKeyReused")
    if earlier.answer is None:
        detail = "The first request of this `Idempotency-Key` is still under way: try again in a second."
        return problem(scope, 409, detail, kind="RequestUnderWay", headers={"Retry-After": "1"})
    head, _, body = earlier.answer.partition(b"\n")
    status, headers = orjson.loads(head)
    return Response(body, status, headers={**headers, "Idempotency-Replayed": "true"})


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Give the application a body that has been read already."""
    given = False

    async def receive_again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again


def _request_digest(scope: Scope, body: bytes) -> bytes:
    kind, _, parameters = Headers(scope=scope).get("content-type", "").partition(";")
    if boundary := _BOUNDARY.search(parameters):  # clients draw a new one whenever they write a form
        body = body.replace(boundary[1].encode("latin-1"), b"")
    return _digest(scope["method"], scope["path"], scope.get("query_string", b"").decode("latin-1"), kind, body)


def _digest(*fields: str | bytes) -> bytes:
    """Digest fields, each behind its length, so that no two lists of fields run together."""
    digest = hashlib.blake2b(digest_size=20)
    for field in fields:
        data = field.encode("utf-8", "surrogateescape") if isinstance(field, str) else field
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.digest()
