"""The demo as a new user runs it: from an empty folder to a verified release, and again."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys

import pytest
from PIL import Image, ImageEnhance

from auditsvc.demo.case_data import HERE
from tests.bench.demo import SHORT, kill_demo, outcome, run_demo

CLI = [sys.executable, "-m", "auditsvc"]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    store = tmp_path_factory.mktemp("faces") / "store"
    done = subprocess.run([*CLI, "demo", "--store", store], capture_output=True, text=True, env=None)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return store, done.stdout


def gate(store, version):
    done = subprocess.run(
        [*CLI, "gate", "face-gender", version, "--store", store, "--json"], capture_output=True, text=True
    )
    return done.returncode, json.loads(done.stdout)


def test_the_good_one_is_released_and_the_one_cut_too_far_is_rejected(faces):
    """The middle one is near the limit, and which side it falls on depends on the key of its mark."""
    store, _ = faces
    assert gate(store, "2")[0] == 0
    assert gate(store, "3")[0] in (1, 3)
    code, answer = gate(store, "4")
    assert (code, answer["answer"]) == (1, "rejected")


def test_a_rejection_names_slice_condition_numbers_and_interval(faces):
    reasons = gate(faces[0], "4")[1]["reasons"]
    named = [reason for reason in reasons if reason.startswith("slice-loss") and "gender=F" in reason]
    assert len(named) == 1
    assert re.search(r"drop\.clean on gender=F: \+\d+\.\d points \(\+\d+\.\d to \+\d+\.\d; 128 images\)", named[0]), (
        named
    )
    assert any("gender=F" in reason and "occlusion.square@0.1" in reason for reason in reasons)


def test_what_is_shown_is_what_was_found(faces):
    _, text = faces
    for words in (
        "approved",
        "rejected",
        "runtimes/flips.onnxruntime-float32: 0",
        "ownership.html",
        "VALID",
        "INVALID",
        "DIGEST_MISMATCH",
        "Territory",
        "auditsvc serve",
    ):
        assert words in text


def test_a_second_run_measures_nothing_again(faces):
    store, _ = faces
    before = outcome(store)
    done = subprocess.run([*CLI, "demo", "--store", store], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    found = done.stdout.count("found in the ledger, not measured again")
    assert found == 4, "three candidates, and the files of the one that ships"
    assert outcome(store) == before


def test_a_release_in_use_is_looked_at_with_darker_pictures(faces, tmp_path):
    store, _ = faces
    source = HERE / "faces"
    shutil.copytree(source, tmp_path / "dusk")
    for path in (tmp_path / "dusk" / "images").rglob("*.jpg"):
        with Image.open(path) as image:
            darker = ImageEnhance.Brightness(image.convert("RGB")).enhance(0.15)
        darker.save(path, quality=95)
    command = [*CLI, "monitor", "face-gender", "--data", tmp_path / "dusk", "--as", "mia"]
    done = subprocess.run([*command, "--store", store, "--json"], capture_output=True, text=True)
    look = json.loads(done.stdout)
    assert (done.returncode, look["outcome"], look["files"], look["gate"]) == (1, "worse", "VALID", "approved")
    assert any(one["worse"] for one in look["changes"])
    assert gate(store, "2")[0] == 0
    told = subprocess.run([*command, "--store", store], capture_output=True, text=True)
    assert "worse than its audit" in told.stdout and "went from" in told.stdout
    refused = subprocess.run([*CLI, "monitor", "none", "--data", source, "--as", "mia", "--store", store],
                             capture_output=True, text=True)  # fmt: skip
    assert refused.returncode == 2 and "no version of none is in use" in refused.stderr


def test_a_killed_demo_ends_like_an_unharmed_one(tmp_path):
    reference, killed = tmp_path / "reference", tmp_path / "killed"
    wall = run_demo(reference, "digits", SHORT)
    shutil.copytree(reference / "keys", killed / "keys")
    kill_demo(killed, "digits", 0.4 * wall, SHORT)
    run_demo(killed, "digits", SHORT)
    assert outcome(killed) == outcome(reference)
