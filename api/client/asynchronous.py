"""The client for `async` code. `api.client.synchronous` has the same methods for ordinary code."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, Unpack

import httpx

from api.client import calls
from api.client.calls import Call, Result
from api.client.connection import Connection, result_of, sent
from api.client.results import BulkResult, Collection, Document, SearchResult
from api.client.retrying import Outcome, Retries
from api.client.searches import NewDocument, Options, Picture, Term


class AsyncSemblance:
    """A connection to a server; close it, or use it in a `async with` block.

    Every method raises `Problem` for an error answer and `Unreachable` when none came, after the stated `retries`.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        key: str | None = None,
        timeout_s: float = 30.0,
        retries: Retries | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._connection = Connection(url, key, timeout_s, retries or Retries())
        self._http = httpx.AsyncClient(transport=transport, **self._connection.arguments())
        self._sleep = sleep

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.aclose()

    async def search(self, collection: str, terms: Sequence[Term], **options: Unpack[Options]) -> SearchResult:
        """Search by weighted terms: "this dress, but red, not sleeveless"."""
        return await self._send(calls.search(collection, terms, options))

    async def search_text(self, collection: str, query: str, **options: Unpack[Options]) -> SearchResult:
        """Find the products that words describe."""
        return await self._send(calls.search_text(collection, query, options))

    async def search_image(self, collection: str, image: Picture, **options: Unpack[Options]) -> SearchResult:
        """Find the products that look like a picture: its bytes, or the path of its file."""
        return await self._send(calls.search_image(collection, image, options))

    async def recommend(
        self, collection: str, like: Sequence[str], unlike: Sequence[str] = (), **options: Unpack[Options]
    ) -> SearchResult:
        """Find products like some of the collection and unlike others."""
        return await self._send(calls.recommend(collection, like, unlike, options))

    async def pages(self, collection: str, terms: Sequence[Term], **options: Unpack[Options]) -> AsyncIterator[SearchResult]:
        """Search and turn the pages, `k` hits each, until the end."""
        options["cursor"] = options.get("cursor") or "*"
        while True:
            page = await self.search(collection, terms, **options)
            yield page
            if page.cursor is None:
                return
            options["cursor"] = page.cursor

    async def collections(self) -> list[Collection]:
        """List the collections that can be searched."""
        return await self._send(calls.list_collections())

    async def collection(self, collection: str) -> Collection:
        """Describe a collection."""
        return await self._send(calls.read_collection(collection))

    async def create_collection(self, collection: str) -> Collection:
        """Make a collection; one that is there already stays as it is."""
        return await self._send(calls.create_collection(collection))

    async def drop_collection(self, collection: str) -> None:
        """Remove a collection with every product in it."""
        await self._send(calls.drop_collection(collection))

    async def document(self, collection: str, id: str) -> Document:
        """Show a product."""
        return await self._send(calls.read_document(collection, id))

    async def picture(self, collection: str, id: str, *, size: int = 400) -> bytes:
        """Show a product's first picture as WebP, its longest side `size` pixels at most."""
        return await self._send(calls.read_picture(collection, id, size))

    async def upsert(self, collection: str, documents: Sequence[NewDocument]) -> BulkResult:
        """Add or replace products, 1,000 at most in one call; each is judged alone."""
        return await self._send(calls.upsert(collection, documents))

    async def patch(self, collection: str, id: str, changes: Mapping[str, Any]) -> Document:
        """Change some of a product: what is given replaces what is stored; an attribute set to None is removed."""
        return await self._send(calls.patch(collection, id, changes))

    async def delete(self, collection: str, id: str) -> None:
        """Remove a product."""
        await self._send(calls.delete(collection, id))

    async def embed(self, inputs: Sequence[str | Picture]) -> list[list[float]]:
        """Embed texts and pictures: a unit vector of 256 numbers for each."""
        return await self._send(calls.embed(inputs))

    async def ready(self) -> bool:
        """Say whether the server is ready to search; raises `Unavailable` or `Unreachable` when it is not."""
        return await self._send(calls.ready())

    async def _send(self, call: Call[Result]) -> Result:
        attempt = 1
        while (wait := self._connection.retries.wait_s(attempt, outcome := await self._attempt(call))) is not None:
            await self._sleep(wait)
            attempt += 1
        return result_of(call, outcome, self._connection.url)

    async def _attempt(self, call: Call[Result]) -> Outcome:
        try:
            return await self._http.request(**sent(call))
        except httpx.TransportError as error:
            return error
