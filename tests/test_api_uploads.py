"""Nobody holds the places for uploads: not by sending slowly, and not by sending many."""

import asyncio
import time

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request

from api.auth import KEY
from api.keys import ApiKey
from api.uploads import MAX_AT_ONCE, Uploads
from api.workers import Followers
from engine.errors import Overloaded


def key(id: str) -> ApiKey:
    return ApiKey(id, f"feed {id}", "write", None, "2026-01-01T00:00:00+00:00")


def upload(pieces, pause: float, owner: ApiKey | None = None) -> Request:
    """Make a request that sends a piece every `pause` seconds."""
    left = list(pieces)

    async def receive():
        await asyncio.sleep(pause)
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    headers = [(b"content-type", b"text/csv")]
    return Request({"type": "http", "method": "POST", "path": "/", "headers": headers, KEY: owner}, receive)


async def saved(uploads: Uploads, request: Request, path) -> int:
    await uploads.save(request, path)
    return path.stat().st_size


def test_an_upload_that_trickles_in_is_given_up(tmp_path):
    uploads = Uploads(limit=1_000_000, patience_s=0.2, least_rate=1_000)
    began = time.monotonic()
    with pytest.raises(HTTPException) as caught:
        asyncio.run(saved(uploads, upload([b"x"] * 1_000, 0.02), tmp_path / "slow"))
    assert caught.value.status_code == 408
    assert "bytes arrived in" in caught.value.detail
    assert time.monotonic() - began < 5


def test_an_upload_that_stops_is_given_up_however_much_has_come(tmp_path):
    uploads = Uploads(limit=10_000_000, patience_s=0.2, least_rate=10)
    pieces = iter([(0, b"x" * 5_000_000), (30, b"")])

    async def receive():
        pause, piece = next(pieces)
        await asyncio.sleep(pause)
        return {"type": "http.request", "body": piece, "more_body": True}

    request = Request({"type": "http", "method": "POST", "path": "/", "headers": [(b"content-type", b"text/csv")]}, receive)
    began = time.monotonic()
    with pytest.raises(HTTPException, match="408"):
        asyncio.run(saved(uploads, request, tmp_path / "stopped"))
    assert time.monotonic() - began < 10


def test_an_upload_that_is_fast_enough_arrives(tmp_path):
    uploads = Uploads(limit=1_000_000, patience_s=0.2, least_rate=1_000)
    assert asyncio.run(saved(uploads, upload([b"x" * 100] * 30, 0.01), tmp_path / "steady")) == 3_000


def test_one_key_has_half_of_the_places(tmp_path):
    uploads = Uploads(limit=1_000_000, patience_s=5)

    async def main():
        mine = [asyncio.ensure_future(saved(uploads, upload([b"x"] * 50, 0.02, key("a")), tmp_path / str(n))) for n in range(2)]
        await asyncio.sleep(0.1)
        with pytest.raises(HTTPException) as caught:
            await saved(uploads, upload([b"x"], 0, key("a")), tmp_path / "third")
        assert caught.value.status_code == 429
        assert "2 uploads under way" in caught.value.detail
        assert await saved(uploads, upload([b"x"], 0, key("b")), tmp_path / "other") == 1
        assert await asyncio.gather(*mine) == [50, 50]
        assert await saved(uploads, upload([b"x"], 0, key("a")), tmp_path / "later") == 1

    asyncio.run(main())


def test_all_places_together_are_bounded():
    followers = Followers("uploads", most=MAX_AT_ONCE, share=2)
    with followers.one_more(None), followers.one_more(None), followers.one_more(key("a")), followers.one_more(key("b")):
        with pytest.raises(Overloaded):
            followers.check(key("c"))
    assert followers.count == 0
    followers.check(key("c"))
