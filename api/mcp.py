"""The Model Context Protocol: search by words and by pictures as tools for language models. Needs the extra `mcp`.

`mcp_server` offers the tools over any `AsyncSemblance`; `client_over` makes one that serves a data folder inside this process. What
a tool answers is compact, because a model reads it; what it needs to know of a tool stands in the docstring.
"""

import base64
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Annotated, TypeAlias

import httpx
from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations
from pydantic import BaseModel, Field

from api.app import create_app
from api.client import AsyncSemblance, ClientProblem, SearchResult
from api.client.results import Attribute
from engine.config import Settings

INSTRUCTIONS = (
    "Semblance searches the product catalogues of a shop by meaning: by words in any language, or by a picture. "
    "Start with list_collections. Every answer says how sure it is; when it is not, say so instead of presenting a find."
)
MAX_PRODUCTS = 50
MAX_PATH_LENGTH = 4_096
READ_ONLY = ToolAnnotations(read_only_hint=True, open_world_hint=False)

Connect: TypeAlias = Callable[[], AbstractAsyncContextManager[AsyncSemblance]]

CollectionName = Annotated[str, Field(description="Name of a collection, as list_collections gives it.")]
Limit = Annotated[int, Field(ge=1, le=MAX_PRODUCTS, description="How many products to return at most.")]
Where = Annotated[
    str | None,
    Field(description="Filter over attributes, such as: price < 50 and brand = 'Acme' and color in ('red', 'blue')."),
]


class Product(BaseModel):
    """One product found."""

    id: str
    title: str
    score: float = Field(description="Relevance; compare it only within one answer.")
    picture: str | None = Field(description="Address of its picture.")
    attributes: dict[str, Attribute]


class Found(BaseModel):
    """What a search found."""

    verdict: str = Field(description="How much to trust the answer, in words.")
    confidence: float | None = Field(description="Calibrated probability that a relevant product is among them.")
    products: list[Product]


class CollectionInfo(BaseModel):
    """A collection that can be searched."""

    name: str
    products: int


class ProductDetails(BaseModel):
    """Everything known of one product."""

    id: str
    title: str
    description: str
    picture: str | None
    attributes: dict[str, Attribute]


def mcp_server(connect: Connect, url: str = "") -> "MCPServer[AsyncSemblance]":
    """Build a server over the client that `connect` opens when it starts; `url` completes the addresses of pictures."""

    @asynccontextmanager
    async def lifespan(server: "MCPServer[AsyncSemblance]") -> AsyncIterator[AsyncSemblance]:
        async with connect() as client:
            tools.client = client
            yield client

    tools = Tools(url)
    server = MCPServer("semblance", instructions=INSTRUCTIONS, lifespan=lifespan, log_level="WARNING")
    for tool in (tools.list_collections, tools.search_by_text, tools.search_by_image, tools.get_document):
        server.add_tool(tool, annotations=READ_ONLY)
    return server


class Tools:
    """The tools. `client` is set while the server runs."""

    client: AsyncSemblance

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")

    async def list_collections(self) -> list[CollectionInfo]:
        """List the product collections that can be searched, with the number of products in each."""
        with _told():
            found = await self.client.collections()
        return [CollectionInfo(name=item.name, products=item.documents) for item in found]

    async def search_by_text(
        self,
        collection: CollectionName,
        query: Annotated[str, Field(description="What to look for, in any language: a phrase works better than keywords.")],
        limit: Limit = 10,
        where: Where = None,
    ) -> Found:
        """Find the products that words describe."""
        with _told():
            return self._found(await self.client.search_text(collection, query, k=limit, where=where))

    async def search_by_image(
        self,
        collection: CollectionName,
        image: Annotated[str, Field(description="Path of a picture file on this machine, or the picture as base64 or data URI.")],
        limit: Limit = 10,
        where: Where = None,
    ) -> Found:
        """Find the products that look like a picture."""
        picture = _picture(image)
        with _told():
            return self._found(await self.client.search_image(collection, picture, k=limit, where=where))

    async def get_document(
        self, collection: CollectionName, id: Annotated[str, Field(description="Id of a product, as a search gives it.")]
    ) -> ProductDetails:
        """Show everything that is known of one product."""
        with _told():
            found = await self.client.document(collection, id)
        return ProductDetails(
            id=found.id,
            title=found.title,
            description=found.description,
            picture=self._address(found.image),
            attributes=found.attributes,
        )

    def _found(self, result: SearchResult) -> Found:
        products = [
            Product(id=hit.id, title=hit.title, score=hit.score, picture=self._address(hit.image), attributes=hit.attributes)
            for hit in result.hits
        ]
        return Found(verdict=verdict(result), confidence=result.confidence, products=products)

    def _address(self, image: str | None) -> str | None:
        """Complete an address; a picture of a server without one cannot be shown."""
        if image is None or not image.startswith("/"):
            return image
        return f"{self._url}{image}" if self._url else None


def verdict(result: SearchResult) -> str:
    """Put into words how much to trust an answer."""
    if not result.hits:
        return "Nothing was found: the collection is empty, or no product passes the filter."
    sure = "" if result.confidence is None else f" (confidence {result.confidence:.0%})"
    return {
        "answer": f"Good matches{sure}.",
        "broaden": f"Possible matches{sure}: a broader query may find better ones.",
    }.get(result.decision, f"Nothing in this catalogue seems to fit{sure}; these are only the closest products.")


@asynccontextmanager
async def client_over(settings: Settings) -> AsyncIterator[AsyncSemblance]:
    """Serve the data folder of `settings` inside this process, without a socket, and lend a client of it.

    Whoever may read the folder needs no key.
    """
    app = create_app(settings.model_copy(update={"api_keys": "off"}))
    async with app.router.lifespan_context(app):
        async with AsyncSemblance("http://localhost", transport=httpx.ASGITransport(app)) as client:
            yield client


@contextmanager
def _told() -> Iterator[None]:
    """Tell the model what went wrong, with the remedy, instead of ending the server."""
    try:
        yield
    except ClientProblem as problem:
        raise ToolError(str(problem)) from problem


def _picture(image: str) -> bytes:
    """Read a picture given as path, base64 or data URI."""
    try:
        path = Path(image).expanduser() if len(image) < MAX_PATH_LENGTH else None
        if path is not None and path.is_file():
            return path.read_bytes()
        return base64.b64decode(image.rpartition(",")[2] if image.startswith("data:") else image, validate=True)
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: `~name` of a user there is not
        shown = image if len(image) <= 80 else f"{image[:80]}..."
        raise ToolError(f"{shown!r} is neither the path of a readable file nor base64 ({error}): give one of them") from None
