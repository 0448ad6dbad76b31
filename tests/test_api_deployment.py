"""What an operator copies: docker-compose.yml, Dockerfile and .env.example agree with the code."""

import hashlib
import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml

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


def test_the_compose_file_sets_only_settings_that_exist_to_values_they_take(compose, monkeypatch):
    for service in compose["services"].values():
        environment = service.get("environment", {})
        assert set(environment) <= SETTINGS
        values = {name: re.sub(r"\$\{\w+:-(.*)\}", r"\1", value) for name, value in environment.items()}
        for name, value in values.items():
            monkeypatch.setenv(name, value)
        load_settings()


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
