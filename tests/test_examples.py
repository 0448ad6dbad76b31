"""The example catalogues are complete, small, and credited; the script that made them does what their README says."""

import csv
import importlib.util
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

EXAMPLES = Path(__file__).parent.parent / "examples"
CATALOGUES = ("shop/products.csv", "emoji/emoji.jsonl")
LARGEST = 12_000_000


def read_rows(catalogue: str) -> list[dict[str, str]]:
    path = EXAMPLES / catalogue
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file)) if path.suffix == ".csv" else [json.loads(line) for line in file]


@pytest.fixture(scope="module")
def build() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("examples_build", EXAMPLES / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("catalogue", "count"), [("shop/products.csv", 54), ("emoji/emoji.jsonl", 1855)])
def test_rows_are_counted_and_their_ids_are_unique_slugs(catalogue: str, count: int) -> None:
    ids = [row["id"] for row in read_rows(catalogue)]
    assert len(ids) == len(set(ids)) == count
    assert [name for name in ids if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name)] == []


@pytest.mark.parametrize("catalogue", CATALOGUES)
def test_every_row_has_a_title_and_a_description_without_stray_blanks(catalogue: str) -> None:
    for row in read_rows(catalogue):
        for column in ("title", "description"):
            assert row[column], row["id"]
            assert row[column] == row[column].strip(), row["id"]


@pytest.mark.parametrize(("catalogue", "kind", "side"), [("shop/products.csv", "JPEG", 800), ("emoji/emoji.jsonl", "WEBP", 160)])
def test_every_picture_opens_in_the_promised_form(catalogue: str, kind: str, side: int) -> None:
    folder = (EXAMPLES / catalogue).parent
    for row in read_rows(catalogue):
        with Image.open(folder / row["image"]) as image:
            image.load()
            assert (image.format, image.mode, max(image.size)) == (kind, "RGB", side), row["id"]
            assert not image.getexif(), row["id"]


@pytest.mark.parametrize("catalogue", CATALOGUES)
def test_no_picture_is_left_over(catalogue: str) -> None:
    folder = (EXAMPLES / catalogue).parent
    used = {row["image"] for row in read_rows(catalogue)}
    assert {path.relative_to(folder).as_posix() for path in (folder / "images").iterdir()} == used


def test_prices_are_plain_positive_decimals() -> None:
    for row in read_rows("shop/products.csv"):
        assert re.fullmatch(r"\d+\.\d\d", row["price"]), row["id"]
        assert 0 < float(row["price"]) < math.inf, row["id"]


def test_the_shop_can_be_filtered_by_brand_and_price() -> None:
    rows = read_rows("shop/products.csv")
    assert {row["id"] for row in rows if row["brand"] == "Apple"} == {"laptop", "tablet"}
    assert {row["id"] for row in rows if row["brand"] == "Everlast" and float(row["price"]) < 50} == {
        "skipping-rope",
        "boxing-gloves",
    }
    assert all(row["department"] and row["category"] for row in rows)


def test_emoji_carry_a_group_and_a_numeric_version() -> None:
    rows = read_rows("emoji/emoji.jsonl")
    fox = next(row for row in rows if row["id"] == "fox")
    assert fox == {
        "id": "fox",
        "title": "fox",
        "description": "animal, face",
        "image": "images/fox.webp",
        "emoji": "🦊",
        "group": "animals-nature",
        "subgroup": "animal-mammal",
        "emoji_version": 3,
    }
    assert all(isinstance(row["emoji_version"], int | float) for row in rows)


def test_every_emoji_is_named_in_28_languages() -> None:
    labels = json.loads((EXAMPLES / "emoji" / "labels.json").read_text(encoding="utf-8"))
    assert set(labels) == {row["id"] for row in read_rows("emoji/emoji.jsonl")}
    languages = set(labels["fox"])
    assert len(languages) == 28
    assert all(set(names) == languages and all(names.values()) for names in labels.values())
    assert (labels["fox"]["de"], labels["fox"]["zh"]) == ("Fuchs", "狐狸")


