"""Which web pages may call this server: its own, and those of the origins an operator names (CORS).

A browser asks before most cross-site requests, and CORS answers that. It does not ask before it sends a form, so a page elsewhere
could post one to a server on this machine that asks for no key: such requests are refused here.
"""

from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from api.errors import problem

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
REQUEST_HEADERS = ("Authorization", "Content-Type", "Idempotency-Key", "If-None-Match", "X-API-Key", "X-Request-ID")
ANSWER_HEADERS = ("ETag", "Idempotency-Replayed", "Retry-After", "X-Request-ID")
_HARMLESS = frozenset({"GET", "HEAD", "OPTIONS"})


class Origins:
    """Answers CORS for the `allowed` origins (`*` for all) and refuses what pages of other sites send unasked."""

    def __init__(self, app: ASGIApp, *, allowed: Sequence[str]) -> None:
        self._app = app
        self._allowed = frozenset(origin.rstrip("/") for origin in allowed)
        self._cors = CORSMiddleware(
            app,
            allow_origins=sorted(self._allowed),
            allow_methods=METHODS,
            allow_headers=REQUEST_HEADERS,
            expose_headers=ANSWER_HEADERS,
            max_age=3600,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection; other kinds than HTTP pass through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origin = headers.get("origin", "")
        if scope["method"] not in _HARMLESS and not self._welcome(origin, headers):
            detail = f"Pages of {origin[:200]!r} may not send to this server: if they should, add that to SEMBLANCE_CORS_ORIGINS."
            await problem(scope, 403, detail, kind="CrossSite")(scope, receive, send)
            return
        await (self._cors if origin and self._allowed else self._app)(scope, receive, send)

    def _welcome(self, origin: str, headers: Headers) -> bool:
        """Say whether a request that may change something comes from no page, from our own, or from one that had to ask first."""
        if self._allowed & {origin.lower(), "*"} or "x-api-key" in headers or _is_bearer(headers):
            return True
        site = headers.get("sec-fetch-site")
        if site is not None:
            return site in ("same-origin", "none")
        return not origin or origin.lower().partition("://")[2] == headers.get("host", "").lower()


def _is_bearer(headers: Headers) -> bool:
    """Say whether a key came along; the name and password that an address may hold are sent by browsers unasked."""
    return headers.get("authorization", "").lower().startswith("bearer ")
