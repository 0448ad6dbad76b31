"""The application: routes, limits and error answers around one engine.

`create_app` only puts together; what happens to a request is in `api.middleware`, `api.limits`, `api.routes` and `api.errors`.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.metadata import PackageNotFoundError, version

from fastapi import FastAPI
from PIL import Image

from api import errors
from api.limits import LOOPBACK_NAMES, BodyLimit, HostCheck, is_loopback
from api.middleware import Rim
from api.openapi import DESCRIPTION, TAGS, DocumentedAPI
from api.routes import collections, documents, embeddings, operations, pages, search
from api.services import Services
from engine import open_engine
from engine.config import Settings
from engine.search import SearchEngine

logger = logging.getLogger(__name__)

BODIES_IN_FLIGHT = 16


def create_app(settings: Settings, engine: SearchEngine | None = None) -> FastAPI:
    """Build the application around `engine`, or around one it opens at startup and closes at shutdown."""
    app = DocumentedAPI(
        title="Semblance",
        version=_version(),
        description=DESCRIPTION,
        openapi_tags=TAGS,
        lifespan=_lifespan(settings, engine),
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        telemetry={"auto_configure": False},
    )
    for module in (search, documents, collections, embeddings, operations):
        app.include_router(module.router)
    app.include_router(pages.page_router(settings.fetch_hosts))
    app.mount("/static", pages.Assets(directory=pages.STATIC), name="static")
    errors.install(app)
    limit = settings.max_body_bytes
    app.add_middleware(BodyLimit, limit=limit, budget=BODIES_IN_FLIGHT * limit, seconds=settings.deadline_s)
    app.add_middleware(HostCheck, allowed=_allowed_hosts(settings))
    app.add_middleware(Rim)
    return app


def _lifespan(settings: Settings, given: SearchEngine | None) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        engine = await asyncio.to_thread(open_engine, settings) if given is None else given
        try:
            await asyncio.to_thread(_warm_up, engine)
            services = Services.over(engine, settings)
            app.state.services = services
            try:
                yield
            finally:
                await services.close()
        finally:
            if given is None:
                await asyncio.to_thread(engine.close)

    return lifespan


def _warm_up(engine: SearchEngine) -> None:
    """Run both towers once, so that the first customer does not pay for compilation."""
    side = engine.encoder.image_size
    engine.encoder.encode_texts(["warm-up"])
    engine.encoder.encode_images([Image.new("RGB", (side, side))])


def _allowed_hosts(settings: Settings) -> tuple[str, ...]:
    if settings.allowed_hosts:
        return settings.allowed_hosts
    return LOOPBACK_NAMES if is_loopback(settings.host) else ()


def _version() -> str:
    try:
        return version("semblance")
    except PackageNotFoundError:
        return "0"
