"""`semblance generate`: words in, a picture that nobody can buy out, and the real products nearest to it.

One prompt, or a file of them with a contact sheet of everything that was drawn.
"""

import csv
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import options
from cli.failures import ROWS_REFUSED, usage_error
from cli.output import note, repaired, say, say_json
from cli.progress import meter

if TYPE_CHECKING:
    from engine.config import Settings
    from engine.generation.desk import DrawingDesk, Order
    from engine.search import SearchEngine

SHEET, TABLE = "sheet.png", "drawings.csv"


def generate(  # noqa: PLR0913, PLR0917  one parameter per option
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for the pictures; made if need be.")],
    prompt: Annotated[str | None, typer.Argument(metavar="PROMPT", help="What to draw, in words.", show_default=False)] = None,
    prompts: Annotated[
        Path | None,
        typer.Option("--prompts", metavar="FILE", help="A CSV with a column `prompt` (also `id`, `style`, `seed`), or one a line."),
    ] = None,
    style: Annotated[str | None, typer.Option("--style", help="Style for every prompt that names none.")] = None,
    candidates: Annotated[int, typer.Option("--candidates", "-n", help="How many to draw of each; the best is kept.")] = 4,
    collection: Annotated[
        str | None, typer.Option("--collection", "-c", metavar="NAME", help="Also find the nearest products of this collection.")
    ] = None,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """Draw what words describe: PNG files with their provenance inside, and `drawings.csv`; for several also `sheet.png`.

    Emphasis: "[focus:gold-rimmed glasses][style:retro][scene:cafe]". A prompt that is refused is named with its rule; the others
    are drawn.
    """
    if (prompt is None) == (prompts is None):
        raise usage_error('give one prompt, semblance generate "red shoes" -o DIR, or --prompts FILE')
    wanted = [Wanted("drawing", repaired(prompt), None, 0)] if prompt is not None else list(_read(prompts or Path()))
    settings = options.settings_for(data, drawing_candidates=candidates)
    with ExitStack() as opened:
        desk = _open(settings, opened)
        rows = _draw_all(desk, wanted, output, style, collection)
    _finish(rows, output, json=json, sheet=prompts is not None)


@dataclass(frozen=True, slots=True)
class Wanted:
    """One row of what is to be drawn."""

    id: str
    prompt: str
    style: str | None
    seed: int


def _read(path: Path) -> Iterator[Wanted]:
    """Read a CSV that has a column `prompt`, else every line as one; ids become names of files, made unique by their row."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise usage_error(f"the prompts in {path} cannot be read ({error}): give a UTF-8 file") from None
    header = next(csv.reader(lines[:1]), [])
    given = csv.DictReader(lines) if "prompt" in header else ({"prompt": line} for line in lines)
    rows = [row for row in given if (row.get("prompt") or "").strip()]
    if not rows:
        raise usage_error(f"{path} holds no prompt: write one a line, or a CSV with a column `prompt`")
    for number, row in enumerate(rows, start=1):
        seed = (row.get("seed") or "0").strip()
        if not seed.isdecimal():
            raise usage_error(f"row {number} of {path} has the seed {seed!r}: use a whole number from 0 on")
        name = re.sub(r"[^\w-]+", "-", row.get("id") or "").strip("-")[:60]
        yield Wanted(f"{number:04d}-{name}".rstrip("-"), str(row["prompt"]), (row.get("style") or "").strip() or None, int(seed))


def _open(settings: "Settings", opened: ExitStack) -> "DrawingDesk":
    from engine import open_engine

    return open_desk(opened.enter_context(open_engine(settings)))


def open_desk(engine: "SearchEngine") -> "DrawingDesk":
    """Open a desk that draws in this process, on every core."""
    from engine.build import drawing_size, generator_identity, open_studio
    from engine.generation.desk import DrawingDesk

    settings = engine.settings
    alone = settings.model_copy(update={"drawing_threads": settings.threads or os.cpu_count() or 1})
    return DrawingDesk(engine, open_studio(alone), size=drawing_size(settings), generator=generator_identity(settings))


def _draw_all(
    desk: "DrawingDesk", wanted: list[Wanted], output: Path, style: str | None, collection: str | None
) -> list[dict[str, Any]]:
    output.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    with meter("drawing", "pictures") as progress:
        for each in wanted:
            rows.append(_draw(desk, each, output, style, collection))
            progress.show(len(rows), len(wanted))
    return rows


def _draw(desk: "DrawingDesk", wanted: Wanted, output: Path, style: str | None, collection: str | None) -> dict[str, Any]:
    from engine.errors import InvalidInput

    row: dict[str, Any] = {"id": wanted.id, "prompt": wanted.prompt, "file": None, "refused": None, "closest": []}
    try:
        kept = desk.draw(desk.request(_order(wanted, style)))
    except InvalidInput as error:
        return row | {"refused": str(error)}
    file = output / f"{wanted.id}.png"
    file.write_bytes(desk.album.png(kept.id))
    row |= kept.as_dict() | {"id": wanted.id, "file": file.name}
    if collection is not None:
        row["closest"] = [hit.id for hit in desk.closest(kept, collection, k=10).hits]
    return row


def _order(wanted: Wanted, style: str | None) -> "Order":
    from engine.generation.desk import Order

    return Order(wanted.prompt, style=wanted.style or style, seed=wanted.seed)


def _finish(rows: list[dict[str, Any]], output: Path, *, json: bool, sheet: bool) -> None:
    drawn = [row for row in rows if row["file"]]
    _write_table(rows, output / TABLE)
    if sheet and drawn:
        from engine.generation.sheet import contact_sheet

        contact_sheet([(output / row["file"], row["prompt"]) for row in drawn], output / SHEET)
    if json:
        say_json({"output": str(output), "drawings": rows})
    else:
        for row in drawn:
            say("\t".join([str(output / row["file"]), f"{row['similarity']:.3f}", ",".join(row["closest"])]))
    for row in rows:
        if row["refused"]:
            note(f"{row['id']}: {row['refused']}")
    note(f"{len(drawn)} of {len(rows)} drawn to {output}; every picture is synthetic and says so")
    if len(drawn) < len(rows):
        raise typer.Exit(ROWS_REFUSED)


def _write_table(rows: list[dict[str, Any]], path: Path) -> None:
    from indexer.report import safe_cell

    fields = ("id", "prompt", "file", "seed", "model", "similarity", "closest", "refused")
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow((*fields, "synthetic"))
        for row in rows:
            cells = [" ".join(value) if isinstance(value := row.get(name), list) else value for name in fields]
            table.writerow([safe_cell("" if cell is None else str(cell)) for cell in cells] + ["true" if row["file"] else ""])
