"""The report of a run: one self-contained HTML page with tables, curves, the worst questions with their pictures, and a map."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np

from engine.evaluation.catalogue import Product
from engine.evaluation.comparison import Change, Comparison
from engine.evaluation.drawing import curves, scatter, thumbnail
from engine.evaluation.figures import NAMES, RANK, Answered, Figure
from engine.evaluation.run import Evaluation
from engine.evaluation.space import MAP_POINTS, flatten

WORST = 24
SHOWN_HITS = 4
MOST_RANK = 100
STYLE = """
:root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse;margin:1rem 0}th,td{padding:.25rem .7rem;text-align:right;border-bottom:1px solid #8884}
th:first-child,td:first-child{text-align:left}small{opacity:.7}svg{max-width:44rem;width:100%;font-size:12px;fill:currentColor}
figure{display:inline-block;margin:.3rem;text-align:center;width:100px;vertical-align:top;font-size:12px}
img{width:96px;height:96px;object-fit:contain;background:#8881}.right{outline:3px solid #059669}
.question{border-top:1px solid #8884;padding:.5rem 0}.better{color:#059669}.worse{color:#dc2626}
"""


def write_page(path: Path, run: Evaluation, comparison: Comparison | None = None) -> None:
    """Write the report; everything it shows is inside the one file."""
    path.write_text("\n".join(_page(run, comparison)) + "\n", encoding="utf-8")


def _page(run: Evaluation, comparison: Comparison | None) -> Iterator[str]:
    about = run.about
    title = f"{about['collection']}: {about['documents']} documents, {about['encoder']}"
    yield f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>'
    yield f"<h1>{escape(title)}</h1><p>Encoder {escape(str(about['fingerprint']))}, seed {about['seed']}."
    yield "Intervals hold 95 % of resamples.</p>"
    for name, direction in run.directions.items():
        yield f"<h2>{escape(name)} <small>{direction.questions} questions</small></h2>"
        yield _table({"this model": direction.figures, **direction.baselines, **direction.parts})
    yield "<h2>Found by rank</h2>" + curves(_found_by_rank(run), x="rank", y="share of questions answered")
    if comparison is not None:
        yield from _compared(run, comparison)
    yield from _space(run)
    yield "<h2>Worst questions</h2>"
    worst = np.argsort(-run.values[:, -1], kind="stable")[:WORST]
    yield from (_question(run.answered[row], _by_id(run)) for row in worst)
    yield "</html>"


def _table(rows: Mapping[str, Mapping[str, Figure]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in NAMES)
    body = "".join(
        f"<tr><td>{escape(label)}</td>" + "".join(f"<td>{_cell(name, figures[name])}</td>" for name in NAMES) + "</tr>"
        for label, figures in rows.items()
    )
    return f"<table><tr><th></th>{head}</tr>{body}</table>"


def _cell(name: str, figure: Figure) -> str:
    digits = 1 if name == RANK else 3
    return f"{figure.value:.{digits}f} <small>{figure.low:.{digits}f} to {figure.high:.{digits}f}</small>"


def _found_by_rank(run: Evaluation) -> dict[str, list[tuple[float, float]]]:
    ranks = {name: np.array([a.rank for a in run.answered if a.question.direction == name]) for name in run.directions}
    return {name: [(k, float(np.mean(found <= k))) for k in (1, 2, 3, 5, 10, 20, 50, MOST_RANK)] for name, found in ranks.items()}


def _compared(run: Evaluation, comparison: Comparison) -> Iterator[str]:
    before = comparison.before
    yield f"<h2>Against {escape(str(before['encoder']))} <small>{escape(str(before['fingerprint']))}</small></h2>"
    head = "".join(f"<th>{escape(name)}</th>" for name in NAMES)
    rows = []
    for direction, differences in comparison.directions.items():
        cells = []
        for name in NAMES:
            d = differences[name]
            kind = "better" if d.low > 0 else "worse" if d.high < 0 else ""
            cells.append(
                f'<td class="{kind}">{d.value:+.3f} '
                f"<small>{d.low:+.3f} to {d.high:+.3f}; {d.wins} won, {d.losses} lost</small></td>"
            )
        rows.append(f"<tr><td>{escape(direction)}</td>{''.join(cells)}</tr>")
    yield f"<table><tr><th></th>{head}</tr>{''.join(rows)}</table>"
    products = _by_id(run)
    for label, changes in (("Wins", comparison.wins), ("Losses", comparison.losses)):
        yield f"<h3>{label}</h3>"
        yield from (_changed(change, products) for change in changes)


def _changed(change: Change, products: Mapping[str, Product]) -> str:
    relevant = set(change.relevant)
    before, now = (_pictures(ids, relevant, products) for ids in (change.found_before, change.found_now))
    return (
        f'<div class="question"><b>{escape(change.label)}</b> rank {change.before} before, {change.now} now'
        f"<div>before {before}</div><div>now {now}</div></div>"
    )


def _space(run: Evaluation) -> Iterator[str]:
    if run.shape is None:
        return
    shape = run.shape
    yield "<h2>The joint space</h2><table>"
    yield f"<tr><td>modality gap (distance of the mean title and the mean picture)</td><td>{shape.gap:.3f}</td></tr>"
    yield f"<tr><td>cosine of a title and its own picture</td><td>{shape.alignment:.3f}</td></tr>"
    yield f"<tr><td>cosine of a title and another picture</td><td>{shape.uniformity:.3f}</td></tr>"
    yield f"<tr><td>hubness (skewness of how often a picture is among the ten nearest)</td><td>{shape.hubness:.2f}</td></tr>"
    yield f"<tr><td>pictures that are never among the ten nearest of a title</td><td>{shape.never_found:.1%}</td></tr></table>"
    both = [p for p in run.products if p.title is not None and p.image is not None][: MAP_POINTS // 2]
    titles, images = (np.stack([getattr(p, view) for p in both]) for view in ("title", "image"))
    points, method = flatten(np.concatenate([titles, images]))
    labels = [p.document.title for p in both]
    yield f"<p>A map by {escape(method)}:</p>"
    yield scatter({"titles": points[: len(both)], "pictures": points[len(both) :]}, {"titles": labels, "pictures": labels})


def _question(answer: Answered, products: Mapping[str, Product]) -> str:
    question = answer.question
    right = _pictures(list(question.relevant)[:SHOWN_HITS], set(question.relevant), products)
    found = _pictures(answer.ids[:SHOWN_HITS], set(question.relevant), products)
    return (
        f'<div class="question"><b>{escape(question.label)}</b> <small>{escape(question.direction)}, rank {answer.rank}</small>'
        f"<div>wanted {right}</div><div>found {found}</div></div>"
    )


def _pictures(ids: Sequence[str], right: set[str], products: Mapping[str, Product]) -> str:
    shown = []
    for id in ids:
        product = products.get(id)
        address = thumbnail(product.picture) if product is not None else ""
        kind = ' class="right"' if id in right else ""
        picture = f'<img{kind} src="{address}" alt="">' if address else ""
        name = product.document.title if product is not None else ""
        shown.append(f"<figure>{picture}<figcaption>{escape(name or id)}</figcaption></figure>")
    return "".join(shown)


def _by_id(run: Evaluation) -> dict[str, Product]:
    return {product.document.id: product for product in run.products}
