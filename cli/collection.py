"""`semblance collections`: what is in the data folder; snapshots, aliases, and how to be rid of things."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli import options
from cli.output import note, say_json, say_table
from cli.progress import Meter, meter

if TYPE_CHECKING:
    from engine.search import SearchEngine

app = typer.Typer(help="List collections; snapshots, aliases, removal.", invoke_without_command=True)


@app.callback()
def list_collections(context: typer.Context, data: options.Data = None, json: options.Json = False) -> None:
    """List the collections of a data folder with the number of documents in each."""
    if context.invoked_subcommand is not None:
        return
    with options.open_engine_for(data) as engine:
        aliases = {name: alias.collection for name, alias in engine.library.aliases.all().items()}
        found = [_counted(engine, name) | {"alias_of": aliases.get(name)} for name in engine.collections()]
    if json:
        say_json({"collections": found})
    elif found:
        columns = ("name", "documents", "alias of")
        say_table(columns, [(str(f["name"]), str(f["error"] or f["documents"]), str(f["alias_of"] or "")) for f in found])
    else:
        note("no collection yet: semblance index CATALOG --collection NAME")


def _counted(engine: "SearchEngine", name: str) -> dict[str, object]:
    from engine.errors import SemblanceError

    try:
        return {"name": name, "documents": len(engine.collection(name)), "error": None}
    except SemblanceError as error:
        return {"name": name, "documents": None, "error": str(error)}


@app.command("drop")
def drop(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The collection to remove.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    data: options.Data = None,
) -> None:
    """Remove a collection with everything in it."""
    with options.open_engine_for(data) as engine:
        count = len(engine.collection(name))
        if not yes:
            typer.confirm(f"Remove {name!r} and its {count} documents for good?", abort=True, err=True)
        engine.drop(name)
    note(f"removed {name}: {count} documents")


@app.command("delete")
def delete(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The collection.")],
    where: Annotated[str, typer.Option("--where", metavar="EXPR", help='Which documents: a filter, such as "stock = 0".')],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """Delete the documents of a collection that a filter admits."""
    with options.open_engine_for(data) as engine:
        collection = engine.collection(name)
        if not yes:
            typer.confirm(f"Delete {collection.count(where)} of {len(collection)} documents of {name!r}?", abort=True, err=True)
        deleted = collection.delete_where(where)
    if json:
        say_json({"deleted": deleted})
    else:
        note(f"deleted {deleted} documents of {name}")


@app.command("export")
def export(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The collection.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The snapshot to write; it must not exist.")],
    data: options.Data = None,
) -> None:
    """Write a collection, as it is at one moment, to one file. Writers go on meanwhile."""
    with options.open_engine_for(data) as engine, meter(f"exporting {name}", "MB") as bar:
        engine.library.snapshot(name, file, told=_megabytes(bar))
    note(f"wrote {file}: {file.stat().st_size / 1e6:.1f} MB")


@app.command("restore")
def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A snapshot that `export` wrote.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="The new collection.")],
    data: options.Data = None,
) -> None:
    """Make a new collection of a snapshot."""
    with options.open_engine_for(data) as engine, meter(f"restoring {name}", "MB") as bar:
        made, encoder = engine.library.restore(file, name, told=_megabytes(bar)), engine.encoder
    note(f"restored {name}: {made.documents} documents")
    if made.fingerprint != encoder.fingerprint:
        note(f"it is by the encoder {made.encoder}, not by {encoder.name}: start with that one, or run semblance reindex {name}")


def _megabytes(bar: Meter) -> Callable[[int, int], None]:
    return lambda done, total: bar.show(done // 10**6, total // 10**6)


@app.command("alias")
def alias(
    name: Annotated[str, typer.Argument(metavar="ALIAS", help="The name that searches use.")],
    collection: Annotated[str, typer.Argument(metavar="COLLECTION", help="The collection it means from now on.")],
    data: options.Data = None,
) -> None:
    """Let a name mean a collection, from one moment to the next, for every process."""
    with options.open_engine_for(data) as engine:
        engine.library.alias(name, collection)
    note(f"{name} means {collection}")


@app.command("unalias")
def unalias(
    name: Annotated[str, typer.Argument(metavar="ALIAS", help="The name to forget.")],
    data: options.Data = None,
) -> None:
    """Forget an alias; its collection stays."""
    with options.open_engine_for(data) as engine:
        engine.library.unalias(name)
    note(f"{name} means nothing any more")
