"""The two commands, as a new user types them: what they say when something is in the way, and the demo itself.

The virtual environment is a stand-in that runs the tests' own interpreter, so nothing is installed.
"""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def make(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "SEMBLANCE_"))}
    return subprocess.run(
        ["make", "--no-print-directory", *arguments],
        cwd=ROOT,
        env={**clean, **environment},
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    folder = tmp_path / "venv"
    (folder / "bin").mkdir(parents=True)
    python = folder / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n', encoding="utf-8")
    python.chmod(0o755)
    (folder / ".installed").write_text(f"{ROOT}\n", encoding="utf-8")
    return folder


def test_make_alone_lists_every_target():
    targets = re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    listed = make().stdout
    assert {"demo", "test", "check", "bench", "soak", "docs", "screenshots", "clean", "help"} == set(targets)
    assert [target for target in targets if f"make {target} " not in listed] == []


@pytest.mark.parametrize("target", ["demo", "test", "check", "bench", "soak", "docs", "screenshots", "clean"])
def test_every_target_is_well_formed(target, tmp_path):
    done = make("-n", target, f"VENV={tmp_path / 'a'}", f"DEV_VENV={tmp_path / 'b'}")
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_old_python_is_named(tmp_path):
    old = tmp_path / "python3.9"
    old.write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    old.chmod(0o755)
    done = make("demo", f"PYTHON={old}", f"VENV={tmp_path / 'venv'}")
    assert done.returncode != 0
    assert f"needs Python 3.11 or newer, and {old} is not" in done.stderr
    assert "make demo PYTHON=python3.12" in done.stderr
    assert not (tmp_path / "venv").exists()


def test_a_taken_port_is_named_before_any_work(venv, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = make("demo", f"VENV={venv}", f"PORT={port}", f"DATA={tmp_path / 'data'}")
    assert done.returncode != 0
    assert f"Port {port} is taken" in done.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("spoil", ["moved", "broken"])
def test_a_stale_environment_is_made_anew(venv, spoil):
    if spoil == "moved":
        (venv / ".installed").write_text("/somewhere/else\n", encoding="utf-8")
    else:
        (venv / "bin/python").write_text("#!/nowhere/python\n", encoding="utf-8")
    planned = make("-n", "demo", "SERVE=0", f"VENV={venv}").stdout
    assert "pip install" in planned
    (venv / "bin/python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n', encoding="utf-8")
    (venv / ".installed").write_text(f"{ROOT}\n", encoding="utf-8")
    assert "pip install" not in make("-n", "demo", "SERVE=0", f"VENV={venv}").stdout


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_demo_indexes_and_prints_three_hits_of_each_search(venv, tmp_path):
    done = make("demo", "SERVE=0", f"VENV={venv}", f"DATA={tmp_path / 'data'}")
    assert done.returncode == 0, done.stderr
    assert "shop: 54 rows in " in done.stdout
    assert "emoji: 1855 rows in " in done.stdout
    hits = [line.split("\t") for line in done.stdout.splitlines() if re.match(r"[01]\.\d+\t", line)]
    assert len(hits) == 6
    assert any("camera" in hit[1] for hit in hits[:3])
    assert hits[3][1] == "road-bike"
    again = make("demo", "SERVE=0", f"VENV={venv}", f"DATA={tmp_path / 'data'}")
    assert "54 unchanged" in again.stdout
    assert "1855 unchanged" in again.stdout


def test_continuous_integration_runs_the_tests():
    script = (ROOT / ".ci/run").read_text(encoding="utf-8")
    assert subprocess.run(["bash", "-n", ROOT / ".ci/run"], check=False).returncode == 0
    assert "set -euo pipefail" in script
    assert script.rstrip().endswith("exec make test </dev/null")
