"""`semblance collections`: what is in the data folder, and how to be rid of it."""

from typing import Annotated

import typer

from cli import options
from cli.output import note, say_json, say_table

app = typer.Typer(help="List collections, or drop one.", invoke_without_command=True)


@app.callback()
def list_collections(context: typer.Context, data: options.Data = None, json: options.Json = False) -> None:
    """List the collections of a data folder with the number of documents in each."""
    if context.invoked_subcommand is not None:
        return
    settings = options.settings_for(data)
    from engine import open_engine

    with open_engine(settings) as engine:
        counts = {name: len(engine.collection(name)) for name in engine.collections()}
    if json:
        say_json({"collections": [{"name": name, "documents": count} for name, count in counts.items()]})
    elif counts:
        say_table(("name", "documents"), [(name, str(count)) for name, count in counts.items()])
    else:
        note("no collection yet: semblance index CATALOG --collection NAME")


@app.command("drop")
def drop(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The collection to remove.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    data: options.Data = None,
) -> None:
    """Remove a collection with everything in it."""
    settings = options.settings_for(data)
    from engine import open_engine

    with open_engine(settings) as engine:
        count = len(engine.collection(name))
        if not yes:
            typer.confirm(f"Remove {name!r} and its {count} documents for good?", abort=True, err=True)
        engine.drop(name)
    note(f"removed {name}: {count} documents")
