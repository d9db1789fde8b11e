"""Bad input: one clear message that says what to do, the exit code of the design, no traceback, nothing lost."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from auditsvc.resources import resource_dir
from tests.adapters.unprivileged import obey_file_modes, read_only
from tests.cli.in_process import command
from tests.services.line import data_in, parent_in

CLI = [sys.executable, "-m", "auditsvc"]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    """In a process of its own, which obeys file modes also where root runs the tests."""
    return subprocess.run(
        [*CLI, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"},
        stdin=subprocess.DEVNULL,
        preexec_fn=obey_file_modes,
    )


def refused(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    for word in words:
        assert word in done.stderr, done.stderr


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    base = tmp_path_factory.mktemp("models")
    return {"parent": parent_in(base / "parent"), "data": data_in(base / "data", 20)}


def audit(models, tmp_path, *, run=command, **changes):
    given = {"data": models["data"], "candidate": models["parent"], "parent": models["parent"], "policy": "standard"}
    given |= changes
    options = [part for name, value in given.items() for part in (f"--{name}", value)]
    return run("audit", "--model", "m", "--as", "sue", "--store", tmp_path / "store", *options)


def broken_copy(folder: Path, tmp_path: Path, change) -> Path:
    copy = tmp_path / "broken"
    shutil.copytree(folder, copy)
    change(copy)
    return copy


def test_a_truncated_model_is_refused(models, tmp_path):
    def truncate(folder):
        path = folder / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-100])

    bad = broken_copy(models["parent"], tmp_path, truncate)
    refused(audit(models, tmp_path, candidate=bad), 2, "model.safetensors", "copy it again")


def test_a_pickle_under_a_good_name_is_refused(models, tmp_path):
    bad = broken_copy(models["parent"], tmp_path, lambda f: (f / "model.safetensors").write_bytes(b"\x80\x04K\x01."))
    refused(audit(models, tmp_path, candidate=bad), 2, "pickle", "not opened", "safetensors")


def test_a_policy_with_a_typo_is_refused_with_its_line(models, tmp_path):
    policy = tmp_path / "mine.yaml"
    policy.write_text(
        (resource_dir("policies") / "gates" / "standard.yaml").read_text().replace("at_most: 0.01", "at_mots: 0.01")
    )
    refused(audit(models, tmp_path, policy=policy), 2, "at_mots", "line ")
    refused(command("policy", "check", policy), 2, "at_mots", "line ")


def test_an_empty_policy_is_refused(models, tmp_path):
    policy = tmp_path / "empty.yaml"
    policy.write_text("")
    refused(command("policy", "check", policy), 2, "empty")


def test_rows_that_do_not_match_the_images_are_refused(models, tmp_path):
    def lose_rows(folder):
        lines = (folder / "metadata.csv").read_text().splitlines()
        (folder / "metadata.csv").write_text("\n".join([*lines, *lines[1:]]) + "\n")

    bad = broken_copy(models["data"], tmp_path, lose_rows)
    refused(audit(models, tmp_path, data=bad), 2, "images.npz", "data set")


def test_a_folder_that_is_no_data_set_is_refused(models, tmp_path):
    refused(audit(models, tmp_path, data=tmp_path), 2, "dataset.yaml")


@pytest.mark.slow
def test_a_read_only_store_is_one_clear_line(models, tmp_path):
    (tmp_path / "store").mkdir()
    with read_only(tmp_path / "store"):
        refused(audit(models, tmp_path, run=run), 4, "store")
    assert list((tmp_path / "store").iterdir()) == []


def test_a_store_below_a_file_is_one_clear_line(models, tmp_path):
    (tmp_path / "store").write_text("I am a file")
    refused(audit(models, tmp_path), 4, "store")


def test_the_gate_without_a_store_says_what_to_do(tmp_path):
    refused(command("gate", "m", "1", cwd=tmp_path), 4, "auditsvc demo", "--store")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_full_disk_loses_nothing(models, tmp_path):
    """A limit on the size of files stands for a full disk: the write fails half-way."""
    script = f"ulimit -f 8; exec {sys.executable} -m auditsvc audit --model m --as sue --data {models['data']} "
    script += f"--candidate {models['parent']} --parent {models['parent']} --store {tmp_path / 'store'}"
    done = subprocess.run(["bash", "-c", f"trap '' XFSZ; {script}"], capture_output=True, text=True)
    assert done.returncode == 4, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    policy = tmp_path / "accuracy.yaml"
    policy.write_text(
        "policy: accuracy\nversion: 1\nwhy: a test\nseed: 1\nchecks: {accuracy: {version: 1}}\n"
        "rules: [{rule: loss, reading: accuracy/drop.clean, at_most: 0.2, why: a test}]\n"
    )
    after = audit(models, tmp_path, policy=policy)
    assert after.returncode in (0, 1, 3), after.stderr


def test_errors_are_json_where_json_was_asked_for(tmp_path):
    done = command("gate", "m", "1", "--json", cwd=tmp_path)
    assert done.returncode == 4
    assert json.loads(done.stdout)["error"]["code"] == "unavailable"


def test_a_usage_error_is_two(tmp_path):
    assert command("gate").returncode == 2
    assert command("no-such-command").returncode == 2
    refused(command("verify", tmp_path / "nowhere", "--key", "k"), 2, "folder")


def test_a_candidate_pruned_elsewhere_is_inconclusive_without_our_mark(models, tmp_path):
    done = audit(models, tmp_path)
    assert done.returncode in (1, 3), done.stdout + done.stderr
    assert "mark-found" in done.stdout and "this candidate has no watermark" in done.stderr
    asked = command("gate", "m", "2", "--store", tmp_path / "store", "--json")
    assert asked.returncode == done.returncode
    assert json.loads(asked.stdout)["answer"] in ("rejected", "inconclusive")
