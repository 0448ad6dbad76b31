"""`semblance generate`: one prompt, a file of them, refusals, the contact sheet."""

import csv
import json
from contextlib import ExitStack

import pytest
from PIL import Image
from typer.testing import CliRunner

from cli import generate
from cli.main import app
from engine.datatypes import Document
from engine.generation.desk import DrawingDesk
from engine.generation.provenance import is_synthetic
from engine.testing import COLOURS, tiny_catalogue, toy_studio


@pytest.fixture
def command(toy_engine, tmp_path, monkeypatch):
    tiny_catalogue(tmp_path)
    toy_engine.index("shop", [Document(name, f"{name} mug", images=(f"{name}.png",)) for name in COLOURS], base=tmp_path)
    seen = []

    def desk(settings, opened: ExitStack) -> DrawingDesk:
        seen.append(settings)
        toy_engine.settings = toy_engine.settings.model_copy(update={"drawing_candidates": settings.drawing_candidates})
        return DrawingDesk(toy_engine, toy_studio(), size=64, generator="toy")

    monkeypatch.setattr(generate, "_open", desk)

    def run(*arguments: object):
        return CliRunner().invoke(app, ["generate", *map(str, arguments)])

    return run


def table(folder):
    with (folder / "drawings.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_one_prompt_gives_one_labelled_picture_and_its_products(command, tmp_path):
    result = command("red [style:shiny]", "-o", tmp_path / "out", "-c", "shop", "-n", 2, "--json")
    assert result.exit_code == 0, result.stderr
    (row,) = json.loads(result.stdout)["drawings"]
    assert (row["file"], row["synthetic"], len(row["candidates"])) == ("drawing.png", True, 2)
    assert row["closest"][0] == "red"
    assert is_synthetic((tmp_path / "out/drawing.png").read_bytes())
    assert not (tmp_path / "out/sheet.png").exists()


def test_a_file_of_prompts_gives_a_sheet_and_a_table(command, tmp_path):
    feed = tmp_path / "prompts.csv"
    feed.write_text('id,prompt,style,seed\na/b,red mug,,1\n,"蓝色, blue",retro,2\n=x,=green,,3\n', encoding="utf-8-sig")
    result = command("--prompts", feed, "--style", "modern", "-o", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    assert [row["file"] for row in table(tmp_path / "out")] == ["0001-a-b.png", "0002.png", "0003-x.png"]
    assert [row["seed"] for row in table(tmp_path / "out")] != ["0", "0", "0"]
    assert {row["synthetic"] for row in table(tmp_path / "out")} == {"true"}
    assert table(tmp_path / "out")[2]["prompt"] != "=green"  # no formula for a spreadsheet
    sheet = tmp_path / "out/sheet.png"
    assert is_synthetic(sheet.read_bytes())
    with Image.open(sheet) as page:
        assert page.width > 2 * 192
        colours = {page.convert("RGB").getpixel((12 + 96 + column * 204, 42 + 96)) for column in (0, 1)}
    assert colours == {COLOURS["red"], COLOURS["blue"]}


def test_what_is_refused_is_named_and_the_rest_is_drawn(command, tmp_path):
    feed = tmp_path / "prompts.txt"
    feed.write_text("red mug\na nude woman\n\ngreen mug [avoid:lid]\n", encoding="utf-8")
    result = command("--prompts", feed, "-o", tmp_path / "out")
    assert result.exit_code == 3
    assert "0002: nothing is drawn: the wording of the request breaks the rule 'sexual'" in result.stderr
    assert "2 of 3 drawn" in result.stderr
    assert [bool(row["file"]) for row in table(tmp_path / "out")] == [True, False, True]


@pytest.mark.parametrize(
    ("content", "message"),
    [("prompt\n", "no prompt"), ("", "no prompt"), ("prompt,seed\nred,-1\n", "seed"), (b"\xff\xfe", "cannot be read")],
)
def test_files_that_hold_nothing_to_draw(command, tmp_path, content, message):
    feed = tmp_path / "prompts.csv"
    feed.write_bytes(content if isinstance(content, bytes) else content.encode())
    result = command("--prompts", feed, "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_prompt_or_a_file_but_not_both(command, tmp_path):
    assert command("-o", tmp_path).exit_code == 2
    assert command("red", "--prompts", tmp_path / "x.csv", "-o", tmp_path).exit_code == 2


def test_without_a_decoder_the_remedy_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("SEMBLANCE_GENERATOR", "none")
    result = CliRunner().invoke(app, ["generate", "red", "-o", str(tmp_path / "out"), "--data", str(tmp_path / "data")])
    assert result.exit_code == 1
    assert "generator 'none' draws nothing: use bundle:default" in result.stderr
