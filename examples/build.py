"""Regenerate the two example catalogues from unpacked npm packages.

Here: how `shop/` and `emoji/` were made, so that anyone can make them again and see what was changed on the way. Not here: the
licences of what is shipped (`ATTRIBUTION.md`) and how a catalogue is indexed (`indexer/`). Usage is in `README.md`.
"""

import argparse
import csv
import io
import json
import logging
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from PIL import Image, ImageCms, ImageOps

log = logging.getLogger(__name__)

Row = dict[str, str]
Emoji = dict[str, Any]

SHOP_COLUMNS = (
    "id",
    "title",
    "description",
    "image",
    "price",
    "brand",
    "department",
    "category",
    "color",
    "plant_type",
    "options",
    "sku",
)
SHOP_SIDE = 800
SHOP_QUALITY = 82
EMOJI_SIDE = 160
EMOJI_QUALITY = 85
FACET_FIXES = {"Nikkon": "Nikon"}
"""Misspelt facet values in the source, by what they should read."""

LIST_SEPARATOR = "|"


# --- pictures ---------------------------------------------------------------------------------------------------------


def to_srgb(image: Image.Image) -> Image.Image:
    """Return the upright picture in sRGB, on white where it was transparent."""
    profile = image.info.get("icc_profile")
    image = ImageOps.exif_transpose(image)
    if profile and image.mode in ("RGB", "CMYK"):
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
        return converted or image
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    canvas = Image.new("RGBA", layer.size, "white")
    canvas.alpha_composite(layer)
    return canvas.convert("RGB")


def write_photo(source: Path, target: Path) -> None:
    """Write a progressive JPEG of `source` whose longest side is at most `SHOP_SIDE`, without metadata."""
    with Image.open(source) as image:
        picture = to_srgb(image)
    picture.thumbnail((SHOP_SIDE, SHOP_SIDE), Image.Resampling.LANCZOS)
    picture.info.clear()
    picture.save(target, "JPEG", quality=SHOP_QUALITY, optimize=True, progressive=True)


def write_icon(source: Path, target: Path) -> None:
    """Write a square WebP of `source` on white, `EMOJI_SIDE` pixels wide.

    On white because an alpha channel hides different colours in different decoders, and the encoder would see those.
    """
    with Image.open(source) as image:
        picture = to_srgb(image)
    square = ImageOps.pad(picture, (EMOJI_SIDE, EMOJI_SIDE), Image.Resampling.LANCZOS, color="white")
    square.info.clear()
    square.save(target, "WEBP", quality=EMOJI_QUALITY, method=6)


def empty_folder(folder: Path) -> Path:
    """Make `folder` and remove the files of an earlier build from it."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    return folder


# --- shop -------------------------------------------------------------------------------------------------------------


def read_products(path: Path) -> Iterator[list[Row]]:
    """Yield each product's rows of Vendure's import file: the product with its first variant, then the other variants."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = [{key.strip(): value.strip() for key, value in row.items()} for row in csv.DictReader(file)]
    starts = 0
    numbered: list[tuple[int, Row]] = []
    for row in rows:
        starts += bool(row["slug"])
        numbered.append((starts, row))
    for _, group in groupby(numbered, key=lambda pair: pair[0]):
        yield [row for _, row in group]


def facet_values(rows: Iterable[Row], facet: str) -> list[str]:
    """Return the values of one facet over a product and its variants, in source order, each once."""
    pairs = [pair for row in rows for cell in ("facets", "variantFacets") for pair in row[cell].split("|") if pair]
    values = [value for name, _, value in (pair.partition(":") for pair in pairs) if name == facet]
    return list(dict.fromkeys(FACET_FIXES.get(value, value) for value in values))


def option_labels(rows: Iterable[Row]) -> list[str]:
    """Return how each variant is called, "13 inch, 8GB"; empty for a product sold in one form."""
    return [row["optionValues"].replace("|", ", ") for row in rows if row["optionValues"]]


def collapse(rows: list[Row]) -> Row:
    """Return one catalogue row for a product: price and sku are those of its cheapest variant."""
    product = rows[0]
    cheapest = min(rows, key=lambda row: float(row["price"]))
    department, category = facet_values(rows, "category")
    return {
        "id": product["slug"],
        "title": product["name"],
        "description": product["description"],
        "image": f"images/{product['slug']}.jpg",
        "price": cheapest["price"],
        "brand": LIST_SEPARATOR.join(facet_values(rows, "brand")),
        "department": department,
        "category": category,
        "color": LIST_SEPARATOR.join(facet_values(rows, "color")),
        "plant_type": LIST_SEPARATOR.join(facet_values(rows, "plant type")),
        "options": LIST_SEPARATOR.join(option_labels(rows)),
        "sku": cheapest["sku"],
    }


def photographer(asset: str) -> tuple[str, str]:
    """Split "derick-david-409858-unsplash.jpg" into the name and the number that Unsplash gave the photograph."""
    match = re.fullmatch(r"(?P<name>[a-z-]+)-(?P<number>\d+)-unsplash\.jpg", asset)
    if match is None:
        raise ValueError(f"asset {asset!r} is not named like an Unsplash download: add its credit by hand")
    return match["name"].replace("-", " ").title(), match["number"]


