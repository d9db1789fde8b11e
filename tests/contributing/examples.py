"""The worked examples of CONTRIBUTING.md, read from its text and run in a copy of the checkout.

An example is a section whose heading begins with "Add a".  A block ``python path/to/file.py`` is a new file, a block
``diff`` changes files, and each line ``$ command`` of a ``console`` block is run; the lines below it must be in what
it prints.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = ROOT / ".github" / "CONTRIBUTING.md"

_BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COUNTED = ("auditsvc/", "policies/")


@dataclass
class Example:
    """What a section adds, changes and runs."""

    files: dict[str, str] = field(default_factory=dict)
    diffs: list[str] = field(default_factory=list)
    commands: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    """Each with the lines that it must print."""


def examples() -> dict[str, Example]:
    """Every worked example by what it adds: ``check``, ``job_kind``, ..."""
    found: dict[str, Example] = {}
    for heading, body in re.findall(r"^## Add an? (.+?)\n(.*?)(?=^## |\Z)", TEXT.read_text(), re.MULTILINE | re.DOTALL):
        example = found[heading.strip().lower().replace(" ", "_")] = Example()
        for language, path, text in _BLOCK.findall(body):
            if language == "diff":
                example.diffs.append(text)
            elif language == "console":
                for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
                    command, *lines = part.splitlines()
                    example.commands.append((command, tuple(line.strip() for line in lines if line.strip())))
            elif path:
                example.files[path] = text
    return found


def touched(example: Example) -> set[str]:
    """The files of the package and its policies that the example adds or changes; tests do not count."""
    changed = {path for diff in example.diffs for path in re.findall(r"^\+\+\+ b/(\S+)$", diff, re.MULTILINE)}
    return {path for path in changed | set(example.files) if path.startswith(COUNTED)}


@contextmanager
def _copy() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="auditsvc-example-") as scratch:
        folder = Path(scratch) / "checkout"
        for name in ("auditsvc", "policies", "reports/templates"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        yield folder


@contextmanager
def applied(example: Example) -> Iterator[Path]:
    """A copy of the checkout with what the example adds and changes.

    Raises:
        AssertionError: a diff does not apply.
    """
    with _copy() as folder:
        for path, text in example.files.items():
            target = folder / path
            assert not target.exists(), f"{path} exists already: show the change as a diff"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
        for diff in example.diffs:
            done = subprocess.run(["git", "apply", "-"], input=diff, text=True, cwd=folder, capture_output=True)
            assert done.returncode == 0, done.stderr
        yield folder


def in_copy(example: Example) -> set[str]:
    """Apply the example to a copy, run its commands there, and name the files that it touched.

    Raises:
        AssertionError: a diff does not apply, or a command does not print what the text says.
    """
    with applied(example) as folder:
        assert example.commands, "an example that runs nothing shows nothing"
        for command, lines in example.commands:
            shown = _run(command, folder)
            for line in lines:
                assert line in shown, f"{command} did not print {line!r}:\n{shown}"
        return touched(example)


def _run(command: str, folder: Path) -> str:
    environment = os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    command = re.sub(r"^python\b", sys.executable, command)
    command = re.sub(r"^auditsvc\b", f"{sys.executable} -m auditsvc", command)
    done = subprocess.run(["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True)
    return done.stdout + done.stderr
