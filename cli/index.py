"""`semblance index`: a catalogue into a collection."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from cli import options
from cli.failures import usage_error
from cli.output import note, repaired, say, say_json, say_table
from cli.progress import meter

if TYPE_CHECKING:
    from indexer.job import IndexRequest
    from indexer.report import JobReport

CATALOGUE = "catalogue"
COUNTS = ("created", "updated", "unchanged", "refused", "pruned")


class CatalogueFirst(TyperGroup):
    """`semblance index CATALOG`: what is no command of the group is a catalogue."""

    default = CATALOGUE

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401  the context class is private to Typer
        """Read the arguments, after the command that was left out."""
        named = bool(args) and args[0] in self.commands
        return super().parse_args(ctx, args if named else [self.default, *args])


app = typer.Typer(cls=CatalogueFirst, help="Index a catalogue into a collection: `semblance index CATALOG`; or tune the index.")


@app.command(CATALOGUE)
def index(  # noqa: PLR0913, PLR0917  one parameter per option
    catalogue: Annotated[
        Path,
        typer.Argument(
            metavar="CATALOG", help="A CSV, JSON, JSON lines, XML or Parquet file, or a folder of pictures.", show_default=False
        ),
    ],
    collection: options.Collection,
    data: options.Data = None,
    mapping: Annotated[
        list[str] | None, typer.Option("--map", metavar="PART=COLUMN", help="Name a column, for example title=productDisplayName.")
    ] = None,
    encoding: Annotated[
        str | None, typer.Option("--encoding", metavar="NAME", help="Text encoding of a CSV that is not UTF-8, such as cp1252.")
    ] = None,
    prune: Annotated[bool, typer.Option("--prune", help="Remove documents that the catalogue no longer lists.")] = False,
    retry_failed: Annotated[
        Path | None, typer.Option("--retry-failed", metavar="JOB", help="Take only the rows that an earlier job refused.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Index a catalogue into a collection; run it again to update or to resume. The word `catalogue` may be left out.

    Unchanged rows cost nothing. Rows that cannot be taken are listed in an errors.csv, the rest goes in, and the exit code is 3.
    """
    columns = columns_of(mapping or [])
    from indexer.job import IndexRequest

    request = IndexRequest(catalogue, repaired(collection), columns, encoding=encoding, prune=prune, retry_failed=retry_failed)
    report = _run(data, request, json=json)
    if not json:
        _show(report)
    if report.exit_code:
        raise typer.Exit(report.exit_code)


@app.command("tune")
def tune(
    collection: options.Collection,
    recall: Annotated[
        float, typer.Option("--recall", metavar="SHARE", help="The share of the ten best that a search must find.")
    ] = 0.99,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """Measure the index of a collection on its own titles, choose the fastest that finds enough, and record the choice.

    Titles stand for what shoppers type. A larger collection may be indexed anew, which takes minutes; searches go on meanwhile.
    """
    with options.open_engine_for(data) as engine:
        tuning = engine.collection(repaired(collection)).tune(recall)
    if json:
        say_json(asdict(tuning))
        return
    rows = [(line.kind, str(line.probes), f"{line.recall:.4f}", f"{line.p50_ms:.2f}") for line in tuning.measured]
    say_table(("kind", "probes", "recall@10", "p50 ms"), rows)
    chosen = tuning.measured[-1]
    note(f"chosen for {collection}: {chosen.kind}, {chosen.probes or 'all'} lists, recall {chosen.recall:.4f}")


def columns_of(mapping: Sequence[str]) -> dict[str, str]:
    """Read `--map` options; a usage error when one is not PART=COLUMN or names a part twice."""
    columns: dict[str, str] = {}
    for entry in map(repaired, mapping):
        part, separator, column = (piece.strip() for piece in entry.partition("="))
        if not (separator and part and column):
            raise usage_error(f"--map {entry!r}: write PART=COLUMN, for example --map title=productDisplayName")
        if part in columns:
            raise usage_error(f"--map names {part!r} twice: {columns[part]!r} and {column!r}")
        columns[part] = column
    return columns


def _run(data: Path | None, request: "IndexRequest", *, json: bool) -> "JobReport":
    from indexer.job import Progress, index_catalogue
    from indexer.report import JobFailed

    with options.open_engine_for(data) as engine, meter(f"indexing {request.collection}", "rows") as bar:

        def show(progress: Progress) -> None:
            bar.show(progress.read, progress.total, f"{progress.refused} refused" if progress.refused else "")

        try:
            report = index_catalogue(engine, request, progress=show)
        except JobFailed as error:
            if json:
                say_json(error.report.as_dict())
            raise
    if json:
        say_json(report.as_dict())
    return report


def _show(report: "JobReport") -> None:
    counts = ", ".join(f"{getattr(report, name)} {name}" for name in COUNTS if getattr(report, name) or name == "created")
    rate = report.read / report.seconds if report.seconds else 0.0
    say(f"{report.collection}: {report.read} rows in {report.seconds:.1f} s ({rate:.0f}/s): {counts}")
    for line in report.notes:
        note(line)
    if report.errors is not None:
        reasons = ", ".join(f"{count} {code}" for code, count in sorted(report.codes.items()))
        note(f"what was refused or left out, with reasons: {report.errors} ({reasons})")
