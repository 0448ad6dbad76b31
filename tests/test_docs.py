"""The documentation is true: generated pages match the code, links lead somewhere, and the Python blocks run."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from engine.config import PREFIX, Settings
from engine.errors import SemblanceError
from engine.filters import parse
from indexer.columns import GUESSES, plan_columns
from indexer.report import CODES
from indexer.values import attributes_of, kinds_of

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").glob("*.md")])


def blocks(page: Path, kind: str) -> list[str]:
    tokens = MarkdownIt("commonmark").parse(page.read_text(encoding="utf-8"))
    return [token.content for token in tokens if token.type == "fence" and token.info == kind]


def below(kind: type[Exception]) -> set[type[Exception]]:
    return {kind}.union(*(below(child) for child in kind.__subclasses__() if child.__module__ == "engine.errors"))


@pytest.mark.parametrize("name", ["settings.md", "errors.md", "cli.md", "http-api.md", "confidence.md"])
def test_generated_pages_are_current(name):
    generated = runpy.run_path(str(ROOT / "docs/generate.py"))["pages"]()[name]
    assert (ROOT / "docs" / name).read_text(encoding="utf-8") == generated, "run `make docs`"


def test_every_setting_is_documented_with_its_default():
    text = (ROOT / "docs/settings.md").read_text(encoding="utf-8")
    for name, field in Settings.model_fields.items():
        assert field.description, f"{name} has no description"
        shown = "none" if field.default in (None, ()) else f"`{field.default}`"
        assert f"| `{PREFIX}{name.upper()}` | {shown} | {field.description} |" in text


def test_every_error_is_documented():
    text = (ROOT / "docs/errors.md").read_text(encoding="utf-8")
    assert [kind.__name__ for kind in below(SemblanceError) if f"`{kind.__name__}`" not in text] == []


def test_the_error_tree_drawn_in_the_module_is_the_tree():
    drawn = sys.modules["engine.errors"].__doc__ or ""
    assert [kind.__name__ for kind in below(SemblanceError) if not re.search(rf"\b{kind.__name__}\b", drawn)] == []


def test_every_code_of_a_refused_row_is_documented():
    text = (ROOT / "docs/errors.md").read_text(encoding="utf-8")
    assert [code for code in CODES if f"| `{code}` |" not in text] == []


def test_documented_filters_parse():
    for line in blocks(ROOT / "docs/filters.md", "filter")[0].splitlines():
        parse(line)


def test_documented_column_names_are_found():
    text = (ROOT / "docs/catalogue-format.md").read_text(encoding="utf-8")
    for part, names in re.findall(r"^\| (id|title|description|image) \| .*? \| (.*) \|$", text, re.M):
        for name in re.findall("`([^`]+)`", names):
            columns = {"id": "id", "title": "title"} | {part: name}
            assert name.casefold() in map(str.casefold, GUESSES[part])
            found = plan_columns(list(dict.fromkeys(columns.values())), {}, "x.csv")
            assert name in (found.images if part == "image" else [getattr(found, part)])


def kind_of(*cells: str) -> str:
    return kinds_of(["x"], [[cell] for cell in cells])["x"]


def test_documented_values_are_read_so():
    assert attributes_of("price", "€ 19,90", "text") == {"price": 19.9, "price_currency": "€"}
    assert attributes_of("code", "00123", kind_of("00123", "00124")) == {"code": "00123"}
    assert attributes_of("color", "red|blue", kind_of("red|blue", "red")) == {"color": ("red", "blue")}
    assert attributes_of("sale", "true", "text") == {"sale": True}
    assert [attributes_of("x", text, "text") for text in ("", " ", "n/a", "null", "nan")] == [{}] * 5


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    prose = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", prose)
    local = [target for target in targets if not target.startswith(("http://", "https://", "mailto:"))]
    assert [target for target in local if not (page.parent / target).exists()] == []


def test_the_readme_names_its_two_commands():
    commands = "".join(blocks(ROOT / "README.md", "sh"))
    assert "make demo" in commands
    assert "make test" in commands


RUNNABLE = [(page, number) for page in PAGES for number in range(len(blocks(page, "python run")))]


def test_the_readme_has_a_block_that_runs():
    assert (ROOT / "README.md", 0) in RUNNABLE


@pytest.mark.parametrize(("page", "number"), RUNNABLE, ids=lambda value: getattr(value, "name", str(value)))
def test_python_blocks_run(page, number, tmp_path):
    code = blocks(page, "python run")[number]
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    if page.name == "README.md":
        assert run.stdout.split("\n")[:2] == ["green mug", "blue"]


def test_the_readme_example_is_ten_lines():
    code = blocks(ROOT / "README.md", "python run")[0]
    assert len([line for line in code.splitlines() if line.strip()]) <= 10


def test_shell_blocks_name_commands_and_options_that_exist():
    """Every `semblance` line in the documentation parses: known command, known options."""
    known = (ROOT / "docs/cli.md").read_text(encoding="utf-8")
    for page in PAGES:
        for line in "".join(blocks(page, "sh")).splitlines():
            words = line.partition("#")[0].split()
            if not words or words[0] != "semblance":
                continue
            named = next((n for n in (2, 1) if f"## `semblance {' '.join(words[1 : n + 1])}`" in known), 1)
            section = known.partition(f"## `semblance {' '.join(words[1 : named + 1])}`")[2].partition("\n## ")[0]
            assert section, f"{page.name}: no command {words[1]!r}"
            for option in (word for word in words if re.fullmatch(r"--?[a-z][a-z-]*", word)):
                assert re.search(rf"(?<![\w-]){option}(?![\w-])", section), f"{page.name}: {words[1]} has no {option}"
