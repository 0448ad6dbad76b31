"""`semblance search`: words or a picture in, the best hits out."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli import options
from cli.failures import usage_error
from cli.output import note, repaired, say_json, say_table

if TYPE_CHECKING:
    from engine.datatypes import SearchResult


def search(  # noqa: PLR0913, PLR0917  one parameter per option
    collection: options.Collection,
    words: Annotated[str | None, typer.Argument(metavar="WORDS", help="What to look for, in words.", show_default=False)] = None,
    image: Annotated[
        Path | None, typer.Option("--image", "-i", metavar="FILE", help="A picture to look for, alone or together with words.")
    ] = None,
    where: Annotated[
        str | None, typer.Option("--where", "-w", metavar="EXPR", help="Filter, for example \"price < 50 and brand = 'Apple'\".")
    ] = None,
    k: Annotated[int, typer.Option("-k", metavar="N", help="How many hits.")] = 10,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """Search a collection by words, by a picture, or by both together."""
    if words is None and image is None:
        raise usage_error('give words or a picture: semblance search -c NAME "red shoes", or --image FILE')
    settings = options.settings_for(data)
    from engine import open_engine
    from engine.results import result_as_dict

    with open_engine(settings) as engine:
        result = engine.search(
            collection, None if words is None else repaired(words), image=image, k=k, where=where and repaired(where)
        )
    if json:
        say_json(result_as_dict(result))
    else:
        _show(result)


def _show(result: "SearchResult") -> None:
    say_table(("score", "id", "title", "image"), [(f"{hit.score:.3f}", hit.id, hit.title, hit.image or "") for hit in result.hits])
    note(f"{len(result.hits)} hits among {result.admitted} documents; {result.decision}, {result.timings_ms['total']:.0f} ms")
