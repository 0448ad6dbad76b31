"""Administration through the real command line with toy encoders: tuning, removal by filter, snapshots, aliases, reindexing."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cli.main import app
from engine.collection import Collection
from engine.config import Settings
from engine.testing import FakeEncoder, tiny_catalogue
from tests.mirrored import MirroredEncoder

ROOT = Path(__file__).resolve().parent.parent


def toy_encoder(settings: Settings) -> FakeEncoder:
    return MirroredEncoder() if settings.encoder == "mirrored" else FakeEncoder()


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("engine.build.build_encoder", toy_encoder)
    monkeypatch.setattr("engine.build.build_calibration", lambda settings: None)
    monkeypatch.setenv("SEMBLANCE_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    catalogue = tiny_catalogue(tmp_path / "shop")
    semblance("index", catalogue, "-c", "shop")
    return catalogue


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def semblance(*arguments: str | Path) -> str:
    """Run a command that works; what it says, on either stream."""
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


def refused(*arguments: str | Path, code: int = 1) -> str:
    """Run a command that fails with one line on stderr."""
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (code, ""), result.output
    assert len(result.stderr.strip().splitlines()) == 1 or code == 2
    return result.stderr


def listed() -> dict[str, tuple[object, object]]:
    found = json.loads(run("collections", "--json").stdout)["collections"]
    return {item["name"]: (item["documents"], item["alias_of"]) for item in found}


def titles(collection: str, text: str) -> list[str]:
    result = run("search", text, "-c", collection, "--json")
    assert result.exit_code == 0, result.output
    return [hit["title"] for hit in json.loads(result.stdout)["hits"]]


# Tuning


def test_tuning_says_what_it_measured_and_chose(shop: Path):
    said = semblance("index", "tune", "-c", "shop", "--recall", "0.9")
    assert "chosen for shop: ivf-sq8, " in said
    assert "recall 1.0000" in said
    told = json.loads(run("index", "tune", "-c", "shop", "--json").stdout)
    assert (told["target"], told["measured"][-1]["recall"]) == (0.99, 1.0)
    assert json.loads(Path("data/shop/index.json").read_text())["target"] == 0.99
    assert titles("shop", "red")


def test_what_cannot_be_tuned_is_one_line(shop: Path):
    assert "a recall of 1.5 cannot be" in refused("index", "tune", "-c", "shop", "--recall", "1.5")
    assert "there is no collection 'nothing'" in refused("index", "tune", "-c", "nothing")


# Removal by filter


def test_documents_are_deleted_by_filter_after_a_question(shop: Path):
    before = listed()["shop"][0]
    asked = CliRunner().invoke(app, ["collections", "delete", "shop", "--where", "title contains 'red'"], input="n\n")
    assert (asked.exit_code, listed()["shop"][0]) == (1, before)
    assert "Delete 1 of" in asked.stderr
    assert "deleted 1 documents" in semblance("collections", "delete", "shop", "--where", "title contains 'red'", "--yes")
    gone = run("collections", "delete", "shop", "--where", "title contains 'red'", "--yes", "--json")
    assert json.loads(gone.stdout) == {"deleted": 0}
    assert "red" not in " ".join(titles("shop", "red"))


def test_a_mistake_in_a_filter_is_pointed_at_and_deletes_nothing(shop: Path):
    before = listed()["shop"]
    assert "column 9" in refused("collections", "delete", "shop", "--where", "price < ", "--yes")
    assert listed()["shop"] == before


# Snapshots


def test_a_snapshot_goes_to_another_data_folder_and_back(shop: Path, tmp_path: Path):
    documents = listed()["shop"][0]
    assert "wrote shop.snapshot" in semblance("collections", "export", "shop", "shop.snapshot")
    assert f"restored again: {documents} documents" in semblance("collections", "restore", "shop.snapshot", "again")
    other = ("--data", tmp_path / "other")
    assert f"restored shop: {documents} documents" in semblance("collections", "restore", "shop.snapshot", "shop", *other)
    assert titles("again", "red") == titles("shop", "red")
    assert "unchanged" in semblance("index", shop, "-c", "again")  # feeds go on where they were
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "other", "shop", "shop.snapshot"]


def test_a_snapshot_replaces_neither_a_file_nor_a_collection(shop: Path):
    semblance("collections", "export", "shop", "shop.snapshot")
    assert "exists already" in refused("collections", "export", "shop", "shop.snapshot")
    assert "exists already" in refused("collections", "restore", "shop.snapshot", "shop")
    assert "there is no snapshot" in refused("collections", "restore", "nothing.snapshot", "again")
    assert "no collection name" in refused("collections", "restore", "shop.snapshot", "../again")
    assert set(listed()) == {"shop"}


def test_a_snapshot_by_another_encoder_is_restored_and_said_to_be(shop: Path, monkeypatch: pytest.MonkeyPatch):
    semblance("collections", "export", "shop", "shop.snapshot")
    monkeypatch.setenv("SEMBLANCE_ENCODER", "mirrored")
    said = semblance("collections", "restore", "shop.snapshot", "again")
    assert "run semblance reindex again" in said
    semblance("reindex", "again")
    assert titles("again", "red")[0] == "red mug"


# Aliases


def test_an_alias_is_pointed_listed_and_forgotten(shop: Path):
    assert semblance("collections", "alias", "live", "shop") == "live means shop\n"
    assert listed()["live"] == (listed()["shop"][0], "shop")
    assert titles("live", "red") == titles("shop", "red")
    assert "is an alias of 'shop'" in refused("collections", "drop", "shop", "--yes")
    assert "is the name of a collection" in refused("collections", "alias", "shop", "shop")
    assert "there is no collection 'nothing'" in refused("collections", "alias", "live", "nothing")
    semblance("collections", "unalias", "live")
    assert "there is no alias" in refused("collections", "unalias", "live")
    assert set(listed()) == {"shop"}


# Another encoder


def test_a_collection_is_reindexed_rolled_back_and_discarded(shop: Path):
    before = titles("shop", "red")
    told = json.loads(run("reindex", "shop", "--encoder", "mirrored", "--json").stdout)
    assert (told["documents"], told["lost"]) == (len(before), {})
    copy = told["collection"]
    assert listed_by("mirrored")["shop"] == (len(before), copy)
    assert titles("shop", "red") == before  # this process still runs the old encoder, and reads on
    assert "start this process anew with the encoder" in refused("collections", "delete", "shop", "--where", "id exists", "--yes")
    failed = run("index", changed(shop), "-c", "shop")
    assert failed.exit_code == 1
    assert "start this process anew with the encoder" in failed.stderr
    semblance_by("mirrored", "index", changed(shop), "-c", "shop")
    assert f"2 documents that were changed since are as they were, and in {copy} as they are" in semblance(
        "reindex", "shop", "--rollback"
    )
    assert titles("shop", "red") == before
    semblance("reindex", "shop", "--rollback")
    semblance("reindex", "shop")  # with the old encoder: back, and nothing is left behind
    assert "crimson mug" in titles("shop", "crimson")
    assert semblance("reindex", "shop", "--discard") == f"removed {copy}\n"
    assert "nothing to go back to" in refused("reindex", "shop", "--rollback")
    assert "is by" in refused("reindex", "shop")
    assert "exclude each other" in refused("reindex", "shop", "--rollback", "--discard", code=2)


def semblance_by(encoder: str, *arguments: str | Path) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEMBLANCE_ENCODER", encoder)
        return semblance(*arguments)


def listed_by(encoder: str) -> dict[str, tuple[object, object]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEMBLANCE_ENCODER", encoder)
        return listed()


def changed(catalogue: Path) -> Path:
    """The feed of the next day: one mug has another name, another has gone up in price."""
    target = catalogue.with_name("tomorrow" + catalogue.suffix)
    text = catalogue.read_text().replace("red mug", "crimson mug").replace(",20,", ",25,")
    target.write_text(text)
    return target


def test_pictures_that_are_gone_stop_a_copy_unless_they_may_be_left(shop: Path):
    documents = listed()["shop"][0]
    next(shop.parent.rglob("red*.png")).unlink()
    assert "leave them behind with --partial" in refused("reindex", "shop", "--encoder", "mirrored")
    assert listed()["shop"] == (documents, None)
    assert "1 left behind" in semblance("reindex", "shop", "--encoder", "mirrored", "--partial")


# Beside one another

TOY = """
import sys, time
from engine.testing import FakeEncoder
import engine.build
class Slow(FakeEncoder):
    def encode_texts(self, texts):
        time.sleep(0.02)
        return super().encode_texts(texts)
