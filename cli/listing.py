"""Options that shape a list of results, shared by the commands that print one.

They are many and always the same, so a command takes them as one parameter, `wanted`. Printing lists is `cli.hits`.
"""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from engine.listing import ListOptions

Many = list[str] | None
OPTIONS: dict[str, tuple[Any, Any]] = {
    "facets": (
        Annotated[
            Many, typer.Option("--facet", "-f", metavar="NAME", help="Count the relevant products by an attribute; repeatable.")
        ],
        None,
    ),
    "sort": (
        Annotated[
            Many,
            typer.Option("--sort", "-s", metavar="NAME[:desc]", help="Order the relevant products by an attribute; repeatable."),
        ],
        None,
    ),
    "boosts": (
        Annotated[
            Many,
            typer.Option("--boost", metavar="NAME[=WEIGHT]", help="Lift products by a number, as popularity=0.2; repeatable."),
        ],
        None,
    ),
    "group_by": (
        Annotated[str | None, typer.Option("--group-by", metavar="NAME", help="Show one product per value of an attribute.")],
        None,
    ),
    "dedup": (Annotated[bool, typer.Option("--dedup", help="Show one of several products with nearly the same picture.")], False),
    "cursor": (
        Annotated[
            str | None,
            typer.Option("--cursor", metavar="CURSOR", help="* begins a list turned page by page; what was printed continues it."),
        ],
        None,
    ),
    "explain": (Annotated[bool, typer.Option("--explain", help="Say of every hit what each view gave to its score.")], False),
}


def listed(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of a list; it gets them together as `wanted`, an `engine.listing.ListOptions`."""
    own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.name != "wanted"]
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    more = [inspect.Parameter(name, kind, annotation=type_, default=default) for name, (type_, default) in OPTIONS.items()]

    @wraps(command)
    def run(**given: Any) -> None:  # noqa: ANN401  whatever the options hold
        wanted: ListOptions = {name: given.pop(name) for name in OPTIONS}  # type: ignore[assignment]
        command(**given, wanted={name: () if value is None and name in _MANY else value for name, value in wanted.items()})

    parameters = sorted([*own, *more], key=lambda p: p.default is not inspect.Parameter.empty)
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


_MANY = frozenset({"facets", "sort", "boosts"})
