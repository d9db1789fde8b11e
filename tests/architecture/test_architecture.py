"""The shape of the house, as tests: one-way imports, light fast paths, small files, one place that catches all."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import auditsvc
from auditsvc.checks import all_checks
from tests.architecture import structure

ROOT = Path(auditsvc.__file__).parent
SOURCES = sorted(path for path in ROOT.rglob("*.py") if "shipped" not in path.parts)
FORBIDDEN_NAMES = {"utils", "util", "helpers", "common", "core", "manager", "service", "misc"}
HEAVY = (
    "torch",
    "mlflow",
    "dbos",
    "art",
    "fairlearn",
    "sklearn",
    "pandas",
    "scipy",
    "fastapi",
    "alembic",
    "matplotlib",
)

LONGEST_FILE, LONGEST_FUNCTION = 500, 50


def passes_on(handler: ast.ExceptHandler) -> bool:
    """Whether a handler only cleans up and raises what it caught again."""
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


def test_imports_go_one_way():
    """The contracts of pyproject.toml, checked by import-linter."""
    linter = Path(sys.executable).parent / "lint-imports"
    checkout = ROOT.parent / "pyproject.toml"
    if not checkout.exists():
        pytest.skip("the contracts lie in the checkout, not in the installed package")
    done = subprocess.run([linter, "--no-cache"], cwd=ROOT.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]


def test_everything_is_caught_in_one_place_only():
    catching = [
        path.relative_to(ROOT).as_posix()
        for path in SOURCES
        for node in ast.walk(structure.tree_of(path))
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or (isinstance(node.type, ast.Name) and node.type.id in {"Exception", "BaseException"}))
        and not passes_on(node)
    ]
    assert catching == ["services/measurement.py"]


def test_no_module_is_named_after_nothing():
    assert [path for path in SOURCES if path.stem in FORBIDDEN_NAMES] == []


def test_files_and_functions_stay_small():
    sizes = {name: len(path.read_text().splitlines()) for name, path in structure.sources().items()}
    long_files = {name for name, lines in sizes.items() if lines > LONGEST_FILE}
    long_functions = {name for name, lines in structure.functions().items() if lines > LONGEST_FUNCTION}
    assert (long_files, long_functions) == (set(), set())


def test_no_import_goes_in_a_circle():
    assert structure.cycles() == []


def test_ports_are_opened_in_one_place():
    assert set(structure.composition_roots()) == {"auditsvc.bootstrap"}


def test_one_name_is_one_thing():
    assert structure.duplicate_basenames() == {}


def test_no_assert_validates_anything():
    asserting = [path for path in SOURCES for node in ast.walk(structure.tree_of(path)) if isinstance(node, ast.Assert)]
    assert asserting == []


def test_nothing_unpickles_or_executes_what_it_is_given():
    found = set()
    for path in SOURCES:
        for node in ast.walk(structure.tree_of(path)):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                if called in {"eval", "exec", "torch.load", "pickle.load", "pickle.loads", "os.system"} or (
                    called == "yaml.load" and "Safe" not in path.read_text()
                ):
                    found.add((path.name, called))
    assert found == {("read_untrusted.py", "torch.load")}
    text = next(path for path in SOURCES if path.name == "read_untrusted.py").read_text()
    assert text.count("weights_only=True") == 1  # in the clean process, tensors only


@pytest.mark.parametrize("check", all_checks().values(), ids=lambda check: check.id)
def test_every_check_says_what_it_does_and_where_it_comes_from(check):
    module = sys.modules[check.__module__]
    assert module.__doc__ and check.__doc__ and check.measure.__doc__
    assert (module.__doc__.split("\n")[0].rstrip()[-1]) in ".?!"


@pytest.mark.parametrize(
    "arguments", [["gate", "no-model", "1"], ["verify", ".", "--key", "no-key"], ["--help"], ["policy", "--help"]]
)
def test_fast_paths_import_nothing_heavy(arguments, tmp_path):
    script = (
        "import sys\nfrom auditsvc.cli import main\n"
        f"sys.argv = ['auditsvc', *{arguments!r}]\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"print('HEAVY', sorted(set(sys.modules) & set({HEAVY!r})))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert "HEAVY []" in done.stdout, done.stdout + done.stderr
