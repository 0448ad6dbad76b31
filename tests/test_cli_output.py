"""What reaches the terminal: no escapes from a feed, plain lines in a pipe, JSON for any encoding."""

import io
import json
import re
import sys

import pytest

from cli import progress
from cli.output import clean, prepare_streams, repaired, say_json, say_table


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_control_characters_become_spaces():
    assert clean("red\x1b[31m\n\tmug\u2028\x07 椅子") == "red [31m  mug   椅子"


def test_an_argument_from_a_non_utf8_shell_is_read_as_utf8(monkeypatch):
    monkeypatch.setattr(sys, "getfilesystemencoding", lambda: "ascii")
    assert repaired("椅子".encode().decode("ascii", "surrogateescape")) == "椅子"
    assert repaired("plain 椅子") == "plain 椅子"


def test_a_table_in_a_pipe_is_tab_separated(capsys):
    say_table(("a", "b"), [("1", "x\ty"), ("2", "[bold]z[/bold]")])
    assert capsys.readouterr().out == "1\tx y\n2\t[bold]z[/bold]\n"


def test_a_table_on_a_terminal_shows_markup_as_text(monkeypatch):
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    say_table(("a", "b"), [("1", "[bold]z[/bold] \x1b[2J")])
    assert "[bold]z[/bold]" in screen.getvalue()
    assert "\x1b[2J" not in screen.getvalue()


@pytest.mark.parametrize(("encoding", "written"), [("utf-8", '"椅"'), ("ascii", '"\\u6905"'), ("latin-1", '"\\u6905"')])
def test_json_suits_the_encoding_of_the_stream(monkeypatch, encoding, written):
    buffer = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(buffer, encoding=encoding))
    say_json({"title": "椅"})
    sys.stdout.flush()
    assert written in buffer.getvalue().decode(encoding)
    assert json.loads(buffer.getvalue().decode(encoding)) == {"title": "椅"}


def test_a_stream_that_lacks_a_character_escapes_it(monkeypatch):
    buffer = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(buffer, encoding="ascii"))
    prepare_streams()
    say_table(("title",), [("椅",)])
    sys.stdout.flush()
    assert buffer.getvalue() == b"\\u6905\n"


def test_progress_in_a_pipe_is_an_occasional_line(monkeypatch, capsys):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with progress.meter("indexing", "rows") as meter:
        for done in range(1, 121):
            now[0] += 0.1
            meter.show(done, 240)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert re.fullmatch(r"indexing: 5\d of 240 rows, 10\.0/s, 0:00:19 left", lines[0])
    assert re.fullmatch(r"indexing: 10\d of 240 rows, 10\.0/s, 0:00:14 left", lines[1])


def test_progress_on_a_terminal_is_a_bar_with_rate_and_time_left(monkeypatch):
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with progress.meter("indexing", "rows") as meter:
        meter.show(10, 100)
        meter.show(50, 100, "2 refused")
        meter._progress.refresh()
    drawn = screen.getvalue()
    for part in ("indexing", "50/100", "rows/s", "━", "2 refused"):
        assert part in drawn
