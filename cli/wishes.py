"""A page of what customers wanted and the shop does not stock: each wish drawn, counted, in the customers' words."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from cli.progress import meter

if TYPE_CHECKING:
    from engine.evaluation.misses import Miss
    from engine.generation.desk import DrawingDesk

PAGE = "misses.html"
STYLE = (
    "body{font:16px system-ui;margin:2rem auto;max-width:70rem;padding:0 1rem}"
    "main{display:grid;gap:1.5rem;grid-template-columns:repeat(auto-fill,minmax(14rem,1fr))}"
    "figure{margin:0}img{width:100%;border-radius:.5rem}small{color:#555}"
)


def draw_wishes(desk: "DrawingDesk", found: "Sequence[Miss]", folder: Path) -> list[str]:
    """Draw each wish from the mean of its queries into `folder`; the names of the files, or why there is none, in order."""
    from engine.errors import GenerationRefused
    from engine.generation.desk import Order

    folder.mkdir(parents=True, exist_ok=True)
    outcomes = []
    with meter("drawing", "wishes") as progress:
        for number, miss in enumerate(found, start=1):
            try:
                kept = desk.draw(desk.request(Order(miss.label, vector=miss.vector.astype("<f4").tobytes())))
                (folder / f"{number:02d}.png").write_bytes(desk.album.png(kept.id))
                outcomes.append(f"{number:02d}.png")
            except GenerationRefused as error:
                outcomes.append(str(error))
            progress.show(number, len(found))
    return outcomes


def write_page(folder: Path, heading: str, found: "Sequence[Miss]", outcomes: Sequence[str]) -> Path:
    """Write the page beside its drawings; returns its path."""
    cards = "".join(_card(miss, outcome) for miss, outcome in zip(found, outcomes, strict=True))
    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(heading)}</title><style>{STYLE}</style>'
        f"<h1>{escape(heading)}</h1><p>The pictures are drawn by a model: these products do not exist.</p>"
        f"<main>{cards}</main></html>"
    )
    (folder / PAGE).write_text(page, encoding="utf-8")
    return folder / PAGE


def _card(miss: "Miss", outcome: str) -> str:
    drawn = outcome.endswith(".png")
    picture = f'<img src="{outcome}" alt="{escape(miss.label)}, drawn by a model">' if drawn else f"<p>{escape(outcome)}</p>"
    also = f"<br>also: {escape(', '.join(miss.queries[1:]))}" if len(miss.queries) > 1 else ""
    nearest = f"<br>nearest product: {escape(miss.best)}" if miss.best else ""
    return (
        f"<figure>{picture}<figcaption><strong>{escape(miss.label)}</strong>, asked {miss.count} times"
        f"<small>{also}{nearest}<br>confidence {miss.confidence:.2f}</small></figcaption></figure>"
    )
