"""Files that are larger than a body may be: counted while they are read, written to disk as they come, never held in memory.

`api.limits` lets these requests pass, so what bounds them is here: bytes in all, seconds without a byte, uploads at once.
"""

import asyncio
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

from fastapi import Request
from starlette.datastructures import Headers, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope

from api.auth import key_of
from api.limits import BodyTooLarge, no_more_than
from api.workers import Followers
from engine.errors import StorageError

MAX_AT_ONCE = 4
CHUNK = 2**20
FORM_OVERHEAD = 100_000
LEAST_RATE = 20_000.0
"""Bytes a second: a catalogue of 10 MB then takes eight minutes, as over a poor mobile line."""

_IMPORTS = re.compile(r"/v1/collections/[^/]+/imports")
_RAW = frozenset(
    {
        "text/csv",
        "text/tab-separated-values",
        "text/plain",
        "application/x-ndjson",
        "application/jsonl",
        "application/vnd.apache.parquet",
        "application/gzip",
        "application/octet-stream",
    }
)


def is_upload(scope: Scope) -> bool:
    """Say whether a request brings a file that its route reads to disk.

    One with an `Idempotency-Key` does not: its body is compared with that of the first, so it is bounded as every body is.
    """
    headers = Headers(scope=scope)
    if scope["method"] != "POST" or not _IMPORTS.fullmatch(scope["path"]) or "idempotency-key" in headers:
        return False
    return not is_json(headers)


def is_json(headers: Headers) -> bool:
    """Say whether a body is one JSON text; JSON lines are a file."""
    kind = content_kind(headers)
    return kind == "application/json" or kind.endswith("+json")


def content_kind(headers: Headers) -> str:
    """Take the type out of a `Content-Type` header, without its parameters."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


class UploadTooSlow(HTTPException):
    """An upload came too slowly, or stopped."""

    def __init__(self, size: int, seconds: float) -> None:
        arrived = f"Only {size:,} bytes arrived in {seconds:.0f} s"
        super().__init__(408, f"{arrived}, which is too slow: send a smaller catalogue, or use a faster connection.")


class Uploads:
    """Reads uploads of at most `limit` bytes; `patience_s` is the longest wait for the next bytes.

    It is also how far an upload may lie behind one of `least_rate` bytes a second.
    """

    def __init__(self, *, limit: int, patience_s: float, least_rate: float = LEAST_RATE) -> None:
        self._limit = limit
        self._least_rate = least_rate
        self._patience_s = patience_s
        self._under_way = Followers("uploads", most=MAX_AT_ONCE, share=MAX_AT_ONCE // 2)

    async def save(self, request: Request, path: Path) -> str:
        """Write a request's file to `path` and return the name it came with, if any.

        The file is the body itself, or the field `file` of a form. Raises `HTTPException` (408, 413, 415, 422), `Overloaded`, and
        `StorageError` when the disk refuses.
        """
        announced = request.headers.get("content-length", "")
        if announced.isdecimal() and int(announced[:20]) > self._limit + FORM_OVERHEAD:
            raise BodyTooLarge(self._limit)
        key = key_of(request.scope)
        self._under_way.check(key)
        with self._under_way.one_more(key):
            kind = content_kind(request.headers)
            try:
                if kind == "multipart/form-data":
                    return await self._save_form(request, path)
                if kind in _RAW:
                    return await self._save_body(request, path)
            except OSError as error:
                raise StorageError(f"the upload cannot be written to {path} ({error}): check the disk") from error
            except ClientDisconnect:
                raise HTTPException(400, "The client closed the connection.") from None
        raise HTTPException(415, "Send the catalogue as the body (CSV, JSON, XML, Parquet), or as the field `file` of a form.")

    async def _save_body(self, request: Request, path: Path) -> str:
        received = Request(request.scope, no_more_than(self._paced(request.receive), self._limit))
        with path.open("wb") as file:
            async for piece in _pieces(received):
                await asyncio.to_thread(file.write, piece)
        return ""

    async def _save_form(self, request: Request, path: Path) -> str:
        received = Request(request.scope, no_more_than(self._paced(request.receive), self._limit + FORM_OVERHEAD))
        async with received.form(max_files=1, max_fields=4, max_part_size=10_000) as form:
            upload = form.get("file")
            if not isinstance(upload, UploadFile):
                raise HTTPException(422, "The form has no file in its field `file`.")
            await asyncio.to_thread(_copy, upload.file, path)
            return upload.filename or ""

    def _paced(self, receive: Receive) -> Receive:
        """Let nobody hold a place by sending a byte now and then."""
        clock = asyncio.get_running_loop().time
        begun, size = clock(), 0

        async def next_message() -> Message:
            nonlocal size
            ends = min(clock(), begun + size / self._least_rate) + self._patience_s
            try:
                async with asyncio.timeout_at(ends):
                    message = await receive()
            except TimeoutError:
                raise UploadTooSlow(size, clock() - begun) from None
            size += len(message.get("body", b""))
            return message

        return next_message


async def _pieces(request: Request) -> AsyncIterator[bytes]:
    """Gather what arrives into pieces worth a trip to the disk."""
    held = bytearray()
    async for chunk in request.stream():
        held += chunk
        if len(held) >= CHUNK:
            yield bytes(held)
            held.clear()
    yield bytes(held)


def _copy(source: BinaryIO, path: Path) -> None:
    with path.open("wb") as file:
        shutil.copyfileobj(source, file, CHUNK)
