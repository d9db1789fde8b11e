"""``policy``: exit codes and words before a policy is used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import auditsvc
from auditsvc.cli.app import app

FACES = str(Path(auditsvc.__file__).parent / "demo" / "faces")


def run(*words):
    return CliRunner().invoke(app, ["policy", *words])


@pytest.mark.slow
def test_a_plan_says_before_any_compute_that_nothing_could_be_approved():
    large, small = run("plan", "standard", "--data", FACES), run("plan", "standard", "--images", "100")
    assert (large.exit_code, small.exit_code) == (0, 3)
    assert "can't be decided: overall-loss on overall" in small.output
    assert "  too few    region=Territory" in large.output


def test_a_plan_as_json_gives_every_rule_on_every_slice():
    found = json.loads(run("plan", "standard", "--data", FACES, "--json").output)
    assert found["decidable"] is True
    assert {"rule": "overall-loss", "slice": "overall", "severity": "block", "images": 729, "min_n": 327,
            "state": "doubtful"}.items() <= next(x for x in found["plan"] if x["rule"] == "overall-loss").items()  # fmt: skip  # noqa: E501


def test_a_policy_is_compared_and_explained():
    assert (run("diff", "standard", "standard").exit_code, run("diff", "standard", "strict").exit_code) == (0, 1)
    assert "because: A floor of its own" in run("explain", "standard").output
    assert json.loads(run("schema").output)["title"] == "auditsvc policy"


@pytest.mark.parametrize("words", [("plan", "standard"), ("plan", "standard", "--data", FACES, "--images", "3"),
                                   ("explain",), ("explain", "--model", "m")])  # fmt: skip
def test_half_a_question_is_refused(words):
    assert run(*words).exception.exit_code == 2
