"""Whether the server lives and is ready."""

from fastapi import APIRouter, Response

from api.exchange import json_answer
from api.openapi import problems
from api.schemas.operations import Health
from api.services import ServicesDep
from engine.errors import Unavailable

router = APIRouter(tags=["operations"])


@router.get("/healthz", summary="Is the process alive?", response_model=Health)
async def health() -> Response:
    """Answer as long as the process lives."""
    return json_answer({"status": "ok"})


@router.get("/readyz", summary="Is it ready for traffic?", response_model=Health, responses=problems(503, 504))
async def readiness(services: ServicesDep) -> Response:
    """Answer 200 when searches can be served: the encoder is warm, the data folder is there and no search is stuck."""
    stuck = services.batcher.longest_running_s
    if stuck > 2 * services.settings.deadline_s:
        raise Unavailable(f"a batch of searches has been running for {stuck:.0f} s")
    await services.workers.run(services.engine.collections)
    return json_answer({"status": "ready"})
