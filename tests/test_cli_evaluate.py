"""`evaluate`, `report misses` and `train --catalog` as a user runs them, with a toy encoder in place of the model."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from cli.main import app
from engine.generation.provenance import is_synthetic
from engine.testing import COLOURS, FakeEncoder, tiny_catalogue, toy_studio

RUNNER = CliRunner()


class TurnedEncoder(FakeEncoder):
    """Sees pictures in a space of their own, which linear heads can turn back: red means red, but nobody was told."""

    fingerprint = "fake-turned"

    def encode_images(self, images: list[Image.Image]) -> np.ndarray:  # type: ignore[override]
        pixels = np.stack([np.asarray(image.convert("RGB").resize((4, 4)), np.float32).reshape(-1) / 255 for image in images])
        rows = pixels @ np.random.default_rng(0).normal(size=(48, 256)).astype(np.float32)
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def run(*arguments: object) -> Result:
    return RUNNER.invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr("engine.build.build_encoder", lambda settings: FakeEncoder())
    monkeypatch.setattr("engine.build.build_calibration", lambda settings: None)
    catalogue = tiny_catalogue(tmp_path / "feed")
    assert run("index", catalogue, "-c", "shop", "--data", tmp_path / "data").exit_code == 0
    return tmp_path / "data"


def test_a_run_is_written_shown_and_compared(data: Path, tmp_path: Path) -> None:
    first = run("evaluate", "-c", "shop", "--data", data, "-o", tmp_path / "run")
    assert first.exit_code == 0, first.output
    assert "title->image" in first.output
    assert (tmp_path / "run.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    again = run(
        "evaluate", "-c", "shop", "--data", data, "--against", tmp_path / "run.json", "--gate", tmp_path / "run.json", "--json"
    )
    assert again.exit_code == 0, again.output
    assert json.loads(again.stdout)["comparison"]["directions"]["title->image"]["R@1"]["value"] == 0


def test_the_gate_fails_with_a_clear_line(data: Path, tmp_path: Path) -> None:
    assert run("evaluate", "-c", "shop", "--data", data, "-o", tmp_path / "run").exit_code == 0
    baseline = json.loads((tmp_path / "run.json").read_text())
    for question in baseline["questions"]:
        question["values"][3] = 2.0  # an MRR nobody can reach
    (tmp_path / "run.json").write_text(json.dumps(baseline))
    fallen = run("evaluate", "-c", "shop", "--data", data, "--gate", tmp_path / "run.json")
    assert fallen.exit_code == 1
    assert "MRR fell from" in fallen.output


def test_pairs_are_asked(data: Path, tmp_path: Path) -> None:
    (tmp_path / "q.csv").write_text("text,relevant,language\nred mug,p1,en\ngreen mug,p2,en\n")
    found = json.loads(run("evaluate", "-c", "shop", "--data", data, "--pairs", tmp_path / "q.csv", "--json").stdout)
    assert found["directions"]["text->any"]["figures"]["R@1"]["value"] == 1.0


def test_a_shop_too_small_for_a_confidence_of_its_own_is_told(data: Path) -> None:
    answer = run("evaluate", "-c", "shop", "--data", data, "--calibrate")
    assert answer.exit_code == 1
    assert "needs 200" in answer.output.replace("\n", " ")


def test_misses_are_gathered_from_the_log(data: Path) -> None:
    lines = [
        {"time": 4e9, "text": text, "where": None, "confidence": 0.1, "decision": "generate", "best": "p1"}
        for text in ("wedding dress", "wedding dress", "drone")
    ]
    (data / "shop" / "queries.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = json.loads(run("report", "misses", "-c", "shop", "--data", data, "--json").stdout)
    assert [(miss["label"], miss["count"]) for miss in found["misses"]] == [("wedding dress", 2), ("drone", 1)]


def test_each_wish_is_drawn_and_counted_on_a_page(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.build.open_studio", lambda settings: toy_studio())
    wanted = ["red <b>sofa</b>", "red <b>sofa</b>", "blue boat", "swastika"]
    lines = [{"time": 4e9, "text": text, "where": None, "confidence": 0.1, "decision": "generate", "best": "p1"} for text in wanted]
    (data / "shop" / "queries.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    answer = run("report", "misses", "-c", "shop", "--data", data, "--json", "-o", tmp_path / "wishes")
    assert answer.exit_code == 0, answer.output
    drawn = {miss["label"]: miss["drawing"] for miss in json.loads(answer.stdout)["misses"]}
    page = (tmp_path / "wishes" / "misses.html").read_text(encoding="utf-8")
    for label, colour in (("red <b>sofa</b>", "red"), ("blue boat", "blue")):
        file = tmp_path / "wishes" / drawn[label]
        assert is_synthetic(file.read_bytes())
        with Image.open(file) as picture:
            assert picture.convert("RGB").getpixel((9, 9)) == COLOURS[colour]
        assert f'src="{file.name}"' in page
    assert "hate" in drawn["swastika"]
    assert "red &lt;b&gt;sofa&lt;/b&gt;</strong>, asked 2 times" in page
    assert "<b>" not in page


def test_without_a_log_the_remedy_is_said(data: Path) -> None:
    assert "SEMBLANCE_LOG_QUERIES" in run("report", "misses", "-c", "shop", "--data", data).output


def many(folder: Path, colours: int) -> Path:
    """A catalogue of one-colour pictures, titled by how red, green and blue they are."""
    folder.mkdir()
    rows = ["id,title,image"]
    for number in range(colours):
        red, green, blue = (number * step % 8 for step in (1, 3, 5))
        Image.new("RGB", (8, 8), (red * 36, green * 36, blue * 36)).save(folder / f"{number}.png")
        rows.append(f"p{number},red{red} green{green} blue{blue} number{number // 8},{number}.png")
    (folder / "feed.csv").write_text("\n".join(rows) + "\n")
    return folder / "feed.csv"


def test_heads_that_find_more_are_written_and_serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.build.build_encoder", lambda settings: TurnedEncoder())
    monkeypatch.setattr("engine.build.build_calibration", lambda settings: None)
    monkeypatch.setattr("engine.training.adapt.STEPS", 200)
    catalogue = many(tmp_path / "feed", 240)
    trained = run("train", "--catalog", catalogue, "-o", tmp_path / "heads", "--json")
    assert trained.exit_code == 0, trained.output
    verdict = json.loads(trained.stdout)
    assert verdict["used"]
    assert verdict["mrr"]["low"] > 0
    assert {"adapter.json", "heads.npz"} <= set(os.listdir(tmp_path / "heads"))


def test_training_asks_for_one_of_its_sources(tmp_path: Path) -> None:
    assert run("train", "-o", tmp_path / "x").exit_code == 2
