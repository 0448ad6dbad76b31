"""What gets installed: the extras that were promised, and a wheel that holds everything serving needs."""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PACKAGES = ("engine", "indexer", "api", "cli")
HEAVY = ("torch", "transformers", "open_clip", "timm", "faiss")


def test_the_base_install_is_light():
    assert [line for line in PROJECT["dependencies"] if line.startswith(HEAVY)] == []


@pytest.mark.parametrize(
    ("extra", "needed"),
    [
        ("cpu", {"faiss-cpu"}),
        ("gpu", {"faiss-gpu", "torch"}),
        ("models", {"torch", "open_clip_torch", "transformers"}),
        ("train", {"semblance[models]"}),
        ("dev", {"pytest", "ruff", "mypy"}),
    ],
)
def test_extras(extra, needed):
    assert needed <= {line.split(">=")[0] for line in PROJECT["optional-dependencies"][extra]}


def test_no_extra_brings_both_faiss_packages():
    for lines in PROJECT["optional-dependencies"].values():
        assert not {"faiss-cpu", "faiss-gpu"} <= {line.split(">=")[0] for line in lines}


def test_every_requirement_has_a_least_version():
    extras = (line for lines in PROJECT["optional-dependencies"].values() for line in lines)
    assert [line for line in (*PROJECT["dependencies"], *extras) if ">=" not in line and not line.startswith("semblance[")] == []


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--disable-pip-version-check",
        "--wheel-dir",
        folder,
        ROOT,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return zipfile.ZipFile(next(folder.glob("semblance-*.whl")))


def test_the_wheel_holds_what_serving_needs(wheel):
    names = set(wheel.namelist())
    sources = (path for package in PACKAGES for path in (ROOT / package).rglob("*") if path.is_file())
    wanted = {path.relative_to(ROOT).as_posix() for path in sources if "__pycache__" not in path.parts}
    assert wanted - names == set()
    assert {"engine/bundles/default/bundle.json", "api/static/index.html", "engine/py.typed"} <= names
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_wheel_holds_nothing_else(wheel):
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.startswith("semblance-")} == set(PACKAGES)


def test_the_wheel_installs_the_command(wheel):
    entry = next(name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    assert "semblance = cli.main:main" in wheel.read(entry).decode()