def test_the_examples_stay_small() -> None:
    sizes = [path.stat().st_size for path in EXAMPLES.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert sum(sizes) <= LARGEST


def test_the_attribution_names_every_source_and_its_licence() -> None:
    text = (EXAMPLES / "ATTRIBUTION.md").read_text(encoding="utf-8")
    for source in ("@vendure/create", "@lobehub/fluent-emoji-3d", "emojibase-data", "Unsplash", "Microsoft", "Unicode CLDR"):
        assert source in text, source
    for notice in ("Copyright (c) 2017-2019 Miles Johnson", "Copyright (c) Microsoft Corporation.", "Copyright (c) 2023 LobeHub"):
        assert notice in text, notice
    linked = re.findall(r"\]\(([^)]+)\)", text)
    assert len(linked) >= 4
    assert [link for link in linked if not (EXAMPLES / link).is_file()] == []


def test_every_photograph_is_credited() -> None:
    text = (EXAMPLES / "shop" / "CREDITS.md").read_text(encoding="utf-8")
    assert [row["id"] for row in read_rows("shop/products.csv") if f"`{row['image']}`" not in text] == []


def test_variants_collapse_to_the_cheapest(build: ModuleType) -> None:
    blank = dict.fromkeys(("slug", "name", "description", "facets", "variantFacets", "optionValues"), "")
    first = {
        **blank,
        "slug": "lens",
        "name": "Lens",
        "facets": "category:Electronics|category:Photo|brand:Nikkon",
        "optionValues": "50mm|black",
        "sku": "A",
        "price": "104.00",
    }
    second = {**blank, "variantFacets": "color:black", "optionValues": "35mm|black", "sku": "B", "price": "99.50"}
    row = build.collapse([first, second])
    assert (row["price"], row["sku"], row["brand"]) == ("99.50", "B", "Nikon")
    assert (row["department"], row["category"], row["color"]) == ("Electronics", "Photo", "black")
    assert row["options"] == "50mm, black|35mm, black"


def test_photographs_are_turned_upright_and_lose_their_metadata(build: ModuleType, tmp_path: Path) -> None:
    picture = Image.new("RGB", (1000, 500), "blue")
    picture.paste("red", (0, 0, 500, 500))
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side: the left half belongs on top
    picture.save(tmp_path / "in.jpg", exif=exif)
    build.write_photo(tmp_path / "in.jpg", tmp_path / "out.jpg")
    with Image.open(tmp_path / "out.jpg") as image:
        assert image.size == (400, 800)
        assert not image.getexif()
        red, _, blue = image.getpixel((200, 100))
        assert red > 200
        assert blue < 50


def test_icons_are_square_and_white_where_they_were_transparent(build: ModuleType, tmp_path: Path) -> None:
    Image.new("RGBA", (256, 128), (200, 0, 0, 0)).save(tmp_path / "in.webp", lossless=True, exact=True)
    build.write_icon(tmp_path / "in.webp", tmp_path / "out.webp")
    with Image.open(tmp_path / "out.webp") as image:
        assert image.size == (160, 160)
        assert image.convert("RGB").getextrema() == ((255, 255),) * 3


@pytest.mark.parametrize(
    ("label", "expected"),
    [("flag: Côte d’Ivoire", "flag-cote-divoire"), ("A button (blood type)", "a-button-blood-type"), ("woman's hat", "womans-hat")],
)
def test_slugs_are_plain(build: ModuleType, label: str, expected: str) -> None:
    assert build.slug(label) == expected


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [("26A7-FE0F", "26a7"), ("0033-FE0F-20E3", "33-fe0f-20e3"), ("1F3F4-E0067-E0062-E007F", "1f3f4-e0067_e0062")],
)
def test_code_points_match_in_both_spellings(build: ModuleType, ours: str, theirs: str) -> None:
    assert build.sequence_key(ours) == build.sequence_key(theirs)


def test_an_uncredited_photograph_is_refused(build: ModuleType) -> None:
    assert build.photographer("derick-david-409858-unsplash.jpg") == ("Derick David", "409858")
    with pytest.raises(ValueError, match="add its credit by hand"):
        build.photographer("IMG_0001.jpg")
