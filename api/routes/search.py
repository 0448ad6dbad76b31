"""Searching: by words, by a picture, by weighted terms. A request becomes a `Query` and goes to the batcher."""

from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any

import numpy as np
from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from api.answers import answer_fields, recalled
from api.drawing import DrawingJobs, Fallback
from api.exchange import StrictRequest, StrictRoute, json_answer, while_connected
from api.limits import no_more_than
from api.openapi import image_search_body, problems
from api.pictures import check_size, picture_bytes
from api.schemas.facets import FacetSearch
from api.schemas.fields import CollectionName
from api.schemas.search import (
    ImageSearch,
    ImageSearchForm,
    Recommendation,
    SearchOptions,
    SearchResponse,
    SearchTerm,
    TermSearch,
    TextSearch,
)
from api.services import Services, ServicesDep
from api.tracing import note_search
from engine.datatypes import DocumentRef, Image, Query, Term
from engine.errors import SemblanceError
from engine.generation.prompts import terms_of
from engine.listing import Boost, Facet, Sort
from engine.paging import START
from engine.queries import recommendation

router = APIRouter(prefix="/v1/collections/{collection}", tags=["search"], route_class=StrictRoute)

MAX_FIELDS = 16
MAX_FIELD_BYTES = 100_000
ERRORS = problems(404, 408, 409, 413, 415, 422, 503, 504)


class RecallingRoute(StrictRoute):
    """A search by words that is answered at once where this process remembers the answer, before anything is handed on."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap the handler of a search."""
        handle = APIRoute.get_route_handler(self)

        async def recalling(request: Request) -> Response:
            request = StrictRequest(request.scope, request.receive)
            return await _from_memory(request) or await handle(request)

        return recalling


async def _from_memory(request: StrictRequest) -> Response | None:
    """Answer a search that was answered before; None for any other, and for what is no search at all."""
    if request.headers.get("content-type", "").partition(";")[0].rstrip().lower() != "application/json":
        return None
    try:
        body = TextSearch.model_validate(await request.json())
        collection, query = request.path_params["collection"], query_of(terms_of(body.query), body)
    except (ValueError, SemblanceError, ClientDisconnect):  # whoever handles the request says so
        return None
    services, drawing = request.app.state.services, request.app.state.drawing
    found = recalled(services.engine, collection, query)
    if found is None or drawing.wanted(query, found[0].result, body.fallback or services.settings.fallback):
        return None
    ready, milliseconds = found
    services.metrics.see_recalled(ready.result, milliseconds / 1000)
    note_search(collection, ready.result, hits=ready.hits, timings_ms={"total": milliseconds})
    return Response(ready.completed(milliseconds), media_type="application/json")


async def search_by_text(collection: CollectionName, body: TextSearch, request: Request, services: ServicesDep) -> Response:
    """Find the products that words describe."""
    return await answer_query(request, services, (collection, query_of(terms_of(body.query), body)), body.fallback)


router.add_api_route(
    "/search/text",
    search_by_text,
    methods=["POST"],
    summary="Search by words",
    response_model=SearchResponse,
    responses=ERRORS,
    route_class_override=RecallingRoute,
)


@router.post(
    "/search/image",
    summary="Search by a picture",
    response_model=SearchResponse,
    responses=problems(400, 404, 408, 409, 413, 415, 422, 503, 504),
    openapi_extra=image_search_body(),
)
async def search_by_image(collection: CollectionName, request: Request, services: ServicesDep) -> Response:
    """Find the products that look like a picture: uploaded as the form field `image`, or inside JSON."""
    image, options = await _read_image_search(request, services)
    return await answer_query(request, services, (collection, query_of((Term(image),), options)), options.fallback)


@router.post("/search", summary="Search by weighted terms", response_model=SearchResponse, responses=ERRORS)
async def search_by_terms(collection: CollectionName, body: TermSearch, request: Request, services: ServicesDep) -> Response:
    """Find products by several weighted terms: words, pictures, products like this one, vectors."""
    terms = tuple([await _term(part, services) for part in body.terms])
    return await answer_query(request, services, (collection, query_of(terms, body)), body.fallback)


