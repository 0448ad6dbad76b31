"""Products of a collection: added in bulk, shown, patched, removed, and their pictures.

Ids may contain anything, also slashes. Clients percent-encode them; an id sent with bare slashes works too, except that a last
bare segment `image` asks for the picture.
"""

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from api.auth import key_of
from api.exchange import StrictRoute, json_answer, picture_address
from api.openapi import problems
from api.pictures import picture_bytes
from api.schemas.documents import BulkResponse, BulkUpsert, DocumentOut, DocumentPatch
from api.schemas.fields import CollectionName, DocumentId
from api.services import ServicesDep
from api.writing import patch_document, pictures_named, read_document, upsert_documents
from engine.datatypes import Document
from engine.errors import DocumentNotFound, InvalidImage, NotFound
from engine.search import SearchEngine

router = APIRouter(prefix="/v1/collections/{collection}/documents", tags=["documents"], route_class=StrictRoute)

WRITE_ERRORS = problems(404, 408, 409, 413, 415, 422, 503, 504)
READ_ERRORS = problems(404, 409, 422, 503, 504)


@router.post(
    "",
    summary="Add or replace products",
    response_model=BulkResponse,
    responses={207: {"model": BulkResponse, "description": "Some items were refused; the others are in."}, **WRITE_ERRORS},
)
async def upsert(collection: CollectionName, body: BulkUpsert, services: ServicesDep) -> Response:
    """Add or replace products; each item gets a status, and a bad one never stops the others."""
    async with services.fetching.fetched(pictures_named(body.documents)) as fetched, services.writes.turn(collection):
        read = partial(picture_bytes, max_bytes=services.settings.max_image_bytes, fetched=fetched)
        items = await services.workers.run(lambda: upsert_documents(services.engine, collection, body.documents, read))
    counts = {status: sum(item["status"] == status for item in items) for status in ("created", "updated", "unchanged", "refused")}
    return json_answer({"items": items, **counts}, 207 if counts["refused"] else 200)


@router.get(
    "/{id:rest}/image",
    summary="Show a product's picture",
    response_class=Response,
    responses={
        200: {"content": {"image/webp": {"schema": {"type": "string", "format": "binary"}}}, "description": "The picture as WebP."},
        304: {"description": "The picture is the one the client has."},
        **READ_ERRORS,
    },
)
async def read_image(
    collection: CollectionName,
    id: DocumentId,
    request: Request,
    services: ServicesDep,
    size: Annotated[int, Query(ge=16, le=1600, description="Longest side in pixels.")] = 400,
) -> Response:
    """Show a product's first picture, made small."""
    if _slash_is_encoded(request):
        return await read(collection, f"{id}/image", services)
    had = request.headers.get("if-none-match", "")
    tag, data = await services.workers.run(lambda: _picture(services.engine, collection, id, size, had))
    whose = "public" if key_of(request.scope) is None else "private"
    headers = {"ETag": tag, "Cache-Control": f"{whose}, max-age=300", "Cross-Origin-Resource-Policy": "cross-origin"}
    if data is None:
        return Response(status_code=304, headers=headers)
    return Response(data, media_type="image/webp", headers=headers)


@router.get("/{id:rest}", summary="Show a product", response_model=DocumentOut, responses=READ_ERRORS)
async def read(collection: CollectionName, id: DocumentId, services: ServicesDep) -> Response:
    """Show a product."""
    document = await services.workers.run(lambda: read_document(services.engine.collection(collection), collection, id))
    return json_answer(_shown(collection, document))


@router.patch("/{id:rest}", summary="Change a product", response_model=DocumentOut, responses=WRITE_ERRORS)
async def patch(collection: CollectionName, id: DocumentId, body: DocumentPatch, services: ServicesDep) -> Response:
    """Change some of a product. Only what changed is embedded again; an attribute set to null is removed."""
    async with services.fetching.fetched(body.images) as fetched, services.writes.turn(collection):
        read = partial(picture_bytes, max_bytes=services.settings.max_image_bytes, fetched=fetched)
        document = await services.workers.run(lambda: patch_document(services.engine, collection, id, body, read))
    return json_answer(_shown(collection, document))


@router.delete("/{id:rest}", summary="Remove a product", status_code=204, response_class=Response, responses=READ_ERRORS)
async def delete(collection: CollectionName, id: DocumentId, services: ServicesDep) -> Response:
    """Remove a product."""
    async with services.writes.turn(collection):
        removed = await services.workers.run(lambda: services.engine.collection(collection).delete([id]))
    if not removed:
        raise DocumentNotFound(f"collection {collection!r} has no document {id!r}")
    return Response(status_code=204)


def _slash_is_encoded(request: Request) -> bool:
    """Tell an id that ends in `/image`, percent-encoded, from a request for a picture."""
    raw: bytes = request.scope.get("raw_path") or b""
    return raw.partition(b"?")[0].lower().endswith(b"%2fimage")


def _picture(engine: SearchEngine, collection: str, id: str, size: int, had: str) -> tuple[str, bytes | None]:
    """Give a picture's tag and bytes; None for bytes that the client has."""
    try:
        tag = f'"{engine.picture_content(collection, id).hex()}-{size}"'
        return tag, None if tag in had else engine.picture(collection, id, side=size)
    except InvalidImage as error:
        raise NotFound(f"document {id!r} has no picture to show: {error.reason}") from None


def _shown(collection: str, document: Document) -> dict[str, object]:
    return {
        "id": document.id,
        "title": document.title,
        "description": document.description,
        "image": picture_address(collection, document.id, document.images[0] if document.images else None),
        "images": len(document.images),
        "attributes": {name: list(value) if isinstance(value, tuple) else value for name, value in document.attributes.items()},
    }
