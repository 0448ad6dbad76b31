"""Run the suites that pass arrays about once more with every signature of the engine checked at run time."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SUITES = ["test_engine_search.py", "test_engine_queries.py", "test_engine_ranking.py", "test_engine_results.py"]


def run(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    return subprocess.run(arguments, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240, check=False)


@pytest.mark.slow
def test_every_shape_in_a_signature_is_true():
    suites = [str(ROOT / "tests" / name) for name in SUITES]
    options = ["-q", "-p", "no:cacheprovider", "--jaxtyping-packages=engine,shapes.proved"]
    done = run([sys.executable, "-m", "pytest", *options, *suites])
    assert done.returncode == 0, done.stdout[-3000:]


def test_a_wrong_shape_is_caught_by_that_check():
    code = (
        "import numpy as np\n"
        "from jaxtyping import install_import_hook\n"
        "with install_import_hook('engine', 'shapes.proved'):\n"
        "    from engine.ranking import fuse\n"
        "fuse(np.zeros(3, np.float32), np.zeros(4, np.float32), np.ones(2, np.float32))\n"
    )
    done = run([sys.executable, "-c", code])
    assert "TypeCheckError" in done.stderr
