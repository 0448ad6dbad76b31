import pytest

from engine.config import Settings, load_settings
from engine.errors import ConfigurationError


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    for name in Settings.model_fields:
        monkeypatch.delenv(f"SEMBLANCE_{name.upper()}", raising=False)


def test_the_environment_is_read_and_arguments_win(monkeypatch):
    monkeypatch.setenv("SEMBLANCE_PORT", "9000")
    monkeypatch.setenv("SEMBLANCE_FETCH_HOSTS", "cdn.shop.example, *.Pictures.example")
    settings = load_settings(host="0.0.0.0", data=None)
    assert (settings.port, settings.host) == (9000, "0.0.0.0")
    assert settings.fetch_hosts == ("cdn.shop.example", "*.pictures.example")
    assert load_settings(port=1).port == 1


def test_an_unknown_variable_is_named(monkeypatch):
    monkeypatch.setenv("SEMBLANCE_PROT", "9000")
    with pytest.raises(ConfigurationError, match="SEMBLANCE_PROT"):
        load_settings()


def test_a_malformed_variable_is_named_without_its_value(monkeypatch):
    monkeypatch.setenv("SEMBLANCE_PORT", "hunter2")
    with pytest.raises(ConfigurationError, match="SEMBLANCE_PORT") as caught:
        load_settings()
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("name", ["MAX_IMAGE_MB", "MAX_MEGAPIXELS", "DEADLINE_S", "RATE_LIMIT"])
@pytest.mark.parametrize("value", ["inf", "nan"])
def test_a_limit_is_a_finite_number(monkeypatch, name, value):
    monkeypatch.setenv(f"SEMBLANCE_{name}", value)
    with pytest.raises(ConfigurationError, match=f"SEMBLANCE_{name}"):
        load_settings()


def test_a_secret_that_can_be_guessed_is_refused(monkeypatch):
    monkeypatch.setenv("SEMBLANCE_CACHE_SECRET", "hunter2")
    with pytest.raises(ConfigurationError, match=r"SEMBLANCE_CACHE_SECRET: .*at least 16") as caught:
        load_settings()
    assert "hunter2" not in str(caught.value)


def test_secrets_print_as_stars(monkeypatch):
    monkeypatch.setenv("SEMBLANCE_REDIS_URL", "redis://:hunter2@cache:6379/0")
    assert "hunter2" not in repr(load_settings())


def test_settings_cannot_change_after_they_are_read():
    with pytest.raises(ValueError, match="frozen"):
        load_settings().port = 1
