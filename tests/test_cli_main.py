"""The command line as a whole: help, version, exit codes, and what a terminal may do to it."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from cli.failures import GuardedGroup
from cli.main import app
from engine.errors import ConfigurationError, InvalidQuery, MissingExtra

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = ["index", "search", "embed", "serve", "collections", "keys", "doctor", "train"]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cli", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )


def failing(error: BaseException) -> typer.Typer:
    """A program guarded like ours whose only command raises."""
    program = typer.Typer(cls=GuardedGroup, pretty_exceptions_enable=False)

    @program.callback()
    def root(debug: bool = False) -> None: ...

    @program.command()
    def fail() -> None:
        raise error

    return program


def test_help_names_every_command():
    done = run("--help")
    assert done.returncode == 0
    assert [command for command in COMMANDS if f" {command} " not in done.stdout] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command):
    result = CliRunner().invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert "--" in result.stdout


def test_version():
    result = CliRunner().invoke(app, ["--version"])
    assert result.exit_code == 0
    assert result.stdout.startswith("semblance ")


def test_help_answers_at_once():
    """Half a second of processor time, so that a busy machine does not decide the test."""
    code = "import resource, subprocess, sys; subprocess.run([sys.executable, '-m', 'cli', '--help'], stdout=-3, check=True); "
    code += "used = resource.getrusage(resource.RUSAGE_CHILDREN); print(used.ru_utime + used.ru_stime)"
    run("--help")
    seconds = min(float(subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True)) for _ in range(3))
    assert seconds < 0.5


def test_no_command_and_an_unknown_command_are_usage_errors():
    assert run().returncode == 2
    unknown = run("serach")
    assert unknown.returncode == 2
    assert "search" in unknown.stderr


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (InvalidQuery("k is 0: ask for 1 to 1000 hits"), "error: k is 0: ask for 1 to 1000 hits\n"),
        (ConfigurationError("unknown setting X"), "error: configuration: unknown setting X\n"),
        (MissingExtra("training", "train"), "error: training needs an optional package: pip install 'semblance[train]'\n"),
        (FileNotFoundError(2, "No such file or directory", "a.csv"), "error: No such file or directory: a.csv\n"),
        (InvalidQuery("\x1b[2J evil\nline"), "error:  [2J evil line\n"),
        (ZeroDivisionError("division by zero"), "error: unexpected ZeroDivisionError: division by zero (please report it"),
    ],
)
def test_an_error_is_one_line_and_code_1(error, line):
    result = CliRunner().invoke(failing(error), ["fail"])
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith(line)
    assert result.stderr.count("\n") == 1


def test_debug_shows_the_traceback():
    result = CliRunner().invoke(failing(InvalidQuery("no")), ["--debug", "fail"])
    assert result.exit_code == 1
    assert "Traceback" in result.stderr
    assert result.stderr.endswith("error: no\n")


def test_interruption_is_code_130():
    result = CliRunner().invoke(failing(KeyboardInterrupt()), ["fail"])
    assert result.exit_code == 130
    assert "Traceback" not in result.stderr
    assert "interrupted" in result.stderr


def test_a_misspelt_setting_is_an_error():
    done = run("collections", SEMBLANCE_DEVICES="cpu")
    assert done.returncode == 1
    assert done.stderr == "error: configuration: unknown setting SEMBLANCE_DEVICES: see `docs/settings.md`, or unset it\n"


TALKER = """
import time
from cli.main import app
from cli.output import say

@app.command()
def talk() -> None:
    time.sleep(0.1)
    for _ in range(20_000):
        say("x" * 80)

app(["talk"])
"""

WAITER = """
import time
from cli.main import app

@app.command()
def wait() -> None:
    print("ready", flush=True)
    time.sleep(30)

app(["wait"])
"""


@pytest.mark.parametrize("lines", [1, 20_000])
def test_a_reader_that_leaves_is_no_error(lines):
    """Buffered, as usual, so that the last flush of the interpreter meets the closed pipe too."""
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    code = [sys.executable, "-c", TALKER.replace("20_000", str(lines))]
    with subprocess.Popen(code, cwd=ROOT, env=buffered, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as talker:
        assert talker.stdout is not None
        assert talker.stderr is not None
        if lines > 1:
            talker.stdout.readline()
        talker.stdout.close()
        assert talker.stderr.read() == ""
    assert talker.returncode == 141


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_command_without_streams_does_its_work(tmp_path, closed):
    """As some schedulers start their jobs. What the command opens must not become its output either."""
    command = f'exec "$0" -m cli keys create cron --data "$1" {closed}'
    arguments = ["sh", "-c", command, sys.executable, str(tmp_path)]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, done.stderr if "2>&-" not in closed else "")
    assert len(list((tmp_path / "_keys").glob("*.json"))) == 1


@pytest.mark.parametrize(
    "environment",
    [{"LC_ALL": "C"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {"PYTHONIOENCODING": "latin-1"}],
)
def test_any_locale_will_do(environment):
    done = run("search", "-c", "UPPER", "椅子", SEMBLANCE_ENCODER="椅子", **environment)
    assert done.returncode == 1
    assert done.stderr.startswith("error: configuration: encoder ")
    assert run("--help", **environment).returncode == 0


def test_no_color_is_obeyed():
    coloured = run("--help", FORCE_COLOR="1", TERM="xterm-256color")
    plain = run("--help", NO_COLOR="1", FORCE_COLOR="1", TERM="xterm-256color")
    colour = re.compile(r"\x1b\[[\d;]*3\d")
    assert colour.search(coloured.stdout)
    assert not colour.search(plain.stdout)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_for_every_shell(shell):
    done = run("--show-completion", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1", _SEMBLANCE_COMPLETE=f"source_{shell}")
    assert done.returncode == 0
    assert "semblance" in done.stdout


def test_ctrl_c_ends_a_running_command_with_one_line():
    process = subprocess.Popen([sys.executable, "-c", WAITER], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=10)
    assert process.returncode == 130
    assert errors.startswith("error: interrupted")
    assert errors.count("\n") == 1
