"""`semblance reindex`: a collection by another encoder, while the old one serves."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from cli import options
from cli.failures import usage_error
from cli.output import note, say_json
from cli.progress import meter

if TYPE_CHECKING:
    from engine.reindex import RolledBack


def reindex(  # noqa: PLR0913, PLR0917  one parameter per option
    name: Annotated[str, typer.Argument(metavar="NAME", help="The collection.")],
    encoder: Annotated[
        str | None,
        typer.Option("--encoder", metavar="ENCODER", help="The new encoder, as SEMBLANCE_ENCODER names it."),
    ] = None,
    partial: Annotated[bool, typer.Option("--partial", help="Leave documents behind whose pictures are gone.")] = False,
    rollback: Annotated[bool, typer.Option("--rollback", help="Go back to the collection of before.")] = False,
    discard: Annotated[bool, typer.Option("--discard", help="Remove the collection of before.")] = False,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """Copy a collection to another encoder beside it, and let its name mean the copy; run it again to resume.

    The old collection serves and takes writes until the switch. Servers that run the old encoder go on answering from it and refuse
    writes; start them anew with SEMBLANCE_ENCODER set to the new one, and they reach the copy.

    `--rollback` goes back at once and leaves behind what was written since; `--encoder` with the old one carries that over first.
    """
    if rollback and discard:
        raise usage_error("--rollback and --discard exclude each other: go back first, then discard")
    from engine import reindex as copying

    with options.open_engine_for(data, encoder=encoder) as engine, meter(f"reindexing {name}", "documents") as bar:
        result: dict[str, object]
        if rollback:
            back = copying.rollback(engine, name)
            result, told = asdict(back), f"{name} means {back.collection} again{_left(back)}"
        elif discard:
            result = {"collection": copying.discard(engine, name)}
            told = f"removed {result['collection']}"
        else:
            done = copying.reindex(engine, name, partial=partial, progress=bar.show)
            result = asdict(done)
            told = f"{name} means {done.collection} now: {done.documents} documents, {len(done.lost)} left behind"
    if json:
        say_json(result)
    else:
        note(told)


def _left(back: "RolledBack") -> str:
    """Say what going back has left behind."""
    if back.changed == 0:
        return ""
    return f"; {back.changed or 'some'} documents that were changed since are as they were, and in {back.left} as they are"
