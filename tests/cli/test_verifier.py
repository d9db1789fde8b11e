"""The verifier alone: what it is built of is all that it imports, and in a bare environment it verifies."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "provenance" / "golden" / "0.1.0"
WORDS = [str(GOLDEN), "--key", str(GOLDEN / "release.pub"), "--json"]
PROBE = """
import sys, auditsvc
auditsvc.load_verified
import auditsvc.cli.verify, auditsvc.cli.output, auditsvc.provenance.trust.tuf_client
print(*sorted(sys.modules))
"""


def test_everything_that_verifying_imports_is_in_the_small_package() -> None:
    built = tomllib.loads((ROOT / "docker" / "verifier" / "pyproject.toml").read_text())
    parts = built["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True, cwd=ROOT)
    imported = {name.partition(".")[0] for name in done.stdout.split()}
    modules = [name.replace(".", "/") for name in done.stdout.split() if name.split(".")[0] == "auditsvc"]
    assert len(modules) > 30

    def held(name: str) -> bool:
        files = {f"{name}.py", f"{name}/__init__.py"}
        return any(part in files or name == part or name.startswith(f"{part}/") for part in parts.values())

    assert [name for name in modules if not held(name)] == []
    assert not {"pydantic_settings", "yaml", "httpx2", "numpy"} & imported, "none of these is a requirement of it"
    assert all((ROOT / "docker" / "verifier" / source).exists() for source in parts)


def test_what_verifying_needs_is_what_the_small_package_asks_for() -> None:
    small = tomllib.loads((ROOT / "docker" / "verifier" / "pyproject.toml").read_text())["project"]
    whole = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(small["dependencies"]) <= set(whole["dependencies"])
    assert set(small["scripts"].items()) <= set(whole["scripts"].items())


@pytest.mark.slow
def test_it_installs_alone_and_finds_a_release_valid_and_a_changed_one_invalid(tmp_path: Path) -> None:
    """Needs a package index, as any installation does."""
    venv.create(tmp_path / "venv", with_pip=True)
    bin_ = tmp_path / "venv" / "bin"
    install = [bin_ / "pip", "install", "--quiet", str(ROOT / "docker" / "verifier")]
    subprocess.run(install, check=True, capture_output=True)
    listed = subprocess.run([bin_ / "pip", "list", "--format", "json"], check=True, capture_output=True).stdout
    names = {item["name"].lower() for item in json.loads(listed)}
    assert "auditsvc-verify" in names
    assert not names & {"auditsvc", "torch", "mlflow", "fastapi", "sqlalchemy", "numpy", "pyyaml"}
    done = subprocess.run([bin_ / "auditsvc-verify", *WORDS], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, json.loads(done.stdout)["verdict"]) == (0, "VALID")
    code = "import auditsvc, sys; print(len(auditsvc.load_verified(sys.argv[1], trust=sys.argv[2]).files))"
    loaded = [bin_ / "python", "-c", code, str(GOLDEN), str(GOLDEN / "release.pub")]
    assert subprocess.run(loaded, cwd=tmp_path, capture_output=True, text=True, check=True).stdout == "2\n"
    wrong = [*WORDS[:2], str(GOLDEN / "trust-policy.json"), "--resource", "pkg:mlflow/other@1", "--json"]
    done = subprocess.run([bin_ / "auditsvc-verify", *wrong], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, json.loads(done.stdout)["verdict"]) == (1, "INVALID")
