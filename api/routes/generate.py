"""Drawing: an order becomes a job; the finished picture is fetched by its id."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from starlette.exceptions import HTTPException

from api.auth import key_of
from api.drawing import BudgetSpent, DrawingDep, NothingDraws, Wish
from api.exchange import StrictRoute
from api.openapi import problems
from api.pictures import picture_bytes
from api.routes.jobs import accepted, job_answer
from api.schemas.generation import GENERATE_JOB, GenerateRequest
from api.services import Services, ServicesDep
from engine.datatypes import Image
from engine.encoders.images import decode
from engine.generation.desk import Order
from engine.moderation import moderated

router = APIRouter(tags=["drawings"], route_class=StrictRoute)

PHOTO_SIDE = 1_024
DrawingId = Annotated[
    str, Path(pattern=r"^[0-9a-f]{32}$", description="Id of a drawing.", examples=["0f343b0931126a20f133d67c2b018a3b"])
]
_PNG: dict[int | str, dict[str, Any]] = {
    200: {"description": "The drawing, with its provenance inside.", "content": {"image/png": {}}}
}


@router.post(
    "/v1/generate",
    summary="Draw a picture",
    status_code=202,
    responses=accepted(GENERATE_JOB) | problems(403, 404, 408, 413, 422, 429, 501, 503, 504),
)
async def generate(body: GenerateRequest, request: Request, services: ServicesDep, drawing: DrawingDep) -> Response:
    """Draw what words describe, and find the real products nearest to the drawing.

    Answers with a job: follow it at `/v1/jobs/{id}/events`, which shows candidates as they are drawn. Its result holds the
    drawing, always marked `synthetic`, and `closest`, the products. The same order twice is one
    job. What safety refuses names its `rule`.
    """
    key = key_of(request.scope)
    if key is not None and body.collection is not None and not key.admits(body.collection):
        raise HTTPException(403, f"The key {key.name!r} does not reach the collection {body.collection!r}: use another key.")
    wish = await services.workers.run(lambda: _wish(body, services))
    try:
        job = await drawing.submit(wish, key)
    except BudgetSpent as error:
        raise HTTPException(429, f"{error}.", {"Retry-After": str(int(error.wait_s) + 1)}) from None
    except NothingDraws as error:
        raise HTTPException(501, f"{error}.") from None
    return job_answer(job)


@router.get(
    "/v1/drawings/{id}/image", summary="Show a drawing", response_class=Response, responses=_PNG | problems(404, 422, 503, 504)
)
async def read_drawing(id: DrawingId, services: ServicesDep, drawing: DrawingDep) -> Response:
    """Return a drawing as PNG. Its XMP says that a model made it."""
    if drawing.desk is None:
        raise HTTPException(404, "This server draws nothing.")
    album = drawing.desk.album
    data = await services.workers.run(lambda: album.png(id))
    return Response(data, media_type="image/png", headers={"Cache-Control": "private, max-age=86400", "X-Synthetic": "true"})


def _wish(body: GenerateRequest, services: Services) -> Wish:
    if body.collection is not None:
        services.engine.collection(body.collection).count(body.where)
    fields = body.model_dump(include={"prompt", "style", "category", "size", "candidates", "seed", "steps", "guidance", "strength"})
    photo = None if body.image is None else _photo(body.image, services)
    return Wish(Order(**fields, photo=photo), body.collection, body.k, body.where)


def _photo(image: str, services: Services) -> Image:
    settings = services.settings
    data = picture_bytes(image, max_bytes=settings.max_image_bytes)
    photo = decode(data, size=None, max_pixels=settings.max_pixels)
    photo.thumbnail((PHOTO_SIDE, PHOTO_SIDE))
    return moderated(photo, "uploads", settings)
