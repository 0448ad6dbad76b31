"""Draws the sheet of drawings.md, images/drawings.webp, with the real system on the example shop, and prints the page's table.

    python docs/drawings_page.py

Every row: the query with its confidence and decision, the best three hits, the drawing, the three real products nearest to it.
"""

import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

from cli.generate import open_desk  # noqa: E402
from engine import open_engine  # noqa: E402
from engine.datatypes import Hit, Query, SearchResult, Term  # noqa: E402
from engine.errors import SemblanceError  # noqa: E402
from engine.generation.desk import DrawingDesk, Order  # noqa: E402
from engine.search import SearchEngine  # noqa: E402
from indexer.job import IndexRequest, index_catalogue  # noqa: E402

SHOP = ROOT / "examples/shop"
SHEET = ROOT / "docs/images/drawings.webp"
CELL, GAP, WORDS, SHOWN, COLUMNS = 72, 4, 190, 3, 2
QUERIES = """
red running shoe, white sneakers, leather sofa, grey sofa, office chair, vintage camera, football, cactus in a pot, laptop,
bedside table, tennis ball, skateboard, 跑鞋, 沙发, Kamera, orchid, red dress, blue jeans, black t-shirt, white shirt,
pink handbag, brown leather belt, gold watch, black sunglasses, green polo shirt, silver ring, yellow kurta, grey hoodie,
high heels, flip flops, brown boots, purple scarf, 红色连衣裙, 手表, pineapple, smiling face, fire engine, rocket, blue heart,
teddy bear
"""


@dataclass(frozen=True, slots=True)
class Row:
    """What the system made of one query; `drawing` is None where it refused."""

    query: str
    answer: SearchResult
    drawing: bytes | None
    closest: tuple[Hit, ...]


def rows(engine: SearchEngine, desk: DrawingDesk) -> Iterator[Row]:
    """Ask, draw, and look for what is nearest."""
    for query in QUERIES.replace("\n", " ").strip().split(", "):
        answer = engine.search_many("shop", [Query((Term(query),), k=SHOWN)])[0]
        if isinstance(answer, SemblanceError):
            raise answer
        kept = desk.draw(desk.request(Order(query)))
        yield Row(query, answer, desk.album.png(kept.id), desk.closest(kept, "shop", k=SHOWN).hits)


def sheet(found: Sequence[Row]) -> Image.Image:
    """Lay the rows out in two columns."""
    per_column = -(-len(found) // COLUMNS)
    width = WORDS + (2 * SHOWN + 1) * (CELL + GAP) + 6 * GAP
    page = Image.new("RGB", (COLUMNS * width, per_column * (CELL + GAP)), "white")
    for number, row in enumerate(found):
        _row(page, row, (number // per_column * width, number % per_column * (CELL + GAP)))
    return page


def _row(page: Image.Image, row: Row, at: tuple[int, int]) -> None:
    left, top = at
    pen = ImageDraw.Draw(page)
    confidence = f"{row.answer.confidence:.2f}" if row.answer.confidence is not None else "-"
    pen.text((left + GAP, top + 14), row.query, fill="black", font=_font(16))
    pen.text((left + GAP, top + 38), f"{row.answer.decision} {confidence}", fill="#555", font=_font(13))
    left += WORDS
    for hit in row.answer.hits[:SHOWN]:
        _paste(page, hit.image, (left, top))
        left += CELL + GAP
    left = at[0] + WORDS + SHOWN * (CELL + GAP) + 2 * GAP
    if row.drawing is not None:
        _paste(page, BytesIO(row.drawing), (left, top))
        pen.rectangle((left - 1, top - 1, left + CELL, top + CELL), outline="#d97706", width=3)
    left += CELL + 3 * GAP
    for hit in row.closest[:SHOWN]:
        _paste(page, hit.image, (left, top))
        left += CELL + GAP


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    try:
        return ImageFont.truetype("/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc", size)
    except OSError:
        return ImageFont.load_default(size)


def _paste(page: Image.Image, picture: str | BytesIO | None, at: tuple[int, int]) -> None:
    if picture is None:
        return
    with Image.open(picture) as image:
        image.thumbnail((CELL, CELL))
        page.paste(image.convert("RGB"), (at[0] + (CELL - image.width) // 2, at[1] + (CELL - image.height) // 2))


def table(found: Sequence[Row]) -> str:
    """Write the rows as a Markdown table."""
    lines = ["| query | confidence | decision | hits | nearest to the drawing |", "|---|---|---|---|---|"]
    for row in found:
        hits, closest = (", ".join(hit.title for hit in some[:SHOWN]) for some in (row.answer.hits, row.closest))
        confidence = "" if row.answer.confidence is None else f"{row.answer.confidence:.2f}"
        lines.append(f"| {row.query} | {confidence} | {row.answer.decision} | {hits} | {closest} |")
    return "\n".join(lines)


def main() -> None:
    """Index the example shop into a folder of its own, ask, draw, write."""
    with tempfile.TemporaryDirectory() as folder, open_engine(folder) as engine:
        index_catalogue(engine, IndexRequest(SHOP / "products.csv", "shop"))
        found = list(rows(engine, open_desk(engine)))
        sheet(found).save(SHEET, quality=80)
    sys.stdout.write(table(found) + "\n")


if __name__ == "__main__":
    main()
