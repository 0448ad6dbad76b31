"""The MCP server as a host uses it: `semblance mcp` in a process of its own, over standard input and output."""

import asyncio
import base64
import sys
from pathlib import Path

import pytest
from mcp import Client, StdioServerParameters

from api.client import SearchResult
from api.keys import KeyRequest, KeyRing
from api.mcp import verdict
from engine.testing import COLOURS

ROOT = Path(__file__).parent.parent


def stdio(*arguments, **environment):
    """Say how to start the server."""
    environment = {"PYTHONPATH": str(ROOT), **environment}
    return StdioServerParameters(command=sys.executable, args=["-m", "cli", "mcp", *arguments], env=environment, cwd=str(ROOT))


def use(server, *calls):
    """Start the server, make the calls one after another, and return the tools and the results."""

    async def session():
        async with Client(server, read_timeout_seconds=120) as client:
            tools = (await client.list_tools()).tools
            return {tool.name: tool for tool in tools}, [await client.call_tool(name, arguments) for name, arguments in calls]

    return asyncio.run(session())


@pytest.fixture
def shop(start_toy_server, monkeypatch, colour_picture):
    """A server that asks for keys, over six mugs; and a key that may read."""
    monkeypatch.setenv("SEMBLANCE_API_KEYS", "on")
    server = start_toy_server()
    ring = KeyRing(Path(server.process.args[-1]))
    admin = {"authorization": f"Bearer {ring.create(KeyRequest('admin', 'admin'))[1]}"}
    documents = [
        {"id": name, "title": f"{name} mug", "images": [colour_picture(colour)], "attributes": {"price": price}}
        for price, (name, colour) in enumerate(COLOURS.items(), start=1)
    ]
    server.client.put("/v1/collections/shop", headers=admin).raise_for_status()
    server.client.post("/v1/collections/shop/documents", json={"documents": documents}, headers=admin).raise_for_status()
    yield server, ring.create(KeyRequest("model", "read"))[1]
    server.end()


def test_a_model_searches_a_running_server(shop, colour_picture, tmp_path):
    server, key = shop
    blue = colour_picture(COLOURS["blue"])
    (tmp_path / "green.png").write_bytes(base64.b64decode(colour_picture(COLOURS["green"])))
    tools, results = use(
        stdio("--url", server.address, SEMBLANCE_CLIENT_KEY=key),
        ("list_collections", {}),
        ("search_by_text", {"collection": "shop", "query": "red", "limit": 2, "where": "price < 5"}),
        ("search_by_image", {"collection": "shop", "image": blue}),
        ("search_by_image", {"collection": "shop", "image": f"data:image/png;base64,{blue}"}),
        ("search_by_image", {"collection": "shop", "image": str(tmp_path / "green.png")}),
        ("get_document", {"collection": "shop", "id": "red"}),
    )
    assert set(tools) == {"list_collections", "search_by_text", "search_by_image", "get_document"}
    assert all(tool.annotations.read_only_hint and tool.description for tool in tools.values())
    assert not any(result.is_error for result in results), results
    listed, words, inline, uri, file, document = (result.structured_content for result in results)
    assert listed == {"result": [{"name": "shop", "products": 6}]}
    assert words["products"][0]["title"] == "red mug"
    assert len(words["products"]) == 2
    assert words["verdict"]
    assert inline["products"] == uri["products"]
    assert inline["products"][0]["title"] == "blue mug"
    assert file["products"][0]["title"] == "green mug"
    assert document["attributes"] == {"price": 1}
    picture = server.client.get(document["picture"])
    assert picture.headers["content-type"] == "image/webp", "the address opens without a key, by its pass"


def test_what_goes_wrong_is_told_with_its_remedy(shop):
    server, key = shop
    _, results = use(
        stdio("--url", server.address, SEMBLANCE_CLIENT_KEY=key),
        ("search_by_text", {"collection": "gone", "query": "red"}),
        ("search_by_text", {"collection": "shop", "query": "red", "where": "price < <"}),
        ("search_by_image", {"collection": "shop", "image": "/no/such/file.png"}),
        ("search_by_image", {"collection": "shop", "image": base64.b64encode(b"no picture").decode()}),
        ("search_by_text", {"collection": "shop", "query": "blue"}),
        ("search_by_image", {"collection": "shop", "image": "~nobody-of-that-name/file.png"}),
    )
    assert [result.is_error for result in results] == [True, True, True, True, False, True]
    assert "neither the path" in results[5].content[0].text
    said = [result.content[0].text for result in results[:4]]
    assert "gone" in said[0]
    assert "column 9" in said[1]
    assert "neither the path" in said[2]
    assert "422" in said[3]
    _, [refused] = use(stdio("--url", server.address), ("list_collections", {}))
    assert "semblance keys create" in refused.content[0].text


def test_a_folder_is_searched_without_a_server(tmp_path):
    """With the real encoder, which the command opens by itself."""
    from engine.build import open_engine
    from engine.config import Settings
    from engine.datatypes import Document

    with open_engine(Settings(data=tmp_path)) as engine:
        engine.index("shop", [Document("a", "red running shoes"), Document("b", "a wooden kitchen chair")])
    _, [found, document] = use(
        stdio("--data", str(tmp_path)),
        ("search_by_text", {"collection": "shop", "query": "something to sit on", "limit": 1}),
        ("get_document", {"collection": "shop", "id": "a"}),
    )
    assert found.structured_content["products"][0]["title"] == "a wooden kitchen chair"
    assert document.structured_content["picture"] is None


@pytest.mark.parametrize(
    ("decision", "words"), [("answer", "Good matches (confidence 90%)"), ("broaden", "Possible"), ("abstain", "Nothing in this")]
)
def test_confidence_is_put_into_words(decision, words):
    from api.client import Hit

    hit = Hit("a", 0.5, "a", None, {})
    assert verdict(SearchResult([hit], 0.9, decision, 1, 1, 1, {})).startswith(words)
    assert verdict(SearchResult([], None, decision, 0, 0, 1, {})).startswith("Nothing was found")
