"""The application: routes, limits and error answers around one engine.

`create_app` only puts together; what happens to a request is in `api.middleware`, `api.limits`, `api.routes` and `api.errors`.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import TypeAlias

from fastapi import FastAPI
from PIL import Image

from api import errors
from api.audit import Audit, AuditLog
from api.auth import KeyCheck, keys_required, owner_of
from api.drawing import DrawingJobs
from api.heads import HeadAsGet
from api.idempotency import Answers, Idempotency
from api.keys import KeyRing
from api.limits import LOOPBACK_NAMES, BodyLimit, HostCheck, is_loopback
from api.metrics import Metrics
from api.middleware import Rim
from api.openapi import DESCRIPTION, TAGS, DocumentedAPI
from api.origins import Origins
from api.rates import Buckets, Limit, LocalBuckets, RateLimit, RedisBuckets
from api.routes import collections, documents, embeddings, generate, imports, jobs, operations, pages, search, snapshots, voice
from api.services import Services
from api.tracing import finish, telemetry
from api.uploads import is_upload
from engine import open_engine
from engine.config import Settings
from engine.generation.desk import Draws
from engine.search import SearchEngine

logger = logging.getLogger(__name__)

Lifespan: TypeAlias = Callable[[FastAPI], AbstractAsyncContextManager[None]]

BODIES_IN_FLIGHT = 16


def create_app(settings: Settings, engine: SearchEngine | None = None, studio: Draws | None = None) -> FastAPI:
    """Build the application around `engine`, or around one it opens at startup and closes at shutdown.

    `studio` draws in place of a process of its own; it stays the caller's.
    """
    buckets, metrics = _buckets(settings), Metrics()
    traced = telemetry(settings)
    app = DocumentedAPI(
        title="Semblance",
        version=_version(),
        description=DESCRIPTION,
        openapi_tags=TAGS,
        lifespan=_lifespan(settings, (engine, studio), buckets, metrics),
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        telemetry=traced,
    )
    for module in (search, voice, documents, collections, snapshots, embeddings, generate, imports, jobs, operations):
        app.include_router(module.router)
    app.include_router(pages.page_router(settings))
    app.mount("/static", pages.Assets(directory=pages.STATIC), name="static")
    errors.install(app)
    _protect(app, settings, buckets)
    app.state.traced = traced
    app.add_middleware(Rim, metrics=metrics)
    return app


def _protect(app: FastAPI, settings: Settings, buckets: Buckets) -> None:
    """Wrap the application in what may refuse a request, from the inside out: the cheapest check comes first."""
    app.add_middleware(HeadAsGet)
    limit = settings.max_body_bytes
    answers = Answers(settings.data, busy_s=settings.busy_timeout_ms / 1000, patience_s=2 * settings.deadline_s)
    app.add_middleware(Idempotency, answers=answers)
    budget, seconds = BODIES_IN_FLIGHT * limit, settings.deadline_s
    app.add_middleware(BodyLimit, limit=limit, budget=budget, seconds=seconds, passes=is_upload, owner=owner_of)
    if keys_required(settings):
        app.add_middleware(RateLimit, buckets=buckets, limit=Limit(settings.rate_limit, settings.rate_burst))
        app.add_middleware(KeyCheck, keys=KeyRing(settings.data))
    if settings.audit_days:
        app.add_middleware(Audit, log=AuditLog(settings.data, days=settings.audit_days))
    app.add_middleware(Origins, allowed=settings.cors_origins)
    app.add_middleware(HostCheck, allowed=_allowed_hosts(settings))


def _buckets(settings: Settings) -> Buckets:
    local = LocalBuckets()
    if settings.redis_url is None:
        return local
    return RedisBuckets(settings.redis_url, timeout_ms=settings.redis_timeout_ms, local=local)


def _lifespan(
    settings: Settings, parts: tuple[SearchEngine | None, Draws | None], buckets: Buckets, metrics: Metrics
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    given, studio = parts

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        engine = await asyncio.to_thread(open_engine, settings) if given is None else given
        try:
            await asyncio.to_thread(_warm_up, engine)
            services = Services.over(engine, settings, metrics)
            await asyncio.to_thread(services.start)
            app.state.services = services
            app.state.drawing = drawing = DrawingJobs(services, buckets, studio)
            await asyncio.to_thread(drawing.start)
            try:
                yield
            finally:
                await services.close()
                await asyncio.to_thread(drawing.close)
                await buckets.close()
                await asyncio.to_thread(finish, app.state.traced)
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
