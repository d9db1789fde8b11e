"""The structure of the package, read from its syntax trees: modules, imports, circles, sizes."""

from __future__ import annotations

import ast
from collections import Counter, defaultdict
from functools import cache
from pathlib import Path

import auditsvc

ROOT = Path(auditsvc.__file__).parent

SAME_THING = frozenset(
    {
        "app", "audit", "backup", "candidates", "decision", "decisions", "device", "energy", "gate", "incidents",
        "jobs", "keys", "model", "monitoring", "observations", "ownership", "policies", "policy", "release", "releases",
        "statements", "terms", "trust", "verify", "watermark",
    }
)  # fmt: skip
"""Things that several layers have a file for: the record, the use case, the routes, the commands."""

PYTHON_S_OWN = frozenset({"__init__", "__main__"})


@cache
def sources() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        if "shipped" not in path.parts:
            found[".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__")] = path
    return found


@cache
def trees() -> dict[str, ast.Module]:
    """The syntax tree of every module."""
    return {name: ast.parse(path.read_text()) for name, path in sources().items()}


@cache
def _by_path() -> dict[Path, ast.Module]:
    return {path: trees()[name] for name, path in sources().items()}


def tree_of(path: Path) -> ast.Module:
    """The syntax tree of one file of the package, parsed once for all tests."""
    return _by_path()[path]


@cache
def imports() -> dict[str, frozenset[str]]:
    """What each module imports of the package, wherever in it: in functions and for types alone too.

    The package's own face (``auditsvc.load_verified``) is imported when it is asked for, and left out.
    """
    found: dict[str, set[str]] = defaultdict(set)
    for name, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "auditsvc":
                for alias in node.names:
                    whole = f"{node.module}.{alias.name}"
                    found[name].add(whole if whole in sources() else node.module)
            elif isinstance(node, ast.Import):
                found[name] |= {alias.name for alias in node.names if alias.name.split(".")[0] == "auditsvc"}
    found["auditsvc"] = set()
    return {name: frozenset(found[name]) for name in sources()}


def cycles() -> list[tuple[str, ...]]:
    """The strongly connected parts of more than one module (Tarjan 1972, doi:10.1137/0201010)."""
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: list[tuple[str, ...]] = []

    def visit(module: str) -> None:
        number[module] = lowest[module] = len(number)
        stack.append(module)
        for other in imports()[module]:
            if other not in sources():
                continue
            if other not in number:
                visit(other)
                lowest[module] = min(lowest[module], lowest[other])
            elif other in stack:
                lowest[module] = min(lowest[module], number[other])
        if lowest[module] == number[module]:
            at = stack.index(module)
            if len(stack) - at > 1:
                found.append(tuple(stack[at:]))
            del stack[at:]

    for module in sources():
        if module not in number:
            visit(module)
    return found


def single_importers() -> list[str]:
    """Modules that exactly one other module imports."""
    importers = Counter(other for name, others in imports().items() for other in others if other != name)
    return sorted(name for name in sources() if importers[name] == 1)


def duplicate_basenames() -> dict[str, list[str]]:
    """File names that occur in more than one package for different things, with the packages."""
    places: dict[str, list[str]] = defaultdict(list)
    for path in sources().values():
        if path.stem not in SAME_THING | PYTHON_S_OWN | {"migrations"}:
            places[path.stem].append(path.parent.relative_to(ROOT).as_posix())
    return {name: where for name, where in sorted(places.items()) if len(where) > 1}


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """The lines of a function below its signature and docstring."""
    first = function.body[1] if ast.get_docstring(function) and len(function.body) > 1 else function.body[0]
    return (function.end_lineno or 0) - first.lineno + 1


def functions() -> dict[str, int]:
    """The length of every function, by module and name; migrations are lists of columns and left out."""
    return {
        f"{name}:{node.name}": body_lines(node)
        for name, tree in trees().items()
        if not name.endswith(".migrations")
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def composition_roots() -> list[str]:
    """The modules that construct a ``Context``."""
    return sorted(
        name
        for name, tree in trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Context"
    )
