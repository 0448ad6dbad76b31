"""`semblance index` and `semblance search`, through the real command line with a toy encoder."""

import csv
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cli.main import app
from engine.testing import FakeEncoder, tiny_catalogue


@pytest.fixture(autouse=True)
def encoder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeEncoder:
    fake = FakeEncoder()
    monkeypatch.setattr("engine.build.build_encoder", lambda settings: fake)
    monkeypatch.setattr("engine.build.build_calibration", lambda settings: None)
    monkeypatch.setenv("SEMBLANCE_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    return fake


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    return tiny_catalogue(tmp_path / "shop")


@pytest.fixture
def shop(catalogue: Path) -> Path:
    assert semblance("index", catalogue, "-c", "shop").exit_code == 0
    return catalogue


def semblance(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def ids(result: Result) -> list[str]:
    return [hit["id"] for hit in json.loads(result.stdout)["hits"]]


def test_a_catalogue_goes_in_and_says_so(catalogue):
    result = semblance("index", catalogue, "--collection", "shop")
    assert result.exit_code == 0
    assert result.stdout.startswith("shop: 6 rows in ")
    assert result.stdout.endswith(": 6 created\n")


def test_running_again_encodes_nothing(shop, encoder):
    before = encoder.images_encoded, encoder.texts_encoded
    result = semblance("index", shop, "-c", "shop", "--json")
    report = json.loads(result.stdout)
    assert (report["unchanged"], report["created"], report["updated"]) == (6, 0, 0)
    assert (encoder.images_encoded, encoder.texts_encoded) == before


def test_refused_rows_are_code_3_and_listed(catalogue):
    with catalogue.open("a", encoding="utf-8") as file:
        file.write("p7,lost mug,lost.png,5,Acme\np1,again,red.png,5,Acme\n")
    result = semblance("index", catalogue, "-c", "shop")
    assert result.exit_code == 3
    assert "6 created, 2 refused" in result.stdout
    errors = Path(result.stderr.split(": ", 1)[1].rsplit(" (", 1)[0])
    assert [row["id"] for row in csv.DictReader(errors.read_text(encoding="utf-8").splitlines())] == ["p7", "p1"]


def test_only_what_failed_is_tried_again(catalogue):
    with catalogue.open("a", encoding="utf-8") as file:
        file.write("p7,lost mug,lost.png,5,Acme\n")
    report = json.loads(semblance("index", catalogue, "-c", "shop", "--json").stdout)
    assert report["refused"] == 1
    (catalogue.parent / "lost.png").write_bytes((catalogue.parent / "red.png").read_bytes())
    again = semblance("index", catalogue, "-c", "shop", "--retry-failed", report["folder"], "--json")
    assert again.exit_code == 0
    assert (json.loads(again.stdout)["read"], json.loads(again.stdout)["created"]) == (1, 1)


def test_prune_removes_what_the_catalogue_lost(shop):
    lines = shop.read_text(encoding="utf-8").splitlines(keepends=True)
    shop.write_text("".join(lines[:4]), encoding="utf-8")
    assert json.loads(semblance("index", shop, "-c", "shop", "--json").stdout)["pruned"] == 0
    assert json.loads(semblance("index", shop, "-c", "shop", "--prune", "--json").stdout)["pruned"] == 3
    assert json.loads(semblance("collections", "--json").stdout) == {
        "collections": [{"name": "shop", "documents": 3, "error": None, "alias_of": None}]
    }


def test_columns_can_be_named(tmp_path):
    (tmp_path / "odd.csv").write_text("nr,what,cost of it\n1,red mug,5\n", encoding="utf-8")
    assert semblance("index", "odd.csv", "-c", "odd").exit_code == 1
    result = semblance("index", "odd.csv", "-c", "odd", "--map", "id=nr", "--map", "title = what", "--map", "price=cost of it")
    assert result.exit_code == 0
    hit = json.loads(semblance("search", "-c", "odd", "red", "--json").stdout)["hits"][0]
    assert (hit["id"], hit["title"], hit["attributes"]) == ("1", "red mug", {"price": 5})


@pytest.mark.parametrize(
    ("mapping", "message"), [(["title"], "write PART=COLUMN"), (["=x"], "write PART"), (["id=a", "id=b"], "names 'id' twice")]
)
def test_a_wrong_mapping_is_a_usage_error(catalogue, mapping, message):
    result = semblance("index", catalogue, "-c", "shop", *(word for entry in mapping for word in ("--map", entry)))
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())


def test_a_missing_catalogue_is_one_line_and_makes_no_collection():
    result = semblance("index", "nowhere.csv", "-c", "shop")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert json.loads(semblance("collections", "--json").stdout) == {"collections": []}


def test_search_by_words_picture_and_both(shop):
    assert ids(semblance("search", "-c", "shop", "red mug", "-k", "1", "--json")) == ["p1"]
    assert ids(semblance("search", "-c", "shop", "--image", shop.parent / "blue.png", "-k", "1", "--json")) == ["p3"]
    both = ids(semblance("search", "-c", "shop", "green", "--image", shop.parent / "blue.png", "-k", "2", "--json"))
    assert set(both) == {"p2", "p3"}


def test_search_json_has_the_agreed_fields(shop):
    answer = json.loads(semblance("search", "-c", "shop", "red mug", "--json").stdout)
    assert set(answer) >= {"hits", "confidence", "decision", "total", "timings_ms", "version"}
    assert list(answer["hits"][0])[:5] == ["id", "score", "title", "image", "attributes"]
    assert answer["admitted"] == 6
    assert answer["hits"][0]["attributes"] == {"price": 10, "brand": "Acme"}


def test_search_says_how_long_it_took_and_counts_no_stage_twice(shop, monkeypatch):
    monkeypatch.setattr("engine.metrics.StageTimer.as_dict", lambda timer: {"encode": 3.0, "search": 4.0, "total": 8.0})
    assert semblance("search", "-c", "shop", "red mug").stderr.endswith(", 8 ms\n")


def test_an_unknown_collection_is_named_with_the_folder_looked_in(shop):
    result = semblance("search", "-c", "nowhere", "red")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: there is no collection 'nowhere'")
    assert str(shop.parent.parent / "data") in result.stderr


def test_search_filters(shop):
    result = semblance("search", "-c", "shop", "mug", "--where", "price < 50 and brand = 'Acme'", "--json")
    assert sorted(ids(result)) == ["p1", "p3"]
    wrong = semblance("search", "-c", "shop", "mug", "--where", "price <")
    assert wrong.exit_code == 1
    assert wrong.stderr.count("\n") == 1


def test_search_in_a_pipe_is_a_line_a_hit(shop):
    result = semblance("search", "-c", "shop", "red mug", "-k", "2")
    first = result.stdout.splitlines()[0].split("\t")
    assert first[1:3] == ["p1", "red mug"]
    assert 0 < float(first[0]) <= 1
    assert "relevant among 6 documents" in result.stderr


def test_search_needs_something_to_look_for(shop):
    result = semblance("search", "-c", "shop")
    assert result.exit_code == 2
    assert "give words or a picture" in result.stderr
    assert semblance("search", "-c", "shop", "  ").exit_code == 1
    assert semblance("search", "red mug").exit_code == 2
    assert semblance("search", "-c", "shop", "red", "-k", "0").exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["-c", "nope", "red"], "nope"),
        (["-c", "../shop", "red"], "../shop"),
        (["-c", "shop", "--image", "nope.jpg"], "nope.jpg"),
        (["-c", "shop", "--image", "shop/products.csv"], "picture"),
    ],
)
def test_what_cannot_be_searched_is_named(shop, arguments, named):
    result = semblance("search", *arguments)
    assert result.exit_code == 1
    assert named in result.stderr
    assert result.stderr.count("\n") == 1


def test_collections_are_listed_and_dropped(shop):
    assert semblance("collections").stdout == "shop\t6\t\n"
    assert semblance("collections", "drop", "shop", "--yes").exit_code == 0
    assert semblance("collections").stdout == ""
    assert semblance("collections", "drop", "shop", "--yes").exit_code == 1


def test_dropping_asks_first(shop):
    result = CliRunner().invoke(app, ["collections", "drop", "shop"], input="n\n")
    assert result.exit_code == 1
    assert semblance("collections").stdout == "shop\t6\t\n"
