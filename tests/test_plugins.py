"""An outside package adds a check, a task, a data set reader and a runtime; a broken one stops the start."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from auditsvc.models import load_model, model_files
from tests.services.line import data_in as bright_data
from tests.services.line import parent_in

ACME = Path(__file__).with_name("acme_plugin.py")
GROUPS = {
    "auditsvc.checks": {"acme-upside": "acme:Upside"},
    "auditsvc.tasks": {"acme-grading": "acme:Grading"},
    "auditsvc.datasets": {"acme-jsonl": "acme:JsonLines"},
}
RUNTIME = {"auditsvc.runtimes": {"acme-echo": "acme:Echo"}}
POLICY = """\
policy: acme
version: 1
why: a test
task: acme-grading
seed: 7
approvals: 1
checks:
  acme-upside: {version: 3}
  runtimes: {version: 1, parameters: {runs: [acme-echo/float32]}}
rules:
  - {rule: upside, reading: acme-upside/score.upside, at_least: 0.5, min_images: 10, why: grades do not depend on it}
  - {rule: shown, reading: acme-upside/score.upside, at_most: 0.2, min_images: 10, severity: warn, why: shows the value}
  - {rule: deployed, reading: runtimes/flips.acme-echo-float32, at_most: 0.1, min_images: 10, why: it runs elsewhere}
"""


def install(site: Path, groups: dict[str, dict[str, str]], name: str = "acme", module: Path | str = ACME) -> Path:
    """An installed distribution in a folder for ``PYTHONPATH``: its module, its metadata."""
    info = site / f"{name}-1.5.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\n")
    lines = [line for group, points in groups.items()
             for line in (f"[{group}]", *(f"{key} = {value}" for key, value in points.items()))]  # fmt: skip
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    (site / f"{name}.py").write_text(module if isinstance(module, str) else module.read_text())
    return site


WARM = """\
import json, os, sys, traceback
import torch, auditsvc.bootstrap, auditsvc.services.audit, auditsvc.cli.app
from auditsvc.cli import main
for line in sys.stdin:
    site, *words = json.loads(line)
    child = os.fork()
    if not child:
        os.chdir(site)
        sys.path.insert(0, site)
        sys.argv = ["auditsvc", *words]
        for number, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:
            traceback.print_exc()
            code = 99
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
"""Runs commands in forks of one process that has imported the heavy libraries and no plug-in."""


@pytest.fixture(scope="module")
def warm() -> Iterator[subprocess.Popen[str]]:
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, "-c", WARM], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        assert process.stdin
        process.stdin.close()


