"""The service under load while somebody writes: nothing fails, memory stays (for a moment here, half an hour in `make soak`)."""

import pytest

from benchmarks.service import served, shop
from benchmarks.soak import soak

SHARE = 0.6


@pytest.fixture
def server():
    command = ["cli", "serve", "--port", "0", "--data"]
    with shop(None) as data, served("semblance", [*command, str(data)], SEMBLANCE_CACHE_ENTRIES="500") as server:
        yield server


def fared_well(result):
    assert result["failed"] == {}
    assert result["failed_writes"] == []
    assert result["searches"] > 0.9 * result["rate"] * result["seconds"]
    assert result["writes"] > result["seconds"]


@pytest.mark.slow
def test_load_and_writes_for_a_moment(server):
    result = soak(server, 20, SHARE)
    fared_well(result)
    assert result["rss_mb"][-1] - result["rss_mb"][0] < 60, result["rss_mb"]


@pytest.mark.soak
@pytest.mark.timeout(2_400)
def test_load_and_writes_for_half_an_hour(server):
    result = soak(server, 1_800, SHARE)
    fared_well(result)
    assert result["slope_mb"] <= 1, result["rss_mb"]
