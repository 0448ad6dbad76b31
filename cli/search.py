"""`semblance search` and `semblance recommend`: words, a picture or products in, the best hits out."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli import options
from cli.failures import usage_error
from cli.listing import listed
from cli.output import repaired, say_json

if TYPE_CHECKING:
    from engine.datatypes import SearchResult

Where = Annotated[
    str | None, typer.Option("--where", "-w", metavar="EXPR", help="Filter, for example \"price < 50 and brand = 'Apple'\".")
]
Count = Annotated[int, typer.Option("-k", metavar="N", help="How many hits; with --cursor, how many a page.")]


@listed
def search(  # noqa: PLR0913, PLR0917  one parameter per option
    collection: options.Collection,
    wanted: dict[str, object],
    words: Annotated[str | None, typer.Argument(metavar="WORDS", help="What to look for, in words.", show_default=False)] = None,
    image: Annotated[
        Path | None, typer.Option("--image", "-i", metavar="FILE", help="A picture to look for, alone or together with words.")
    ] = None,
    where: Where = None,
    k: Count = 10,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """Search a collection by words, by a picture, or by both together."""
    if words is None and image is None:
        raise usage_error('give words or a picture: semblance search -c NAME "red shoes", or --image FILE')
    with options.open_engine_for(data) as engine:
        typed = None if words is None else repaired(words)
        result = engine.search(collection, typed, image=image, k=k, where=where and repaired(where), **wanted)  # type: ignore[arg-type]
    _say(result, json=json)


@listed
def recommend(  # noqa: PLR0913, PLR0917  one parameter per option
    collection: options.Collection,
    like: Annotated[list[str], typer.Argument(metavar="ID...", help="Products to be like.", show_default=False)],
    wanted: dict[str, object],
    unlike: Annotated[
        list[str] | None, typer.Option("--unlike", "-u", metavar="ID", help="A product to keep away from; repeatable.")
    ] = None,
    where: Where = None,
    k: Count = 10,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """Recommend products that are like some of a collection and unlike others."""
    with options.open_engine_for(data) as engine:
        ids = [[repaired(id) for id in side] for side in (like, unlike or ())]
        result = engine.recommend(collection, *ids, k=k, where=where and repaired(where), **wanted)  # type: ignore[arg-type]
    _say(result, json=json)


def _say(result: "SearchResult", *, json: bool) -> None:
    if json:
        from engine.results import result_as_dict

        say_json(result_as_dict(result))
    else:
        from cli.hits import show

        show(result)
