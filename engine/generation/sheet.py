"""A contact sheet: many drawings on one page, each over the words it was drawn from, and a line that says what they are."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont, PngImagePlugin

from engine.datatypes import Image
from engine.generation.provenance import SOURCE_TYPE, XMP_KEYWORD

CELL, CAPTION, GAP, HEAD = 192, 34, 12, 30
MAX_CELLS = 400
LABEL = "Drawn by a model: these products do not exist."


def contact_sheet(drawings: Sequence[tuple[Path, str]], target: Path) -> None:
    """Write a PNG of the first 400 drawings, given as files with captions, in rows as wide as high."""
    shown = drawings[:MAX_CELLS]
    columns = max(1, min(10, round(len(shown) ** 0.5 + 0.49)))
    rows = -(-len(shown) // columns)
    size = (GAP + columns * (CELL + GAP), HEAD + GAP + rows * (CELL + CAPTION + GAP))
    page = PillowImage.new("RGB", size, "white")
    pen = ImageDraw.Draw(page)
    pen.text((GAP, GAP), LABEL, fill="black", font=ImageFont.load_default(16))
    for place, (file, caption) in enumerate(shown):
        left = GAP + place % columns * (CELL + GAP)
        top = HEAD + GAP + place // columns * (CELL + CAPTION + GAP)
        with PillowImage.open(file) as drawing:
            page.paste(_fitted(drawing), (left, top))
        _write(pen, (left, top + CELL + 2), caption)
    info = PngImagePlugin.PngInfo()
    info.add_itxt(XMP_KEYWORD, f'<x:xmpmeta xmlns:x="adobe:ns:meta/" DigitalSourceType="{SOURCE_TYPE}"/>')
    page.save(target, pnginfo=info)


def _fitted(drawing: Image) -> Image:
    return drawing.convert("RGB").resize((CELL, CELL), PillowImage.Resampling.LANCZOS)


def _write(pen: ImageDraw.ImageDraw, at: tuple[int, int], caption: str) -> None:
    """Write at most two lines; scripts the built-in font has no letters for come out as boxes, the table beside it has them."""
    font = ImageFont.load_default(12)
    lines: list[str] = []
    rest = " ".join(caption.split())
    while rest and len(lines) < 2:
        length = next(n for n in range(len(rest), 0, -1) if pen.textlength(rest[:n], font=font) <= CELL or n == 1)
        lines.append(rest[:length])
        rest = rest[length:].lstrip()
    pen.multiline_text(at, "\n".join(lines), fill="black", font=font, spacing=2)
