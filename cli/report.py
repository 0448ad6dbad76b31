"""`semblance report`: what the query log says about a collection."""

import time
from pathlib import Path
from typing import Annotated

import typer

from cli import options
from cli.generate import open_desk
from cli.output import note, say_json, say_table
from cli.wishes import draw_wishes, write_page

app = typer.Typer(help="Report on what was asked of a collection.", no_args_is_help=True)

SECONDS_PER_DAY = 86_400


@app.callback()
def report() -> None:
    """Report on what was asked of a collection."""


@app.command("misses")
def misses(
    collection: options.Collection,
    days: Annotated[float, typer.Option("--days", metavar="N", help="How far back to look.")] = 30.0,
    most: Annotated[int, typer.Option("--most", metavar="N", min=1, help="How many wishes to list.")] = 20,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="Also draw every wish, and write a page of them there.")
    ] = None,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """List what customers wanted and the shop does not stock: queries without an answer, gathered by meaning and counted.

    Reads the log that the setting SEMBLANCE_LOG_QUERIES turns on. Needs the extra `lab`.
    """
    from engine.evaluation.misses import distinct_texts, gather_misses, missed
    from engine.querylog import LOG, read_log

    with options.open_engine_for(data) as engine:
        folder: Path = engine.collection(collection).path
        logged = list(read_log(folder, since=time.time() - days * SECONDS_PER_DAY))
        unmet = missed(logged)
        texts = distinct_texts(unmet)
        found = gather_misses(unmet, texts, engine.embed_texts(texts), most=most)
        drawn = draw_wishes(open_desk(engine), found, output) if output is not None else [None] * len(found)
    if output is not None:
        heading = f"{collection}: {len(unmet)} of {len(logged)} queries of the last {days:g} days found no answer"
        note(f"wrote {write_page(output, heading, found, [str(outcome) for outcome in drawn])}")
    if json:
        listed = [miss.as_dict() | {"drawing": outcome} for miss, outcome in zip(found, drawn, strict=True)]
        say_json({"queries": len(logged), "missed": len(unmet), "misses": listed})
        return
    if not (folder / LOG).exists():
        note(f"no query of {collection} was logged yet: SEMBLANCE_LOG_QUERIES=true semblance serve keeps a log")
        return
    rows = [(str(m.count), m.label, f"{m.confidence:.2f}", m.best, ", ".join(m.queries[1:])) for m in found]
    say_table(("asked", "wanted", "confidence", "nearest", "also"), rows)
    note(f"{len(unmet)} of {len(logged)} queries of the last {days:g} days found no answer")
