"""The command `semblance`: puts the commands together.

Here belongs what concerns all commands: their order in `--help`, `--version`, `--debug`. Each command has its own module and
imports the engine only when it runs, so that `--help` answers at once.
"""

import logging
import sys
from importlib import metadata
from typing import Annotated

import typer

from cli import collection, doctor, embed, evaluate, generate, index, keys, mcp, reindex, report, search, serve, tower, train
from cli.failures import GuardedGroup
from cli.output import prepare_streams

app = typer.Typer(
    name="semblance",
    cls=GuardedGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def version() -> str:
    """Name the installed version, or say that this is a source tree that nobody installed."""
    try:
        return metadata.version("semblance")
    except metadata.PackageNotFoundError:
        return "0+source"


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"semblance {version()}")
        raise typer.Exit


@app.callback()
def root(
    debug: Annotated[bool, typer.Option("--debug", help="Show log lines and the traceback of an error.")] = False,
    _version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """Say it or show it: index a catalogue and search it by words and by pictures.

    Every setting can also come from an environment variable `SEMBLANCE_*`; see docs/settings.md.
    """
    prepare_streams()
    if debug:
        logging.basicConfig(level=logging.DEBUG, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)


app.add_typer(index.app, name="index")
app.command("search")(search.search)
app.command("recommend")(search.recommend)
app.command("embed")(embed.embed)
app.command("generate")(generate.generate)
app.command("serve")(serve.serve)
app.command("mcp")(mcp.mcp)
app.add_typer(collection.app, name="collections")
app.command("reindex")(reindex.reindex)
app.add_typer(keys.app, name="keys")
app.command("doctor")(doctor.doctor)
app.command("train")(train.train)
app.command("train-tower")(tower.train_tower)
app.command("evaluate")(evaluate.evaluate)
app.add_typer(report.app, name="report")


def main() -> None:
    """Run the command line."""
    app(prog_name="semblance")