def write_credits(path: Path, assets: Mapping[str, str]) -> None:
    """Write the table of photographers; `assets` maps a product's id to the photograph's file name in the package."""
    lines = [
        "# Photographs of the example shop",
        "",
        "All photographs come from Unsplash. Photographer and number are read from the file names in the npm package",
        "`@vendure/create`, which names its photographs in no other way.",
        "",
        "| Picture | Photographer | Unsplash number | File in the package |",
        "| --- | --- | --- | --- |",
    ]
    for slug, asset in sorted(assets.items()):
        name, number = photographer(asset)
        lines.append(f"| `images/{slug}.jpg` | {name} | {number} | `{asset}` |")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def build_shop(package: Path, target: Path) -> int:
    """Write `products.csv`, `images/` and `CREDITS.md`; return the number of products."""
    images = empty_folder(target / "images")
    assets: dict[str, str] = {}
    with (target / "products.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, SHOP_COLUMNS, lineterminator="\n")
        writer.writeheader()
        for rows in read_products(package / "assets" / "products.csv"):
            row = collapse(rows)
            assets[row["id"]] = rows[0]["assets"]
            write_photo(package / "assets" / "images" / rows[0]["assets"], images / f"{row['id']}.jpg")
            writer.writerow(row)
    write_credits(target / "CREDITS.md", assets)
    return len(assets)


# --- emoji ------------------------------------------------------------------------------------------------------------


def sequence_key(name: str) -> str:
    """Return a code point sequence in a spelling that both packages share.

    Variation selectors, leading zeros and the tag that ends a flag of a region are each left out by one of them.
    """
    points = name.lower().replace("_", "-").split("-")
    return "-".join(point.lstrip("0") for point in points if point not in ("fe0f", "e007f"))


def slug(label: str) -> str:
    """Return a lower-case ASCII id of a label: "flag: Côte d'Ivoire" becomes "flag-cote-divoire"."""
    plain = unicodedata.normalize("NFKD", label).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", plain.lower().replace("'", "")).strip("-")


def read_json(path: Path) -> Any:  # noqa: ANN401 - the shape is the package's
    """Return what a JSON file of the package holds."""
    return json.loads(path.read_text(encoding="utf-8"))


def pictured(emojibase: Path, fluent: Path) -> list[tuple[Emoji, Path]]:
    """Return the emoji that have a picture, in keyboard order; skin-tone variants and bare components are left out."""
    pictures = {sequence_key(path.stem): path for path in sorted(fluent.glob("assets/*.webp"), reverse=True)}
    emoji = [entry for entry in read_json(emojibase / "en" / "data.json") if "group" in entry]
    emoji.sort(key=lambda entry: int(entry["order"]))
    matched = [(entry, pictures.get(sequence_key(entry["hexcode"]))) for entry in emoji]
    log.info("emoji without a picture: %s", ", ".join(entry["label"] for entry, picture in matched if picture is None))
    return [(entry, picture) for entry, picture in matched if picture is not None]


def emoji_ids(emoji: Iterable[Emoji]) -> dict[str, str]:
    """Map each code point sequence to an id: the label's slug, with the code points where two labels share one."""
    slugs = {entry["hexcode"]: slug(entry["label"]) for entry in emoji}
    shared = Counter(slugs.values())
    return {code: name if shared[name] == 1 and name else f"{name}-{code.lower()}" for code, name in slugs.items()}


def emoji_row(identifier: str, entry: Emoji, groups: Mapping[str, Mapping[str, str]]) -> dict[str, object]:
    """Return one catalogue row."""
    return {
        "id": identifier,
        "title": entry["label"],
        "description": ", ".join(entry.get("tags", [])),
        "image": f"images/{identifier}.webp",
        "emoji": entry["emoji"],
        "group": groups["groups"][str(entry["group"])],
        "subgroup": groups["subgroups"][str(entry["subgroup"])],
        "emoji_version": entry["version"],
    }


def write_labels(path: Path, emojibase: Path, ids: Mapping[str, str]) -> None:
    """Write each emoji's name in every language of the package, one emoji a line."""
    labels: dict[str, dict[str, str]] = {identifier: {} for identifier in ids.values()}
    for file in sorted(emojibase.glob("*/compact.json")):
        for entry in read_json(file):
            if entry["hexcode"] in ids:
                labels[ids[entry["hexcode"]]][file.parent.name] = entry["label"]
    lines = [f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in labels.items()]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def build_emoji(fluent: Path, emojibase: Path, target: Path) -> int:
    """Write `emoji.jsonl`, `labels.json` and `images/`; return the number of emoji."""
    images = empty_folder(target / "images")
    found = pictured(emojibase, fluent)
    ids = emoji_ids(entry for entry, _ in found)
    groups = read_json(emojibase / "meta" / "groups.json")
    with (target / "emoji.jsonl").open("w", encoding="utf-8", newline="\n") as file:
        for entry, picture in found:
            row = emoji_row(ids[entry["hexcode"]], entry, groups)
            write_icon(picture, images / f"{row['id']}.webp")
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    write_labels(target / "labels.json", emojibase, ids)
    return len(found)


def main() -> None:
    """Build both catalogues from the folders named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vendure", type=Path, required=True, help="unpacked @vendure/create")
    parser.add_argument("--fluent", type=Path, required=True, help="unpacked @lobehub/fluent-emoji-3d")
    parser.add_argument("--emojibase", type=Path, required=True, help="unpacked emojibase-data")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent, help="where shop/ and emoji/ are written")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    log.info("products: %d", build_shop(options.vendure, options.output / "shop"))
    log.info("emoji: %d", build_emoji(options.fluent, options.emojibase, options.output / "emoji"))


if __name__ == "__main__":
    main()
