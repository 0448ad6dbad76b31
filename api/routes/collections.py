"""Collections: made, listed, described, removed."""

from fastapi import APIRouter, Request, Response

from api.auth import key_of
from api.exchange import StrictRoute, json_answer
from api.keys import ApiKey
from api.openapi import problems
from api.schemas.documents import CollectionList, CollectionOut
from api.schemas.fields import CollectionName
from api.schemas.snapshots import Deleted, Where
from api.services import ServicesDep
from engine.errors import CollectionExists, CollectionNotFound, EncoderMismatch, InvalidFilter, SemblanceError
from engine.search import SearchEngine

router = APIRouter(prefix="/v1/collections", tags=["collections"], route_class=StrictRoute)


@router.get("", summary="List collections", response_model=CollectionList, responses=problems(503, 504))
async def list_collections(request: Request, services: ServicesDep) -> Response:
    """List the collections that can be searched; those that the key reaches."""
    key = key_of(request.scope)
    return json_answer(await services.workers.run(lambda: _list(services.engine, key)))


@router.put(
    "/{collection}",
    summary="Make a collection",
    response_model=CollectionOut,
    responses={201: {"model": CollectionOut, "description": "The collection was made."}, **problems(409, 422, 503, 504)},
)
async def create_collection(collection: CollectionName, services: ServicesDep) -> Response:
    """Make a collection; 200 when it was there already."""
    async with services.writes.turn(collection):
        made, body = await services.workers.run(lambda: _ensure(services.engine, collection))
    return json_answer(body, 201 if made else 200)


@router.get(
    "/{collection}", summary="Describe a collection", response_model=CollectionOut, responses=problems(404, 409, 422, 503, 504)
)
async def read_collection(collection: CollectionName, services: ServicesDep) -> Response:
    """Describe a collection."""
    return json_answer(await services.workers.run(lambda: _describe(services.engine, collection)))


@router.delete(
    "/{collection}", summary="Remove a collection", status_code=204, response_class=Response, responses=problems(404, 422, 503, 504)
)
async def delete_collection(collection: CollectionName, services: ServicesDep) -> Response:
    """Remove a collection with every product in it."""
    async with services.writes.turn(collection):
        await services.workers.run(lambda: services.engine.drop(collection))
    return Response(status_code=204)


@router.delete(
    "/{collection}/documents",
    summary="Remove products by filter",
    response_model=Deleted,
    responses=problems(404, 409, 422, 503, 504),
)
async def delete_documents(collection: CollectionName, where: Where, request: Request, services: ServicesDep) -> Response:
    """Remove every product that a filter admits, in one step."""
    if (times := len(request.query_params.getlist("where"))) > 1:  # one of them alone would remove more than was meant
        raise InvalidFilter(f"there are {times} filters `where`: join them with `and`, or remove by one after the other")
    async with services.writes.turn(collection):
        deleted = await services.workers.run(lambda: services.engine.collection(collection).delete_where(where))
    return json_answer({"deleted": deleted})


def _describe(engine: SearchEngine, name: str) -> dict[str, object]:
    collection = engine.collection(name)
    return {
        "name": name,
        "documents": len(collection),
        "encoder": collection.encoder,
        "fingerprint": collection.fingerprint,
        "version": collection.version,
    }


def _ensure(engine: SearchEngine, name: str) -> tuple[bool, dict[str, object]]:
    try:
        engine.create(name)
    except CollectionExists:
        return False, _describe(engine, name)
    return True, _describe(engine, name)


def _list(engine: SearchEngine, key: ApiKey | None) -> dict[str, object]:
    usable, unusable = [], {}
    for name in engine.collections():
        if key is not None and not key.admits(name):
            continue
        try:
            usable.append(_describe(engine, name))
        except CollectionNotFound:
            continue  # removed since it was listed
        except EncoderMismatch as error:
            unusable[name] = str(error)
        except SemblanceError as error:
            unusable[name] = f"it cannot be opened ({type(error).__name__}); the server's log says why"
    return {"collections": usable, "unusable": unusable}
