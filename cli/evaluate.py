"""`semblance evaluate`: how well a collection answers, against baselines, earlier runs and a gate; and its confidence, refitted."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import options
from cli.failures import FAILED
from cli.output import complain, note, say_json, say_table
from cli.progress import meter

if TYPE_CHECKING:
    from engine.evaluation.comparison import Comparison
    from engine.evaluation.run import Evaluation


def evaluate(  # noqa: PLR0913, PLR0917  one parameter per option
    collection: options.Collection,
    pairs: Annotated[
        Path | None,
        typer.Option("--pairs", metavar="FILE", help="Questions with their right answers: CSV, JSON lines or Parquet."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write FILE.json and the report FILE.html beside it.")
    ] = None,
    against: Annotated[
        Path | None, typer.Option("--against", metavar="RUN.json", help="Compare with an earlier run, question by question.")
    ] = None,
    gate: Annotated[
        Path | None, typer.Option("--gate", metavar="RUN.json", help="Exit with 1 when a figure fell by more than its noise.")
    ] = None,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Fit the confidence to this collection and keep it there, instead of evaluating.")
    ] = False,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """Ask a collection questions whose answers are known: a file of pairs, or its own titles, pictures and attributes.

    Needs the extra `lab`. The same collection and seed ask the same questions, so runs of two models or two settings compare.
    """
    with options.open_engine_for(data) as engine, meter("evaluating", "questions") as bar:
        if calibrate:
            from engine.evaluation.calibration import calibrate_collection

            figures = calibrate_collection(engine, collection)
            _say_calibrated(collection, figures, json=json)
            return
        from engine.evaluation.questions import read_questions
        from engine.evaluation.run import evaluate as run_questions

        questions = None if pairs is None else read_questions(pairs)
        run = run_questions(engine, collection, questions, progress=bar.show)
    comparison = None if against is None else _compared(run, against)
    if output is not None:
        _write(run, comparison, output)
    if json:
        say_json(run.as_dict() | ({} if comparison is None else {"comparison": comparison.as_dict()}))
    else:
        _show(run, comparison)
    if gate is not None:
        _hold(run, gate)


def _compared(run: "Evaluation", against: Path) -> "Comparison":
    from engine.evaluation.comparison import compare_runs, read_run

    return compare_runs(read_run(against), run)


def _write(run: "Evaluation", comparison: "Comparison | None", output: Path) -> None:
    from engine.evaluation.page import write_page

    plain, page = output.with_suffix(".json"), output.with_suffix(".html")
    plain.parent.mkdir(parents=True, exist_ok=True)
    run.save(plain)
    write_page(page, run, comparison)
    note(f"wrote {plain} and {page}")


def _show(run: "Evaluation", comparison: "Comparison | None") -> None:
    from engine.evaluation.figures import NAMES

    rows = []
    for name, direction in run.directions.items():
        lines = {name: direction.figures}
        lines |= {f"  {label}": figures for label, figures in (*direction.baselines.items(), *direction.parts.items())}
        for label, figures in lines.items():
            rows.append((label, *(f"{figures[n].value:.3g} ({figures[n].low:.3g} to {figures[n].high:.3g})" for n in NAMES)))
    say_table(("", *NAMES), rows)
    for name, differences in (comparison.directions if comparison is not None else {}).items():
        for figure, d in differences.items():
            say_table(
                (), [(f"{name}: {figure}", f"{d.value:+.3g}", f"{d.low:+.3g} to {d.high:+.3g}", f"{d.wins} won, {d.losses} lost")]
            )


def _hold(run: "Evaluation", baseline: Path) -> None:
    from engine.evaluation.comparison import gate, read_run

    fallen = gate(read_run(baseline), run)
    for line in fallen:
        complain(line)
    if fallen:
        raise typer.Exit(FAILED)
    note(f"no figure fell below {baseline} by more than its noise")


def _say_calibrated(collection: str, figures: dict[str, Any], *, json: bool) -> None:
    if json:
        say_json(figures)
        return
    for name, found in figures.items():
        if "held" in found:
            held = found["held"]
            note(
                f"{collection}, {name}: calibration error {found['ece']:.3f}; of the answered {held['risk']:.1%} are wrong "
                f"(stated {held['stated']:.0%}), {held['coverage']:.0%} are answered"
            )
