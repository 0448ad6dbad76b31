import socket
import time

import pytest

from engine.encoders.backbones import load_backbone
from engine.encoders.hub import offline_unless_reachable, reachable
from engine.errors import ModelError


@pytest.fixture
def unreachable(monkeypatch):
    """Nothing can be connected; counts who tried."""
    tried = []

    def refuse(*arguments, **_):
        tried.append(arguments[0])
        raise OSError("there is no network here")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return tried


@pytest.mark.parametrize(
    "name", ["hf:org/no-such-model", "open_clip:hf-hub:org/no-such-model", "open_clip:ViT-B-32/laion2b_s34b_b79k"]
)
def test_a_hub_that_cannot_be_reached_is_given_up_at_once(unreachable, monkeypatch, name):
    slept = []
    monkeypatch.setattr(time, "sleep", slept.append)
    with pytest.raises(ModelError, match="folder"):
        load_backbone(name)
    assert len(unreachable) == 1  # the hub's client did not even try
    assert sum(slept) < 1


def test_the_hubs_client_is_offline_only_meanwhile(unreachable):
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    with offline_unless_reachable():
        assert constants.HF_HUB_OFFLINE
    assert before == constants.HF_HUB_OFFLINE


def test_a_host_is_asked_by_connecting(monkeypatch, caplog):
    monkeypatch.setattr("engine.encoders.hub.getproxies", dict)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        assert reachable(address)
    assert not reachable(address)
    assert "only models already on disk" in caplog.text


def test_behind_a_proxy_the_proxy_is_asked(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setattr("engine.encoders.hub.getproxies", lambda: {"https": f"http://127.0.0.1:{listener.getsockname()[1]}"})
        assert reachable("https://hub.invalid")
