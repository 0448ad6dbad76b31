"""Writes the reference pages of this folder from the code: settings.md, errors.md, cli.md, http-api.md.

`make docs` runs it; a test fails when a page differs from what this would write. What people write by hand is in the other pages.
"""

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

FOLDER = Path(__file__).resolve().parent
sys.path[:0] = [str(FOLDER.parent), str(FOLDER)]

from confidence_page import confidence_page  # noqa: E402
from http_api import http_api_page  # noqa: E402

from api.errors import STATUSES  # noqa: E402
from cli.main import app  # noqa: E402
from engine import errors  # noqa: E402
from engine.config import PREFIX, Settings  # noqa: E402
from indexer.report import CODES  # noqa: E402

WRITTEN = "<!-- Written by `make docs`: change the code, not this page. -->"


def pages() -> dict[str, str]:
    """Render every generated page by file name."""
    return {
        "settings.md": settings_page(),
        "errors.md": errors_page(),
        "cli.md": cli_page(),
        "http-api.md": http_api_page(WRITTEN),
        "confidence.md": confidence_page(WRITTEN),
    }


def settings_page() -> str:
    """Render the settings as one table."""
    rows = [
        f"| `{PREFIX}{name.upper()}` | {_default(field.default)} | {field.description} |"
        for name, field in Settings.model_fields.items()
    ]
    return _page(
        "Settings",
        "Semblance reads its settings from environment variables, once, when a process starts. An unknown `SEMBLANCE_*` variable"
        " is an error, so a misspelt one is found at once. Options of a command win over the environment; from Python, pass"
        " `open_engine(load_settings(data=..., threads=...))`.",
        "| variable | default | meaning |\n| --- | --- | --- |\n" + "\n".join(rows),
        "`SEMBLANCE_REDIS_URL` may hold a password; it prints as stars wherever settings are shown.",
    )


def errors_page() -> str:
    """Render the exception tree with the HTTP status of each class."""
    rows = [
        f"| {'&nbsp;' * 4 * depth}`{kind.__name__}` | {_sentence(kind)} | {STATUSES[kind]} |"
        for depth, kind in _tree(errors.SemblanceError)
    ]
    return _page(
        "Errors",
        "Everything Semblance raises on purpose is a `SemblanceError`. A message states the fact, the value seen and the remedy."
        " On the command line it is one line on stderr and exit code 1; over HTTP it is `application/problem+json` with the status"
        " below, where a 5xx answer carries a request id to look up in the log instead of the message.",
        "| exception (`engine.errors`) | meaning | HTTP |\n| --- | --- | --- |\n" + "\n".join(rows),
        "`InvalidFilter.column` points at the place in the expression, counted from 1. `InvalidImage.reason` is one of `missing`,"
        " `empty`, `not_an_image`, `truncated`, `too_many_pixels`, `too_large`, `unsupported`, `synthetic`, `explicit`; both also"
        " stand in the HTTP answer."
        " `MissingExtra.extra` names the extra to install.",
        "## Rows that were refused",
        "The column `code` of an indexing job's `errors.csv` is one of:",
        "| code | meaning |\n| --- | --- |\n" + "\n".join(f"| `{code}` | {meaning} |" for code, meaning in CODES.items()),
    )


def cli_page() -> str:
    """Render every command with its arguments and options."""
    command = typer.main.get_command(app)
    return _page(
        "Command line",
        "Answers go to stdout, progress and remarks to stderr. With `--json`, stdout holds one JSON document. Where stdout is"
        " no terminal, tables are tab-separated lines; where stderr is none, progress bars are an occasional line.",
        "Exit codes: 0 done; 1 failed, with one line that says why; 2 used wrongly; 3 `index` refused some rows and took the rest;"
        " 130 interrupted.",
        "`semblance --install-completion` teaches bash, zsh, fish and PowerShell to complete commands and options."
        " `python -m cli` is the same program.",
        *_commands(command, "semblance"),
    )


def _commands(command: Any, path: str) -> Iterator[str]:  # noqa: ANN401  the command classes are private to Typer
    default = getattr(command, "default", None)  # the command of a group that goes without its name
    shown = command.commands[default] if default else command
    yield f"## `{path}`\n\n{inspect.cleandoc(shown.help or '')}"
    rows = [_parameter(p) for p in sorted(shown.params, key=lambda p: p.param_type_name) if not getattr(p, "hidden", False)]
    if rows:
        yield "| argument or option | meaning |\n| --- | --- |\n" + "\n".join(rows)
    for name, child in getattr(command, "commands", {}).items():
        if name == default:
            continue
        yield from _commands(child, f"{path} {name}")


def _parameter(parameter: Any) -> str:  # noqa: ANN401
    names = [*parameter.opts, *parameter.secondary_opts] if parameter.param_type_name == "option" else []
    metavar = parameter.metavar or ("" if names else parameter.name.upper())
    help_text = " ".join((parameter.help or "").split())
    shown = parameter.default not in (None, False, (), []) and "default:" not in help_text
    default = f" (default: {parameter.default})" if shown else ""
    required = " Required." if parameter.required else ""
    spelling = f"{', '.join(names)}{' ' if names and metavar else ''}{metavar}"
    return f"| `{_cell(spelling)}` | {_cell(help_text + default + required)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _tree(kind: type[Exception], depth: int = 0) -> Iterator[tuple[int, type[Exception]]]:
    yield depth, kind
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from _tree(child, depth + 1)


def _sentence(kind: type[Exception]) -> str:
    return " ".join(inspect.cleandoc(kind.__doc__ or "").split("\n\n")[0].split())


def _default(value: object) -> str:
    if value is None or value in ("", ()):
        return "none"
    return f"`{value}`"


def _page(title: str, *parts: str) -> str:
    return "\n\n".join([f"# {title}", WRITTEN, *parts]) + "\n"


if __name__ == "__main__":
    for file_name, text in pages().items():
        (FOLDER / file_name).write_text(text, encoding="utf-8")
        print(f"wrote docs/{file_name}")  # noqa: T201
