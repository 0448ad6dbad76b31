"""Whether the server lives and is ready, and what it has counted."""

from typing import Any, get_args

from fastapi import APIRouter, Response

from api.exchange import json_answer
from api.jobstore import State
from api.metrics import MEDIA_TYPE
from api.openapi import problems
from api.schemas.operations import Health
from api.services import Services, ServicesDep
from engine.errors import Unavailable

router = APIRouter(tags=["operations"])


@router.get("/healthz", summary="Is the process alive?", response_model=Health, responses=problems(503))
async def health(services: ServicesDep) -> Response:
    """Answer 200 as long as the process lives and its work goes on; 503 when the encoder is stuck, so that it is restarted."""
    _watch(services)
    return json_answer({"status": "ok"})


@router.get("/readyz", summary="Is it ready for traffic?", response_model=Health, responses=problems(503, 504))
async def readiness(services: ServicesDep) -> Response:
    """Answer 200 when searches can be served: the encoder is warm, the data folder is there and no search is stuck."""
    _watch(services)
    await services.workers.run(services.engine.collections)
    return json_answer({"status": "ready"})


_PAGE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The counters.",
        "content": {"text/plain": {"schema": {"type": "string"}, "example": "semblance_search_batch_size_count 12.0\n"}},
    }
}


@router.get("/metrics", summary="Counters for Prometheus", response_class=Response, responses=_PAGE | problems(503, 504))
async def metrics(services: ServicesDep) -> Response:
    """Show what the service counts, in Prometheus's text form; with several workers, the sum over all of them."""
    return Response(await services.workers.run(lambda: _counted(services)), media_type=MEDIA_TYPE)


def _counted(services: Services) -> bytes:
    services.metrics.see_engine(services.engine)
    services.metrics.see_jobs(services.jobs.counts(), get_args(State))
    services.metrics.queued.set(services.batcher.queued)
    services.metrics.stuck.set(max(services.batcher.longest_running_s, services.workers.longest_running_s))
    return services.metrics.page()


def _watch(services: Services) -> None:
    if stuck := services.stuck_s:
        raise Unavailable(f"a call has been running for {stuck:.0f} s")