@router.post("/search/recommend", summary="Recommend products", response_model=SearchResponse, responses=ERRORS)
async def recommend(collection: CollectionName, body: Recommendation, request: Request, services: ServicesDep) -> Response:
    """Find the products that are like some of the collection and unlike others."""
    return await answer_query(
        request, services, (collection, query_of(recommendation(body.like, body.unlike), body)), body.fallback
    )


def query_of(terms: tuple[Term, ...], options: SearchOptions) -> Query:
    """Put what is looked for and what else was said together."""
    facets = [facet for facet in options.facets if isinstance(facet, FacetSearch)]  # the schema made objects of the names
    return Query(
        terms,
        options.k,
        options.where,
        options.target,
        facets=tuple(Facet(facet.name, tuple(facet.edges), facet.limit) for facet in facets),
        sort=tuple(map(Sort.parse, options.sort)),
        boosts=tuple(map(Boost.parse, options.boost)),
        group_by=options.group_by,
        dedup=options.dedup,
        cursor=options.cursor,
        explain=options.explain,
    )


async def answer_query(
    request: Request, services: Services, about: tuple[str, Query], fallback: Fallback | None, more: Mapping[str, Any] | None = None
) -> Response:
    """Answer a query `about` a collection, with the addresses of pictures, the drawing begun for it, and `more` fields."""
    collection, query = about
    drawing: DrawingJobs = request.app.state.drawing
    wanted = fallback or services.settings.fallback
    result = await while_connected(request, services.batcher.submit(collection, query))
    body = answer_fields(collection, result)
    first_page = query.cursor in (None, START)
    body["generation"] = await drawing.fall_back(request, collection, query, result, wanted) if first_page else None
    return json_answer(body | dict(more or {}))


async def _term(part: SearchTerm, services: Services) -> Term:
    if part.text is not None:
        return Term(part.text, part.weight)
    if part.id is not None:
        return Term(DocumentRef(part.id), part.weight)
    if part.vector is not None:
        with np.errstate(over="ignore"):  # too large a number becomes infinite, which a term refuses
            return Term(np.array(part.vector, np.float32), part.weight)
    return Term(await _picture(part.image or part.image_url or "", services), part.weight)


async def _picture(given: str, services: Services) -> Image:
    """Decode a picture given as base64, data URI or address."""
    async with services.fetching.fetched([given]) as fetched:
        read = partial(picture_bytes, given, max_bytes=services.settings.max_image_bytes, fetched=fetched)
        return await services.workers.run(lambda: services.engine.open_image(read()))


async def _read_image_search(request: Request, services: Services) -> tuple[Image, ImageSearch | ImageSearchForm]:
    """Read either form of the request: the picture, and the options beside it."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        if kind == "multipart/form-data":
            data, form = await _read_form(request, services)
            return await services.workers.run(partial(services.engine.open_image, data)), form
        if kind == "application/json" or kind.endswith("+json"):
            body = ImageSearch.model_validate(await StrictRequest(request.scope, request.receive).json())
            return await _picture(body.image or body.image_url or "", services), body
    except ValidationError as error:
        raise RequestValidationError([{**item, "loc": ("body", *item["loc"])} for item in error.errors()]) from None
    except ValueError as error:
        raise HTTPException(422, f"The body is not valid JSON: {error}") from None
    raise HTTPException(415, "Send the picture as the field `image` of multipart/form-data, or as base64 in application/json.")


async def _read_form(request: Request, services: Services) -> tuple[bytes, ImageSearchForm]:
    limited = Request(
        request.scope, no_more_than(request.receive, services.settings.max_image_bytes + MAX_FIELDS * MAX_FIELD_BYTES)
    )
    async with limited.form(max_files=1, max_fields=MAX_FIELDS, max_part_size=MAX_FIELD_BYTES) as form:
        upload = form.get("image")
        if not isinstance(upload, UploadFile):
            raise HTTPException(422, "The form has no file in its field `image`.")
        data = check_size(await upload.read(), max_bytes=services.settings.max_image_bytes)
        fields: dict[str, Any] = {name: value for name, value in form.multi_items() if name != "image" and value != ""}
        return data, ImageSearchForm.model_validate_strings(fields)
