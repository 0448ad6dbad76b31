"""Reading JSON strictly and writing it fast: both through orjson.

orjson refuses NaN, Infinity, half surrogate pairs, invalid UTF-8 and deep nesting, so none of them gets past the rim.
"""

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar
from urllib.parse import quote

import orjson
from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException

from api.passes import with_pass

T = TypeVar("T")


class _WholeRest(Convertor[str]):
    """The rest of a path, line breaks too: Starlette's own `path` stops at them."""

    regex = "(?s:.*)"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("rest", _WholeRest())


class StrictRequest(Request):
    """A request whose JSON is parsed by orjson."""

    async def json(self) -> Any:  # noqa: ANN401  whatever JSON holds
        """Parse the body; raises `json.JSONDecodeError`."""
        try:
            return orjson.loads(await self.body())
        except json.JSONDecodeError as error:
            # The body itself stays out of the exception: it may be large, and hostile to whoever prints it.
            raise json.JSONDecodeError(error.msg, "", 0) from None


class StrictRoute(APIRoute):
    """A route that reads JSON strictly."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap FastAPI's handler so that it gets a `StrictRequest`."""
        handle = super().get_route_handler()

        async def strict(request: Request) -> Response:
            return await handle(StrictRequest(request.scope, request.receive))

        return strict


def json_answer(body: object, status: int = 200) -> Response:
    """Write a body that is plain data already."""
    return Response(orjson.dumps(body), status, media_type="application/json")


def picture_address(collection: str, id: str, image: str | None) -> str | None:
    """Say where a client finds a document's picture: the remote address it was given by, else this server."""
    if image is None or image.lower().startswith(("http://", "https://")):
        return image
    documents = f"/v1/collections/{collection}/documents"
    return with_pass(f"{quote(documents)}/{quote(id, safe='')}/image", f"{documents}/{id}/image")


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Await `work`, and cancel it when the client hangs up first. The body must have been read."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnect(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise HTTPException(400, "The client closed the connection.")
    finally:
        task.cancel()
        gone.cancel()


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
