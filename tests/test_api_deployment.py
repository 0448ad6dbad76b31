"""What an operator copies: docker-compose.yml, Dockerfile and .env.example agree with the code."""

import hashlib
import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import jsonschema
import pytest
import yaml

from api.client import KeyRefused, Semblance
from engine.config import PREFIX, Settings, load_settings

ROOT = Path(__file__).parent.parent
SETTINGS = {PREFIX + name.upper() for name in Settings.model_fields}


@pytest.fixture(scope="module")
def compose():
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))


def validator():
    schema = json.loads((ROOT / "tests/data/compose-spec.schema.json").read_text(encoding="utf-8"))
    return jsonschema.Draft7Validator(schema)  # the schema names draft 7 by an address the library does not know


def test_the_compose_file_is_valid_by_the_compose_specification(compose):
    assert [f"{list(error.path)}: {error.message}" for error in validator().iter_errors(compose)] == []


def test_the_check_by_schema_can_fail(compose):
    broken = compose | {"services": {"api": {"image": 5, "prots": []}}}
    assert list(validator().iter_errors(broken))


def test_the_services_and_profiles_are_those_documented(compose):
    profiles = {name: service.get("profiles", []) for name, service in compose["services"].items()}
    assert profiles == {"api": [], "api-gpu": ["gpu"], "indexer": ["indexer"], "redis": []}


def test_services_that_stay_up_say_whether_they_are_well(compose):
    for name in ("api", "api-gpu", "redis"):
        assert compose["services"][name]["healthcheck"]["test"][0] == "CMD"
    assert compose["services"]["api"]["depends_on"] == {"redis": {"condition": "service_healthy"}}


def test_nothing_is_published_beyond_this_machine(compose):
    ports = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_everything_that_is_named_is_there(compose):
    for service in compose["services"].values():
        assert set(service.get("depends_on", {})) <= set(compose["services"])
        named = {volume.partition(":")[0] for volume in service.get("volumes", []) if re.match(r"\w+:", volume)}
        assert named <= set(compose["volumes"])


def interpolated(value, environment):
    """Write a value as compose does: `${NAME:-else}` and `${NAME:+then}`, one inside the other."""

    def replaced(found):
        given, sign, text = environment.get(found[1], ""), found[2], found[3]
        if sign is None:
            return given
        return interpolated(text, environment) if bool(given) == (sign == "+") else ("" if sign == "+" else given)

    return re.sub(r"\$\{(\w+)(?::([-+])((?:[^{}]|\{[^{}]*\})*))?\}", replaced, value)


def settings_of(service, **environment):
    return {name: interpolated(value, environment) for name, value in service["environment"].items() if name.startswith(PREFIX)}


def test_the_compose_file_sets_only_settings_that_exist_to_values_they_take(compose, monkeypatch):
    for service in ("api", "api-gpu", "indexer"):
        values = settings_of(compose["services"][service])
        assert set(values) <= SETTINGS
        for name, value in values.items():
            monkeypatch.setenv(name, value)
        load_settings()


def test_a_service_keeps_the_names_its_own_health_check_calls_it_by(compose):
    service = compose["services"]["api"]
    assert settings_of(service)["SEMBLANCE_ALLOWED_HOSTS"] == "localhost,127.0.0.1"
    named = settings_of(service, SEMBLANCE_ALLOWED_HOSTS="shop.example")
    assert named["SEMBLANCE_ALLOWED_HOSTS"] == "localhost,127.0.0.1,shop.example"
    assert interpolated(service["ports"][0], {"SEMBLANCE_PORT": "9000"}) == "127.0.0.1:9000:8000"


def test_no_container_runs_as_root_or_writes_its_own_files(compose):
    for service in compose["services"].values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
    assert compose["services"]["redis"]["user"] == "redis"


def test_what_compose_starts_can_be_used_as_its_first_lines_say(compose, redis_server, tmp_path):
    """The api service as compose starts it, but for the container: up, healthy, a key, a catalogue, a search."""
    shown, key = free_port(), ["keys", "create", "me", "--scope", "admin"]
    assert " ".join(["exec", "api", "semblance", *key]) in (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    settings = settings_of(compose["services"]["api"])
    settings |= {"SEMBLANCE_DATA": str(tmp_path), "SEMBLANCE_PORT": str(shown), "SEMBLANCE_REDIS_URL": redis_server.url}
    environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)} | settings
    command = [sys.executable, "-m", "cli"]
    check = [part.replace("8000", str(shown)) for part in compose["services"]["api"]["healthcheck"]["test"][2:]]
    service = subprocess.Popen([*command, *compose["services"]["api"]["command"]], cwd=ROOT, env=environment)
    try:
        until = time.monotonic() + 60  # the start period of its health check
        while subprocess.run([sys.executable, *check], capture_output=True, check=False).returncode:
            assert service.poll() is None
            assert time.monotonic() < until
        address, catalogue = f"http://127.0.0.1:{shown}", tmp_path / "toys.csv"
        with Semblance(address) as stranger, pytest.raises(KeyRefused):
            stranger.collections()
        assert httpx.get(address).status_code == 200, "the page opens, and asks for the key"
        made = subprocess.run([*command, *key], cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
        catalogue.write_text("id,title\n1,red toy car\n2,teddy bear\n", encoding="utf-8")
        with Semblance(address, key=made.stdout.strip()) as client:
            assert client.wait(client.import_file("toys", catalogue).id, timeout_s=120).state == "done"
            assert client.search_text("toys", "something to cuddle").hits[0].id == "2"
    finally:
        service.terminate()
        service.wait(30)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def test_a_grace_period_is_longer_than_the_deadline_of_a_request(compose):
    assert int(compose["services"]["api"]["stop_grace_period"].removesuffix("s")) > load_settings().deadline_s


def test_the_image_sets_only_settings_that_exist_and_does_not_run_as_root():
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert set(re.findall(rf"{PREFIX}\w+", text)) <= SETTINGS
    assert "\nUSER semblance\n" in text
    for source in re.findall(r"^COPY (?!--)(.+) \S+$", text, re.M):
        for name in source.split():
            assert (ROOT / name).exists(), name


def test_the_image_gets_every_package_and_nothing_else():
    kept = set(re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(encoding="utf-8"), re.M))
    assert kept == {"pyproject.toml", "README.md", "LICENSE", "engine", "indexer", "api", "cli"}


def test_the_example_environment_names_every_setting_with_its_default(monkeypatch):
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    values = dict(re.findall(rf"^#({PREFIX}\w+)=(.*)$", text, re.M))
    assert set(values) == SETTINGS
    defaults = Settings()
    for name, value in values.items():
        default = getattr(defaults, name.removeprefix(PREFIX).lower())
        if default in (None, ()):
            assert value == ""
        else:
            monkeypatch.setenv(name, value)
    assert load_settings() == defaults


def test_the_example_environment_explains_each_setting():
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    for name, field in Settings.model_fields.items():
        assert f"# {field.description}\n#{PREFIX}{name.upper()}=" in text


def test_vendored_files_are_those_their_version_notes_name():
    for note in (ROOT / "api/static/vendor").glob("*/VERSION"):
        sums = dict(reversed(line.split()) for line in note.read_text(encoding="utf-8").splitlines()[2:])
        kept = {str(path.relative_to(note.parent)) for path in note.parent.rglob("*") if path.suffix in (".js", ".css")}
        assert set(sums) == kept
        for name, expected in sums.items():
            assert hashlib.sha256((note.parent / name).read_bytes()).hexdigest() == expected, name
