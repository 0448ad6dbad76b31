"""A whole evaluation of a small shop whose answers fit in one's head, compared, gated and reported."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from engine.cache import MemoryCache, TieredCache
from engine.config import load_settings
from engine.datatypes import Document
from engine.errors import InvalidInput
from engine.evaluation.comparison import compare_runs, gate, read_run
from engine.evaluation.figures import NAMES
from engine.evaluation.page import write_page
from engine.evaluation.questions import Question
from engine.evaluation.run import Evaluation, evaluate
from engine.search import SearchEngine
from engine.testing import COLOURS, FakeEncoder, tiny_catalogue


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SearchEngine]:
    """One red, one green ... product; the second red one shares its title."""
    folder = tmp_path_factory.mktemp("shop")
    tiny_catalogue(folder / "feed")
    with SearchEngine(load_settings(data=folder / "data"), FakeEncoder(), TieredCache(MemoryCache(100, ttl_s=60), None)) as engine:
        documents = [
            Document(
                f"p{n}", f"{colour} mug", images=(f"{colour}.png",), attributes={"colour": colour, "brand": "A" if n % 2 else "B"}
            )
            for n, colour in enumerate((*COLOURS, "red"), start=1)
        ]
        engine.index("shop", documents, base=folder / "feed")
        yield engine


def quiet(done: int, total: int) -> None:
    """Show nothing."""


@pytest.fixture(scope="module")
def run(shop: SearchEngine) -> Evaluation:
    return evaluate(shop, "shop", None, progress=quiet)


def test_a_shop_asks_itself_in_three_directions(run: Evaluation) -> None:
    assert list(run.directions) == ["title->image", "image->title", "attribute->image"]
    assert run.directions["title->image"].questions == 6  # two products share a title
    assert run.directions["image->title"].questions == 7
    assert run.directions["title->image"].figures["R@1"].value == 1.0
    # Colours do not sort this shop into kinds, nearly every product has its own; and most products are of brand A.
    assert {a.question.id for a in run.answered if a.question.direction == "attribute->image"} == {"brand:B"}


def test_products_that_share_a_title_are_all_right(run: Evaluation) -> None:
    red = next(a for a in run.answered if a.question.id == "title:red mug")
    assert set(red.question.relevant) == {"p1", "p7"}
    assert red.rank == 1


def test_pairs_are_asked_of_the_whole_document(shop: SearchEngine) -> None:
    asked = [Question("a", "text->any", "green mug", {"p2": 1}, "en"), Question("b", "text->any", "mug", {"p3": 2}, "en")]
    found = evaluate(shop, "shop", asked, progress=quiet)
    assert found.directions["text->any"].questions == 2
    assert found.answered[0].rank == 1
    assert found.answered[1].rank > 1  # every mug is as near


def test_the_same_seed_gives_the_same_run(shop: SearchEngine, run: Evaluation) -> None:
    assert evaluate(shop, "shop", None, progress=quiet).as_dict() == run.as_dict()


def test_nothing_to_ask_is_said(shop: SearchEngine) -> None:
    shop.ensure("empty")
    with pytest.raises(InvalidInput, match="--pairs"):
        evaluate(shop, "empty", None, progress=quiet)


def saved(run: Evaluation, path: Path) -> dict[str, object]:
    run.save(path)
    return read_run(path)


def worse(run: Evaluation) -> Evaluation:
    """The same run with every title question answered wrongly."""
    values = run.values.copy()
    rows = [row for row, answer in enumerate(run.answered) if answer.question.direction == "title->image"]
    values[rows] = [0.0] * (len(NAMES) - 1) + [7.0]
    return Evaluation(run.about, run.answered, values, run.directions, run.shape, run.products)


def test_a_run_against_itself_changes_nothing(run: Evaluation, tmp_path: Path) -> None:
    comparison = compare_runs(saved(run, tmp_path / "run.json"), run)
    assert all(max(abs(d.value), abs(d.low), abs(d.high)) < 1e-6 for ds in comparison.directions.values() for d in ds.values())
    assert not comparison.wins
    assert gate(saved(run, tmp_path / "run.json"), run) == []


def test_a_fall_closes_the_gate_with_a_line_that_says_what(run: Evaluation, tmp_path: Path) -> None:
    baseline = saved(run, tmp_path / "run.json")
    lines = gate(baseline, worse(run))
    assert any(line.startswith("title->image: R@1 fell from 1.0000") for line in lines)
    assert not any(line.startswith("image->title") for line in lines)
    assert gate(saved(worse(run), tmp_path / "worse.json"), run) == []


def test_losses_name_both_ranks(run: Evaluation, tmp_path: Path) -> None:
    losses = compare_runs(saved(run, tmp_path / "run.json"), worse(run)).losses
    assert {(change.before, change.now) for change in losses} == {(1, 7)}


def test_runs_without_a_shared_question_cannot_be_compared(run: Evaluation, tmp_path: Path) -> None:
    baseline = saved(run, tmp_path / "run.json") | {"questions": []}
    with pytest.raises(InvalidInput, match="share no question"):
        compare_runs(baseline, run)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 99}'])
def test_another_file_is_no_run(text: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(InvalidInput, match="semblance evaluate"):
        read_run(tmp_path / "run.json")


def test_the_report_is_one_file_that_needs_nothing_else(run: Evaluation, tmp_path: Path) -> None:
    write_page(tmp_path / "run.html", run, compare_runs(saved(run, tmp_path / "run.json"), worse(run)))
    page = (tmp_path / "run.html").read_text(encoding="utf-8")
    assert "data:image/webp;base64," in page
    assert "<svg" in page
    assert "Losses" in page
    for outside in ("http://", "https://", "<script", "<link"):
        assert outside not in page


def test_titles_cannot_break_the_report(shop: SearchEngine, tmp_path: Path) -> None:
    asked = [Question("a", "text->any", "<script>alert(1)</script>", {"p1": 1}, label="<script>alert(1)</script>")]
    write_page(tmp_path / "run.html", evaluate(shop, "shop", asked, progress=quiet))
    assert "<script>" not in (tmp_path / "run.html").read_text(encoding="utf-8")


def test_a_run_is_plain_json(run: Evaluation, tmp_path: Path) -> None:
    run.save(tmp_path / "run.json")
    fields = json.loads((tmp_path / "run.json").read_text())
    assert fields["names"] == list(NAMES)
    assert np.isfinite([value for question in fields["questions"] for value in question["values"]]).all()
