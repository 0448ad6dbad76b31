"""How a command ends when something goes wrong: one line on stderr and an exit code, never a traceback.

Exit codes: 0 done, 1 failed, 2 used wrongly, 3 rows were refused (`index`, `generate`), 130 interrupted, 141 the reader of our
output left.
"""

import os
import sys
import traceback
from typing import Any

import typer
from typer.core import TyperGroup

from cli.output import clean, complain

FAILED, MISUSED, ROWS_REFUSED, INTERRUPTED, READER_LEFT = 1, 2, 3, 130, 141


class GuardedGroup(TyperGroup):
    """The top-level group: turns every exception of a command into a line and an exit code."""

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401  the context class is private to Typer
        """Run the chosen command."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except (typer.Exit, typer.Abort, typer.TyperException):
            raise
        except BrokenPipeError:
            _forget_output()
            raise typer.Exit(READER_LEFT) from None
        except KeyboardInterrupt:
            complain("interrupted: what was committed is kept, run the same command again to go on")
            raise typer.Exit(INTERRUPTED) from None
        except Exception as error:
            if ctx.params.get("debug"):
                traceback.print_exc(file=sys.stderr)
            complain(_in_one_line(error))
            raise typer.Exit(FAILED) from None
        return result


def usage_error(message: str) -> typer.BadParameter:
    """Build the error that shows how the command is used and exits with code 2."""
    return typer.BadParameter(message)


def _in_one_line(error: Exception) -> str:
    from engine.errors import ConfigurationError, SemblanceError

    if isinstance(error, ConfigurationError):
        return f"configuration: {clean(str(error))}"
    if isinstance(error, SemblanceError):
        notes = "; ".join(getattr(error, "__notes__", ()))
        return clean(f"{error} ({notes})" if notes else str(error))
    if isinstance(error, OSError) and error.strerror:
        place = f": {error.filename}" if error.filename else ""
        return clean(f"{error.strerror}{place}")
    return clean(f"unexpected {type(error).__name__}: {error} (please report it; `semblance --debug ...` shows where it happened)")


def _forget_output() -> None:
    """Point stdout at nothing, so that the interpreter's last flush does not complain about the closed pipe."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
