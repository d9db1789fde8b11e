"""``auditsvc-client``: everything that the client imports is in the small distribution, and in a bare environment it
asks the gate of a running service."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest

from auditsvc.web.state import ProjectState
from tests.client.test_client import clock, remembered, site, url

__all__ = ["clock", "remembered", "site", "url"]

ROOT = Path(__file__).parents[2]
SMALL = ROOT / "docker" / "client"
HEAVY = {"torch", "mlflow", "fastapi", "starlette", "sqlalchemy", "numpy", "scipy", "yaml", "typer", "uvicorn"}
MODULES = "import sys, auditsvc.client, auditsvc.records; print(*sorted(sys.modules))"
GATE = """
import sys
from auditsvc.client import AsyncClient, Client
from auditsvc.records import Decision
client = Client(sys.argv[1])
answer = client.require("net", "1")
decision = client.get_record(Decision, answer.decision)
print(answer.answer, client.gate("net", "3").exit_code, decision.digest == answer.decision)
"""


def python(executable: str | Path, code: str, *arguments: str, cwd: Path = ROOT) -> str:
    done = subprocess.run([executable, "-c", code, *arguments], capture_output=True, text=True, check=True, cwd=cwd)
    return done.stdout


def test_importing_the_client_imports_nothing_heavy_and_nothing_outside_the_distribution() -> None:
    modules = python(sys.executable, MODULES).split()
    assert HEAVY & {name.partition(".")[0] for name in modules} == set()
    built = tomllib.loads((SMALL / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    parts = built["force-include"]

    def included(name: str) -> bool:
        path = name.replace(".", "/")
        return any(f in (path, f"{path}.py", f"{path}/__init__.py") or path.startswith(f"{f}/") for f in parts.values())

    assert [name for name in modules if name.split(".")[0] == "auditsvc" and not included(name)] == []
    assert all((SMALL / source).exists() for source in parts)


def test_a_gate_question_needs_no_records() -> None:
    """Their validators take longer to build than the question takes to answer."""
    loaded = python(sys.executable, "import sys; from auditsvc.client import Client; Client(); print(*sys.modules)")
    assert not {"auditsvc.records", "asyncio.base_events"} & set(loaded.split())


def test_its_requirements_are_those_of_the_product() -> None:
    small = tomllib.loads((SMALL / "pyproject.toml").read_text())["project"]
    whole = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(small["dependencies"]) <= set(whole["dependencies"])


@pytest.mark.slow
def test_it_installs_alone_and_asks_the_gate_of_a_running_service(url: str, site: ProjectState, tmp_path: Path) -> None:
    """Needs a package index, as any installation does."""
    venv.create(tmp_path / "venv", with_pip=True)
    bin_ = tmp_path / "venv" / "bin"
    subprocess.run([bin_ / "pip", "install", "--quiet", str(SMALL)], check=True, capture_output=True)
    listed = json.loads(subprocess.check_output([bin_ / "pip", "list", "--format", "json"]))
    names = {item["name"].lower() for item in listed}
    assert "auditsvc-client" in names
    assert not names & (HEAVY | {"auditsvc", "pyyaml"})
    assert python(bin_ / "python", GATE, url, cwd=tmp_path) == "approved 1 True\n"
