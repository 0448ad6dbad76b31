"""What wraps every request: its id, its log line, the security headers, and the answer to an unforeseen failure.

Pure ASGI, so that streaming and disconnects pass through untouched. Limits on what comes in are in `api.limits`.
"""

import logging
import re
import time
import uuid

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import REQUEST_ID, problem
from api.logs import REQUEST
from api.metrics import Metrics

logger = logging.getLogger(__name__)

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_SAFE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

SECURITY_HEADERS = (
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=()"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
)


class Rim:
    """Names each request, logs it, secures its answer and turns an escaped exception into a 500 that tells nothing."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics | None = None) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection; other kinds than HTTP pass through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope[REQUEST_ID] = _request_id(scope)
        REQUEST.set(scope[REQUEST_ID])
        status, started = 0, time.perf_counter()

        async def send_secured(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                _secure(message, scope[REQUEST_ID])
            await send(message)

        try:
            await self._app(scope, receive, send_secured)
        except Exception:
            logger.exception("request %s failed: %s %s", scope[REQUEST_ID], scope["method"], scope["path"])
            if status:
                raise
            await problem(scope, 500)(scope, receive, send_secured)
        finally:
            self._tell(scope, status, time.perf_counter() - started)

    def _tell(self, scope: Scope, status: int, seconds: float) -> None:
        if logger.isEnabledFor(logging.INFO):
            line = {"method": scope["method"], "path": scope["path"], "status": status, "ms": round(1000 * seconds, 1)}
            logger.info("%s %r %d %.1f ms %s", *line.values(), scope[REQUEST_ID], extra=line)
        if self._metrics is not None:
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._metrics.see_request(method, getattr(scope.get("route"), "path", "none"), status, seconds)


def _request_id(scope: Scope) -> str:
    given = Headers(scope=scope).get("x-request-id", "")
    return given if _SAFE_ID.fullmatch(given) else uuid.uuid4().hex


def _secure(message: Message, request_id: str) -> None:
    headers = [(name, value) for name, value in message.get("headers", ()) if name != b"x-request-id"]
    there = {name for name, _ in headers}
    headers.append((b"x-request-id", request_id.encode("ascii")))
    headers += [header for header in SECURITY_HEADERS if header[0] not in there]
    message["headers"] = headers
