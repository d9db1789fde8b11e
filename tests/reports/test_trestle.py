"""compliance-trestle, the reference tool for OSCAL, takes the bundle in and finds nothing wrong with it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from auditsvc.compliance.render.tables import render_oscal
from tests.compliance import sample

pytestmark = pytest.mark.slow
pytest.importorskip("trestle", reason="compliance-trestle is not installed")


def trestle(folder: Path, *words: str) -> str:
    command = [sys.executable, "-m", "trestle", *words]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)
    return "" if ran.returncode == 0 else ran.stdout + ran.stderr


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    folder = tmp_path / "trestle"
    folder.mkdir()
    assert trestle(folder, "init", "--local") == ""
    return folder


def test_the_bundle_is_taken_in_and_validated(workspace: Path) -> None:
    for name, data in render_oscal(sample.report()).items():
        (workspace.parent / name).write_bytes(data)
        title = name.removesuffix(".json").replace(".", "-")
        assert trestle(workspace, "import", "-f", str(workspace.parent / name), "-o", title) == "", name
    assert trestle(workspace, "validate", "-a") == ""


def test_a_bundle_with_two_equal_identifiers_is_refused(workspace: Path) -> None:
    name, data = next((name, data) for name, data in render_oscal(sample.report()).items() if "assessment" in name)
    parts = data.split(b'"uuid":"')
    twice = b'"uuid":"'.join([*parts[:2], parts[1][:36] + parts[2][36:], *parts[3:]])
    (workspace.parent / name).write_bytes(twice)
    assert "did not pass" in trestle(workspace, "import", "-f", str(workspace.parent / name), "-o", "twice")
