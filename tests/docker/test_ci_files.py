"""The files for GitHub, GitLab and Jenkins hold the same script, and that script does what its exit codes say."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest
import yaml

import auditsvc
from auditsvc.records import Revocation
from auditsvc.web.state import ProjectState
from tests.fakes import NOON
from tests.web import sample
from tests.web.conftest import clock, remembered, site, url

__all__ = ["clock", "remembered", "site", "url"]

CI = Path(auditsvc.__file__).parent.parent / "docker" / "ci"
if not CI.is_dir():
    pytest.skip("the files lie in the checkout, not in the installed package", allow_module_level=True)


def _github() -> str:
    steps = yaml.safe_load((CI / "github-actions.yml").read_text())["jobs"]["gate"]["steps"]
    return str(steps[0]["run"])


def _gitlab() -> str:
    return str(yaml.safe_load((CI / "gitlab-ci.yml").read_text())["release-gate"]["script"][0])


def _jenkins() -> str:
    text = (CI / "Jenkinsfile").read_text()
    before, script, after = text.split("'''")
    around = before + after
    assert around.count("{") == around.count("}")
    return script.replace("\\\\", "\\").strip("\n")


SCRIPTS = {"github": _github, "gitlab": _gitlab, "jenkins": _jenkins}


def _code(script: str, url: str, token: str, version: str, policy: str = "") -> int:
    given = {"AUDITSVC_URL": url, "AUDITSVC_TOKEN": token, "MODEL": "net", "VERSION": version, "POLICY": policy}
    script = script.replace("--retry 3", "--retry 0")
    run = subprocess.run(
        ["sh", "-c", script], env={"PATH": os.environ["PATH"], **given}, capture_output=True, text=True, timeout=60
    )
    assert token not in run.stdout + run.stderr
    return run.returncode


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_file_holds_the_script(name: str) -> None:
    lines = (CI / "gate.sh").read_text().splitlines()
    body = "\n".join(line for line in lines if not line.startswith("#")).strip("\n")
    assert SCRIPTS[name]().strip("\n") == body


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl here")
@pytest.mark.parametrize("name", SCRIPTS)
def test_the_pipeline_goes_on_only_if_the_version_may_be_used(name: str, url: str, site: ProjectState) -> None:
    script = SCRIPTS[name]()
    token, _ = site.access.issue("pipeline", "reader", 1)
    assert [_code(script, url, token, version) for version in ("1", "2", "3")] == [0, 3, 1]
    assert _code(script, url, token, "1", "standard") == 0
    assert _code(script, url, token, "1", "strict") == 3
    assert _code(script, url, token, "99") == 4
    assert _code(script, url, "auditsvc_wrong", "1") == 4
    assert _code(script, "http://127.0.0.1:9", token, "1") == 4
    assert _code(script, url, token, "1&version=3") == 4
    recall = Revocation(
        release=sample.released().digest, reason="a flaw", requested_by="ann", confirmed_by="bob", at=NOON
    )
    site.ledger.append(recall, actor="bob")
    assert _code(script, url, token, "1") == 5


def test_the_github_workflow_takes_nothing_from_its_inputs_into_a_shell() -> None:
    assert not re.search(r"\$\{\{", _github())
    assert yaml.safe_load((CI / "github-actions.yml").read_text())["permissions"] == {}


def test_zizmor_finds_nothing_in_the_workflows() -> None:
    tool = Path(sysconfig.get_path("scripts"), "zizmor")
    if not tool.exists():
        pytest.skip("zizmor is not installed")
    workflows = [CI / "github-actions.yml", CI.parents[1] / ".github" / "workflows"]
    done = subprocess.run([tool, "--offline", "--no-progress", *workflows], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
