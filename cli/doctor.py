"""`semblance doctor`: says what is installed, what works, what is missing and how to get it."""

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.text import Text

from cli import options
from cli.failures import FAILED
from cli.output import clean, say_json

if TYPE_CHECKING:
    from cli.findings import Finding

MARKS = {"fine": ("ok", "green"), "lacking": ("--", "yellow"), "failed": ("!!", "bold red")}
PURPOSES = {
    "cpu": "the index, on processors",
    "dev": "to change Semblance and run its tests",
    "gpu": "the index and models on CUDA, in place of cpu",
    "lab": "fuller evaluations",
    "mcp": "searches for language models",
    "models": "encoders and decoders of the hub",
    "safety": "a check of what is drawn",
    "tracing": "traces over OpenTelemetry",
    "train": "to train models of your own",
    "voice": "searching by speech",
}


def doctor(data: options.Data = None, json: options.Json = False) -> None:
    """Say what is installed, which device is used, what is missing and how to get it.

    The exit code is 1 if something is broken, 0 if only optional things are missing.
    """
    found = examine(data)
    healthy = all(finding.status != "failed" for finding in found)
    if json:
        say_json({"healthy": healthy, "findings": [asdict(finding) for finding in found]})
    else:
        _show(found, healthy=healthy)
    if not healthy:
        raise typer.Exit(FAILED)


def examine(data: "options.Data") -> "list[Finding]":
    """Look at everything; later things only when the earlier ones that they need are there."""
    from cli import findings

    settings = options.settings_for(data)
    found = [*findings.machine(), *findings.packages(), *findings.index_library()]
    about_encoder, encoder = findings.encoder(settings)
    found += [*about_encoder, *findings.cache(settings), *findings.data_folder(settings)]
    if encoder is not None:
        found += findings.collections(settings, encoder)
    return found


def _show(found: "list[Finding]", *, healthy: bool) -> None:
    console = Console(highlight=False, soft_wrap=True)
    lacking = {f.name.removeprefix("extra "): f for f in found if f.name.startswith("extra ") and f.status == "lacking"}
    shown = [finding for finding in found if finding not in lacking.values()]
    width = max(len(finding.name) for finding in shown)
    for finding in shown:
        mark, style = MARKS[finding.status]
        console.print(Text(mark, style=style), Text(f"{finding.name:<{width}}"), Text(clean(finding.detail)))
        if finding.remedy:
            console.print(Text(f"{'':{width + 3}} -> {finding.remedy}", style="dim"))
    console.print("all is well" if healthy else "something is broken: see the lines marked !!")
    if lacking:
        console.print("\nfor more, not needed for indexing and searching:")
        _show_extras(console, {name: finding.remedy or "" for name, finding in lacking.items()})


def _show_extras(console: Console, remedies: dict[str, str]) -> None:
    purposes = {name: PURPOSES.get(name, "") for name in remedies}
    widths = max(map(len, remedies)), max(map(len, purposes.values()))
    for name, remedy in remedies.items():
        console.print(Text(f"   {name:<{widths[0]}}  {purposes[name]:<{widths[1]}}"), Text(f" {remedy}", style="dim"))