engine.build.build_encoder = lambda settings: Slow()
engine.build.build_calibration = lambda settings: None
from cli.main import main
main()
"""


def start(*arguments: str | Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", TOY, *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )


def feed(path: Path, name: str, rows: int) -> Path:
    path.write_text("id,title\n" + "".join(f"{name}{n},{name} product {n}\n" for n in range(rows)))
    return path


@pytest.mark.slow
def test_two_jobs_fill_one_collection_at_once(tmp_path: Path):
    jobs = [start("index", feed(tmp_path / f"{name}.csv", name, 300), "-c", "shop") for name in "ab"]
    for job in jobs:
        _, errors = job.communicate(timeout=120)
        assert job.returncode == 0, errors
    assert listed()["shop"][0] == 600


@pytest.mark.slow
def test_a_killed_job_is_run_again_and_a_busy_collection_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    catalogue = feed(tmp_path / "a.csv", "a", 2_000)
    job = start("index", catalogue, "-c", "shop")
    while listed().get("shop", (0, None))[0] in {0, None}:
        assert job.poll() is None, job.communicate()
        time.sleep(0.05)
    job.send_signal(signal.SIGKILL)
    job.communicate()
    monkeypatch.setenv("SEMBLANCE_BUSY_TIMEOUT_MS", "300")
    opened = Collection.open(Path("data/shop"), settings=Settings())
    with opened.unwritten():
        assert "is being written by another process for longer than 0.3 s" in run("index", catalogue, "-c", "shop").stderr
    opened.close()
    assert "2000 rows" in semblance("index", catalogue, "-c", "shop")
    assert listed()["shop"][0] == 2_000
