import json

import pytest
from typer.testing import CliRunner

from api.keys import KeyRing
from cli.main import app


@pytest.fixture
def run(tmp_path):
    def invoke(*arguments):
        return CliRunner().invoke(app, ["keys", *arguments, "--data", str(tmp_path)])

    return invoke


def test_a_key_is_printed_once_alone_on_stdout_and_works(run, tmp_path):
    done = run("create", "shop front", "--scope", "write", "-c", "shop", "-c", "emoji", "--days", "30", "--rate", "5")
    assert done.exit_code == 0, done.output
    key = KeyRing(tmp_path).find(done.stdout.strip())
    assert key is not None
    assert (key.name, key.scope, key.collections, key.rate) == ("shop front", "write", ("shop", "emoji"), 5)
    assert key.expires is not None
    assert key.id in done.stderr
    assert done.stdout.strip() not in run("list").output


def test_keys_are_listed_and_revoked(run, tmp_path):
    text = run("create", "one").stdout.strip()
    key = KeyRing(tmp_path).find(text)
    assert run("list").stdout.split("\t")[:4] == [key.id, "one", "read", "all collections"]
    assert run("revoke", key.id).exit_code == 0
    assert KeyRing(tmp_path).find(text) is None
    again = run("revoke", key.id)
    assert again.exit_code == 1
    assert "keys list" in again.stderr
    assert "no key yet" in run("list").stderr


def test_json(run):
    made = json.loads(run("create", "one", "--json").stdout)
    assert made["key"].startswith(f"smb_{made['id']}_")
    (listed,) = json.loads(run("list", "--json").stdout)["keys"]
    assert listed == {name: value for name, value in made.items() if name != "key"}


@pytest.mark.parametrize(
    "arguments", [("x", "--scope", "root"), ("",), ("x", "-c", "../etc"), ("x", "--days", "0"), ("x", "--rate", "nan"), ("a\nb",)]
)
def test_what_cannot_be_a_key_is_refused(run, arguments, tmp_path):
    done = run("create", *arguments)
    assert done.exit_code == 1
    assert done.stderr.startswith("error: ")
    assert KeyRing(tmp_path).all() == []
