"""The search page, the API reference, and the files they need: all from this server, nothing from elsewhere."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from api.exchange import json_answer
from engine.build import can_draw
from engine.config import Settings

STATIC = Path(__file__).parent.parent / "static"

_PAGE = "; ".join(
    [
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "manifest-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ]
)
_REFERENCE = f"default-src 'none'; img-src 'self' data:; {_PAGE}"


def page_router(settings: Settings) -> APIRouter:
    """Serve the pages as the settings have them: which pictures may be shown, and what the page may offer."""
    router = APIRouter(include_in_schema=False)
    policy = page_policy(settings.fetch_hosts)
    able = abilities_of(settings)

    @router.get("/")
    async def search_page() -> Response:
        return _page("index.html", policy, {"Permissions-Policy": "camera=(), microphone=(self), geolocation=()"})

    @router.get("/admin")
    async def admin_page() -> Response:
        return _page("admin.html", policy)

    @router.get("/docs")
    async def reference() -> Response:
        return _page("docs.html", _REFERENCE)

    @router.get("/static/abilities.json")
    async def abilities() -> Response:
        return json_answer(able)

    @router.get("/favicon.ico")
    async def favicon() -> Response:
        return FileResponse(STATIC / "favicon.svg", media_type="image/svg+xml", headers={"Cache-Control": "max-age=86400"})

    return router


def page_policy(picture_hosts: Sequence[str]) -> str:
    """Write the page's content security policy, with the hosts that pictures of products may come from.

    Only lit-html may turn text into markup (Trusted Types).
    """
    sources = " ".join(["'self'", "blob:", "data:", *(f"https://{host}" for host in picture_hosts)])
    return f"default-src 'none'; img-src {sources}; {_PAGE}; trusted-types lit-html; require-trusted-types-for 'script'"


def abilities_of(settings: Settings) -> dict[str, bool]:
    """Say what the page may offer: drawings, searches by voice, pictures by address."""
    return {
        "draws": can_draw(settings),
        "listens": find_spec("faster_whisper") is not None,
        "fetches": bool(settings.image_url_hosts),
    }


class Assets(StaticFiles):
    """The page's files; a browser asks each time whether its copy is still good."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Serve one file."""
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "no-cache"
        return response


def _page(name: str, policy: str, more: Mapping[str, str] | None = None) -> Response:
    headers = {"Content-Security-Policy": policy, "Cache-Control": "no-cache", **(more or {})}
    return FileResponse(STATIC / name, media_type="text/html; charset=utf-8", headers=headers)
