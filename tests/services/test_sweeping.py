"""The sweep of whole candidates: the smallest that passes is submitted with its decision, and all is written down."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from auditsvc import pruning
from auditsvc.checks.lighting import Lighting
from auditsvc.errors import InvalidInput
from auditsvc.importing import round_trip
from auditsvc.records import CheckSpec, Decision, Rule
from auditsvc.services import candidates
from auditsvc.services.candidates import register_parent
from auditsvc.services.gate_query import query_gate
from auditsvc.services.sweep import Sweep, cheapest
from tests.services.line import FACTS, data_in, policy, ports_in

DARKER = CheckSpec(version=1, parameters=Lighting(exposure_stops=(-1,)).parameters())
RULES = (
    Rule(rule="floor", reading="accuracy/score.clean", at_least=0.8, why="a floor"),
    Rule(rule="dark", reading="lighting/drop.*", at_most=0.3, why="a margin"),
)
BOTH = policy(checks={"accuracy": CheckSpec(version=1), "lighting": DARKER}, rules=RULES)


@pytest.fixture
def search(folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sweep:
    """With the clean process left out, which has tests of its own and takes seconds for each candidate."""
    assert candidates.round_trip is round_trip
    monkeypatch.setattr(candidates, "round_trip", lambda folder, model, images: None)
    ctx = ports_in(tmp_path)
    parent, _ = register_parent(ctx, folders["parent"], FACTS)
    calibration, audited = (ctx.datasets.open(folders[name]) for name in ("calibration", "audited"))
    return Sweep(parent, calibration, audited, BOTH, ctx)


def test_the_smallest_that_passes_is_submitted_with_its_decision(search: Sweep) -> None:
    found = search.run([pruning.ladder("magnitude-global", "sparsity", (0.1, 0.3, 0.999))])
    endings = {trial.recipe.targets["sparsity"]: trial.ending for trial in found.frontier.trials}
    assert endings == {0.3: "passed", 0.999: "failed the cheap check"}
    assert found.frontier.audits == 1
    (failed,) = [trial for trial in found.frontier.trials if trial.ending != "passed"]
    assert failed.reason.startswith("floor: ") and failed.readings["accuracy"] < 0.8
    submission = search.submit(found, "1", "sue")
    assert submission is not None and submission.candidate == found.best.digest
    assert search.ctx.ledger.find(Decision, found.best.digest)[-1].outcome == "approved"
    assert search.ctx.registry.tags["brightness", submission.version]["auditsvc.trial"] == "approved"
    assert (
        query_gate(search.ctx.ledger, "brightness", submission.version).answer == "inconclusive"
    )  # nobody approved yet


@pytest.mark.slow
def test_the_frontier_is_written_as_data_and_as_a_picture(search: Sweep) -> None:
    found = search.run([pruning.ladder("magnitude-global", "sparsity", (0.1, 0.3))])
    written = json.loads((found.folder / "frontier.json").read_text())
    assert (written["parent"], written["policy"]) == (search.parent.digest, BOTH.digest)
    best = [row for row in written["trials"] if row["best"]]
    assert len(best) == 1 and best[0]["targets"] == {"sparsity": 0.3}
    assert {"accuracy", "worst_slice_loss", "latency_ms", "macs", "bytes_compressed"} <= set(best[0])
    drawn = ElementTree.fromstring((found.folder / "frontier.svg").read_bytes())
    assert {"accuracy", "worst slice loss", "latency ms", "passed"} <= set(drawn.itertext())


def test_nothing_is_submitted_if_nothing_passes(search: Sweep) -> None:
    found = search.run([pruning.ladder("magnitude-global", "sparsity", (0.999, 0.9999))])
    assert (found.best, found.decision, found.frontier.audits) == (None, None, 0)
    assert search.submit(found, "1", "sue") is None


def test_too_few_images_are_told_before_anything_is_pruned(search: Sweep, tmp_path: Path) -> None:
    search.audited = search.ctx.datasets.open(data_in(tmp_path / "few", 4))
    with pytest.raises(InvalidInput, match="can't approve anything"):
        search.run([pruning.ladder("magnitude-global", "sparsity", (0.1, 0.3))])


def test_an_unknown_goal_names_the_known_ones(search: Sweep) -> None:
    search.goal = "beauty"
    with pytest.raises(InvalidInput, match="bytes_compressed"):
        search.run([pruning.ladder("magnitude-global", "sparsity", (0.1,))])


def test_the_cheapest_check_keeps_its_own_rules_and_can_not_pass_for_the_policy() -> None:
    first = cheapest(BOTH)
    assert first is not None and first.policy != BOTH.policy and first.digest != BOTH.digest
    assert (tuple(first.checks), [rule.rule for rule in first.rules]) == (("accuracy",), ["floor"])
    assert cheapest(policy()) is None
