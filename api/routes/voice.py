"""Searching by voice: a recording becomes words, and the words a search."""

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from api.exchange import StrictRoute
from api.limits import no_more_than
from api.openapi import problems, voice_body
from api.routes.search import MAX_FIELD_BYTES, MAX_FIELDS, answer_query, query_of
from api.schemas.fields import CollectionName
from api.schemas.voice import VoiceForm, VoiceResponse
from api.services import Services, ServicesDep
from engine.errors import MissingExtra
from engine.generation.prompts import terms_of
from engine.protocols import Transcriber
from engine.voice import build_transcriber, hear

router = APIRouter(prefix="/v1/collections/{collection}", tags=["search"], route_class=StrictRoute)


async def _transcriber(services: ServicesDep) -> Transcriber:
    try:
        return await services.workers.run(partial(build_transcriber, services.settings))
    except MissingExtra as error:
        raise HTTPException(501, f"{error}.") from None


TranscriberDep = Annotated[Transcriber, Depends(_transcriber)]


@router.post(
    "/search/voice",
    summary="Search by voice",
    response_model=VoiceResponse,
    responses=problems(400, 404, 408, 409, 413, 415, 422, 501, 503, 504),
    openapi_extra=voice_body(),
)
async def search_by_voice(
    collection: CollectionName, request: Request, services: ServicesDep, transcriber: TranscriberDep
) -> Response:
    """Find the products that somebody asks for: a recording as the form field `audio`, or as the body.

    The answer is that of a search by the words heard, which stand in `transcript`. A recording in which there are none is
    answered 422 with a `reason`: `empty`, `not_audio`, `too_long`, `silence`, `no_words`.
    """
    data, options = await _read(request, services)
    heard = await services.workers.run(lambda: hear(data, transcriber, services.settings, language=options.language))
    query = query_of(terms_of(heard.text), options)
    more = {"transcript": heard.text, "language": heard.language}
    return await answer_query(request, services, (collection, query), options.fallback, more)


async def _read(request: Request, services: Services) -> tuple[bytes, VoiceForm]:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return await _read_form(request, services)
    if kind.startswith(("audio/", "video/")) or kind == "application/octet-stream":
        return await request.body(), _validated(dict(request.query_params))
    raise HTTPException(415, "Send the recording as the field `audio` of multipart/form-data, or as a body of type audio/*.")


async def _read_form(request: Request, services: Services) -> tuple[bytes, VoiceForm]:
    limited = Request(request.scope, no_more_than(request.receive, services.settings.max_body_bytes))
    async with limited.form(max_files=1, max_fields=MAX_FIELDS, max_part_size=MAX_FIELD_BYTES) as form:
        upload = form.get("audio")
        if not isinstance(upload, UploadFile):
            raise HTTPException(422, "The form has no file in its field `audio`.")
        data = await upload.read()
        return data, _validated({name: value for name, value in form.multi_items() if name != "audio" and value != ""})


def _validated(fields: dict[str, Any]) -> VoiceForm:
    try:
        return VoiceForm.model_validate_strings(fields)
    except ValidationError as error:
        raise RequestValidationError([{**item, "loc": ("body", *item["loc"])} for item in error.errors()]) from None
