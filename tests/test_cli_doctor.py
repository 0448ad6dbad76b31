"""`semblance doctor`: tells the truth about what is there, and how to get what is not."""

import json
from importlib import metadata
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli import findings, requirements
from cli.doctor import PURPOSES
from cli.main import app
from engine.config import load_settings
from engine.errors import BundleError
from engine.library import Library
from engine.testing import FakeEncoder


@pytest.fixture(autouse=True)
def _fake_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.build.build_encoder", lambda settings: FakeEncoder())


def found(data: Path) -> tuple[int, dict[str, dict[str, str]]]:
    result = CliRunner().invoke(app, ["doctor", "--json", "--data", str(data)])
    report = json.loads(result.stdout)
    assert report["healthy"] == (result.exit_code == 0)
    return result.exit_code, {finding["name"]: finding for finding in report["findings"]}


def test_a_working_installation_is_healthy(tmp_path):
    code, report = found(tmp_path)
    assert code == 0
    assert {"python", "processor", "index", "encoder", "device", "redis", "data"} <= set(report)
    assert "fake:colours" in report["encoder"]["detail"]


def test_in_words(tmp_path):
    result = CliRunner().invoke(app, ["doctor", "--data", str(tmp_path)])
    assert result.exit_code == 0
    assert "all is well\n" in result.stdout


def test_what_works_comes_first_and_each_missing_extra_is_one_line_after_it(tmp_path, monkeypatch):
    lines = ["numpy>=2.0", "no-such-torch>=2.9; extra == 'models'", "no-such-voice>=1.0; extra == 'voice'"]
    monkeypatch.setattr(metadata, "requires", lambda name: lines)
    works, _, rest = CliRunner().invoke(app, ["doctor", "--data", str(tmp_path)]).stdout.partition("all is well\n")
    assert "models" not in works
    lines = [line.split() for line in rest.strip().splitlines()[1:]]
    assert [line[0] for line in lines] == ["models", "voice"]
    assert lines[0][-3:] == ["pip", "install", "'semblance[models]'"]
    assert "hub" in lines[0]


def test_every_extra_has_a_purpose():
    assert set(requirements.requirements()) - {""} <= set(PURPOSES)


def test_a_broken_bundle_is_named(tmp_path, monkeypatch):
    def broken(settings: object) -> None:
        raise BundleError("image.bin was altered: restore it")

    monkeypatch.setattr("engine.build.build_encoder", broken)
    code, report = found(tmp_path)
    assert code == 1
    assert report["encoder"]["status"] == "failed"
    assert "image.bin was altered" in report["encoder"]["detail"]
    assert "collection" not in " ".join(report)


def test_a_data_folder_that_is_a_file_is_named(tmp_path):
    (tmp_path / "file").touch()
    code, report = found(tmp_path / "file" / "data")
    assert code == 1
    assert report["data"]["status"] == "failed"


def test_collections_are_opened_and_broken_ones_named(tmp_path):
    library = Library(load_settings(data=tmp_path), FakeEncoder())
    for name in ("good", "bad"):
        library.create(name)
    library.close()
    (tmp_path / "bad" / "collection.json").write_text("{", encoding="utf-8")
    code, report = found(tmp_path)
    assert code == 1
    assert report["collection good"]["status"] == "fine"
    assert report["collection bad"]["status"] == "failed"


@pytest.mark.parametrize(("url", "status"), [("redis://127.0.0.1:1/0", "lacking"), ("http://nonsense", "failed"), (None, "fine")])
def test_redis_may_be_away_but_not_misspelt(url, status):
    assert [finding.status for finding in findings.cache(load_settings(redis_url=url))] == [status]


def test_a_password_is_never_shown():
    shown = str(list(findings.cache(load_settings(redis_url="redis://:hunter2@127.0.0.1:1/0"))))
    assert "hunter2" not in shown


LINES = [
    "numpy>=2.0",
    "pillow>=9999.0",
    "no-such-package>=1.0",
    "faiss-cpu>=1.0; extra == 'cpu'",
    'no-such-torch>=2.9; extra == "models"',
    "semblance[models]; extra == 'train'",
    "numpy>=1.0; extra == 'train'",
]


def test_requirements_are_compared_with_what_is_installed(monkeypatch):
    monkeypatch.setattr(metadata, "requires", lambda name: LINES)
    wanted = requirements.requirements()
    assert {r.name: r.met for r in wanted[""]} == {"numpy": True, "pillow": False, "no-such-package": False}
    assert [r.name for r in wanted["train"]] == ["no-such-torch", "numpy"]
    report = {finding.name: finding for finding in findings.packages()}
    assert report["packages"].status == "failed"
    assert "(at least 9999.0 is needed)" in report["packages"].detail
    assert report["extra cpu"].status == "fine"
    assert report["extra models"].remedy == "pip install 'semblance[models]'"
    assert report["extra train"].detail == "not installed: no-such-torch"


def test_versions_are_compared_as_numbers():
    assert requirements.Requirement("x", "1.9", "1.10.2").met
    assert not requirements.Requirement("x", "1.10", "1.9.3").met
    assert requirements.Requirement("x", "2", "2.0.0rc1").met
    assert not requirements.Requirement("x", None, None).met