@pytest.fixture
def auditsvc(warm: subprocess.Popen[str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """``auditsvc(site, *words)`` runs a command that finds the packages in the folder ``site``."""

    def run(site: Path, *words: object) -> subprocess.CompletedProcess[str]:
        assert warm.stdin and warm.stdout
        print(json.dumps([str(site), *map(str, words)]), file=warm.stdin, flush=True)
        code = int(warm.stdout.readline())
        return subprocess.CompletedProcess(words, code, (site / "out").read_text(), (site / "err").read_text())

    return run


def model_in(folder: Path, scale: float = 1.0) -> Path:
    """The small network as a model of the outside task."""
    parent = load_model(parent_in(folder))
    card = parent.card.model_copy(update={"task": "acme-grading"})
    weights = {name: weight * scale if weight.is_floating_point() else weight
               for name, weight in parent.module.state_dict().items()}  # fmt: skip
    for name, data in model_files(weights, card).items():
        (folder / name).write_bytes(data)
    return folder


def data_in(folder: Path) -> Path:
    facts = {"name": "flat", "task": "acme-grading", "classes": ["dark", "bright"]}
    rows = [{"level": 0.1 + 0.7 * (number % 2) + 0.002 * number, "label": ("dark", "bright")[number % 2],
             "side": "ab"[number % 3 > 0]}
            for number in range(60)]  # fmt: skip
    path = folder / "flat.jsonl"
    path.write_text("\n".join(map(json.dumps, [facts, *rows])))
    return path


@pytest.mark.slow
def test_an_audit_uses_an_outside_check_task_reader_and_runtime(tmp_path: Path, auditsvc) -> None:
    site = install(tmp_path / "site", GROUPS | RUNTIME)
    parent, candidate = model_in(tmp_path / "parent"), model_in(tmp_path / "candidate", 0.99)
    (tmp_path / "acme.yaml").write_text(POLICY)
    done = auditsvc(
        site, "audit", "--model", "m", "--as", "sue", "--data", data_in(tmp_path), "--policy", tmp_path / "acme.yaml",
        "--candidate", candidate, "--parent", parent, "--store", tmp_path / "store", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    decision = json.loads(done.stdout)
    assert decision["outcome"] == "approved"
    (finding,) = decision["findings"]
    assert (finding["rule"], finding["verdict"]) == ("shown", "violated")
    assert "acme-upside/score.upside" in finding["words"], finding


@pytest.mark.parametrize(
    ("groups", "module", "reason"),
    [
        ({"auditsvc.checks": {"x": "acme:Gone"}}, "", "has no attribute 'Gone'"),
        ({"auditsvc.checks": {"x": "acme:X"}}, "raise RuntimeError('no licence')", "RuntimeError: no licence"),
        ({"auditsvc.checks": {"x": "acme:X"}}, "class Own(Exception): pass\nraise Own('odd')", "Own: odd"),
        ({"auditsvc.checks": {"x": "acme:X"}}, "X = 3", "not of the kind"),
        ({"auditsvc.checks": {"other": "acme:Upside"}}, ACME, "its id is 'acme-upside'"),
        ({"auditsvc.tasks": {"x": "acme:X"}}, "import nowhere", "No module named 'nowhere'"),
        ({"auditsvc.datasets": {"x": "acme:X"}}, "X = object", "not of the kind"),
        ({"auditsvc.architectures": {"x": "acme:X"}}, "X = 3", "not of the kind"),
    ],
)
def test_a_broken_plug_in_stops_the_start_with_its_name(tmp_path, auditsvc, groups, module, reason) -> None:
    site = install(tmp_path / "site", groups, module=module)
    parent, data = parent_in(tmp_path / "parent"), bright_data(tmp_path / "data")
    done = auditsvc(site, "audit", "--model", "m", "--as", "sue", "--data", data, "--candidate", parent, "--parent",
                    parent, "--store", tmp_path / "store")  # fmt: skip
    assert done.returncode == 4, done.stdout + done.stderr
    ((name, value),) = next(iter(groups.values())).items()
    assert f"the entry point {name} = {value} of acme 1.5" in done.stderr
    assert reason in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(("command", "kind"), [("serve", "tasks"), ("worker", "runtimes")])
def test_the_service_and_workers_do_not_start_with_a_broken_plug_in(tmp_path: Path, command: str, kind: str) -> None:
    """In processes of their own: a worker starts itself again, without keys."""
    site = install(tmp_path / "site", {f"auditsvc.{kind}": {"x": "acme:X"}}, module="import nowhere")
    done = subprocess.run(
        [sys.executable, "-m", "auditsvc", command, "--store", tmp_path / "store"],
        env=os.environ | {"PYTHONPATH": str(site)}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 4, done.stdout + done.stderr
    assert "the entry point x = acme:X of acme 1.5" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("group", GROUPS)
def test_two_of_one_id_are_an_error_that_names_both(tmp_path, auditsvc, group) -> None:
    ((name, value),) = GROUPS[group].items()
    site = install(tmp_path / "site", {group: GROUPS[group]})
    install(site, {group: {name: value.replace("acme", "other")}}, "other")
    done = auditsvc(site, "audit", "--model", "m", "--data", tmp_path, "--store", tmp_path / "store")
    assert done.returncode == 4, done.stdout + done.stderr
    assert f"{name} = {value} of acme 1.5" in done.stderr and "of other 1.5" in done.stderr


def test_a_plug_in_cannot_replace_a_built_in_check(tmp_path: Path, auditsvc) -> None:
    module = "from auditsvc.checks.accuracy import Accuracy\nclass Mine(Accuracy): pass\n"
    site = install(tmp_path / "site", {"auditsvc.checks": {"accuracy": "acme:Mine"}}, module=module)
    done = auditsvc(site, "policy", "check", "standard")
    assert done.returncode == 4, done.stdout + done.stderr
    assert "auditsvc.checks.accuracy.Accuracy of auditsvc" in done.stderr and "of acme 1.5" in done.stderr


def test_the_gate_and_the_verifier_load_no_plug_ins(tmp_path: Path, auditsvc) -> None:
    site = install(tmp_path / "site", GROUPS | {"auditsvc.architectures": {"x": "acme:X"}}, module="raise OSError")
    for words in (["gate", "m", "1"], ["verify", ".", "--key", "none"], ["--help"]):
        assert "acme" not in auditsvc(site, *words).stderr


@pytest.mark.slow
def test_a_built_in_is_one_file(tmp_path: Path) -> None:
    import auditsvc

    shutil.copytree(Path(auditsvc.__file__).parent, tmp_path / "auditsvc")
    for package in ("checks", "tasks", "datasets"):
        (tmp_path / "auditsvc" / package / "acme.py").write_text(ACME.read_text())
    script = """import auditsvc.checks, auditsvc.datasets.readers, auditsvc.tasks
print("acme-upside" in auditsvc.checks.all_checks(), "acme-grading" in auditsvc.tasks.TASKS.by_id,
      "acme-jsonl" in auditsvc.datasets.readers.READERS.by_id)"""
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.split() == ["True"] * 3, done.stderr
