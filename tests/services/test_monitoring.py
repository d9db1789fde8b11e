"""A look at a release in use tells what fell, and moves nothing."""

from __future__ import annotations

import dataclasses
import datetime
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditsvc.compliance.assessment.evidence_status import evidence_status
from auditsvc.errors import InvalidInput
from auditsvc.records import (
    Candidate,
    CheckSpec,
    Decision,
    Evidence,
    Measured,
    Monitoring,
    MonitorRequest,
    Reading,
    Rule,
    Submission,
)
from auditsvc.services.gate_query import query_gate
from auditsvc.services.job_handlers import JobContext, run_job
from auditsvc.services.monitoring import changes_since, monitor, one_pass_policy
from auditsvc.services.registry import ALIAS
from auditsvc.services.release import release_folder, revoke
from auditsvc.services.reporting import write_report
from tests.compliance import sample
from tests.fakes.jobs import MemoryRunner
from tests.services.line import data_in, policy
from tests.services.test_line import released
from tests.web import sample as world


@pytest.fixture
def in_use(line):
    return line[0], released(line), line[3]


def newer(ctx, folder, images=120, seed=5, swap=False):
    """Images from the field; swapped, their classes are the other way round, so that every answer is wrong."""
    made = data_in(folder, images=images, seed=seed)
    if swap:
        table = (made / "metadata.csv").read_text()
        table = table.replace("dark", "x").replace("bright", "dark").replace("x", "bright")
        (made / "metadata.csv").write_text(table)
    return ctx.datasets.open(made)


def test_a_release_that_does_as_well_on_newer_images_is_steady(in_use, tmp_path):
    ctx, release, _ = in_use
    found = monitor(ctx, release, "mia", newer(ctx, tmp_path / "new"))
    assert (found.outcome, found.reasons, found.files, found.gate) == ("steady", (), "VALID", "approved")
    assert {one.rule for one in found.judgements} == {"floor", "loss"}
    assert {one.slice for one in found.changes} == {"overall", "camera=a", "camera=b"}
    assert ctx.ledger.find(Monitoring, release.digest) == (found,)
    assert monitor(ctx, release, "mia", newer(ctx, tmp_path / "same")) == found


def test_one_that_fails_on_newer_images_is_worse_and_nothing_is_moved(in_use, tmp_path):
    ctx, release, _ = in_use
    decisions = list(ctx.ledger.all(Decision))
    found = monitor(ctx, release, "mia", newer(ctx, tmp_path / "new", swap=True))
    assert found.outcome == "worse"
    assert any(reason.startswith("floor: ") for reason in found.reasons)
    fell = next(one for one in found.changes if (one.metric, one.slice) == ("accuracy/score.clean", "overall"))
    assert fell.worse and fell.difference.high < 0 and any("went from" in reason for reason in found.reasons)
    parent = next(one for one in found.changes if (one.metric, one.slice) == ("accuracy/parent.clean", "overall"))
    assert not parent.worse and parent.difference.high < 0
    assert list(ctx.ledger.all(Decision)) == decisions
    assert query_gate(ctx.ledger, release.model, release.version).answer == "approved"
    assert ctx.registry.aliased(release.model, ALIAS) == release.version


def test_too_few_images_decide_nothing(in_use, tmp_path):
    ctx, release, _ = in_use
    found = monitor(ctx, release, "mia", newer(ctx, tmp_path / "new", images=6))
    assert found.outcome == "unknown" and found.reasons


def test_changed_files_and_a_revocation_are_told(in_use, tmp_path):
    ctx, release, _ = in_use
    (submission,) = ctx.ledger.find(Submission, release.candidate)
    weights = release_folder(ctx, submission) / "release" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.chmod(0o644)
    weights.write_bytes(bytes(data))
    revoke(ctx, release, "wrong data", "ann", "bob")
    found = monitor(ctx, release, "mia", newer(ctx, tmp_path / "new"))
    assert found.outcome == "worse"
    assert found.reasons[:2] == ("the signed files are INVALID", "the gate's answer is revoked")


def test_the_images_of_the_audit_are_not_newer_and_nothing_to_look_at_is_refused(in_use):
    ctx, release, dataset = in_use
    with pytest.raises(InvalidInput, match="give newer images"):
        monitor(ctx, release, "mia", dataset)
    with pytest.raises(InvalidInput, match="is not watched"):
        monitor(ctx, release, "mia")


def test_only_what_takes_one_pass_is_asked_again():
    floor = Rule(rule="floor", reading="accuracy/score.clean", at_least=0.5, why="a floor")
    dark = Rule(rule="dark", reading="lighting/score.dark@0.5", at_least=0.5, why="a floor")
    both = {"accuracy": CheckSpec(version=1), "lighting": CheckSpec(version=1)}
    part = one_pass_policy(policy(checks=both, rules=(floor, dark), datasets=("sha256:" + "0" * 64,)))
    assert (set(part.checks), part.rules, part.datasets) == ({"accuracy"}, (floor,), ())
    with pytest.raises(InvalidInput, match="audit the candidate again"):
        one_pass_policy(policy(checks={"lighting": CheckSpec(version=1)}, rules=(dark,)))


def test_a_job_does_the_same(in_use, tmp_path):
    ctx, release, _ = in_use
    data_in(tmp_path / "field" / "november", images=120, seed=5)
    room = JobContext(ctx, tmp_path / "field")
    order = MonitorRequest(release=release.digest, data="november")
    results = [run_job("000000000001-0000000000000000", order, "mia", room, MemoryRunner(room)) for _ in range(2)]
    assert results[0] == results[1] and results[0]["outcome"] == "steady"
    assert ctx.ledger.get(Monitoring, results[0]["monitoring"]).person == "mia"


def test_a_report_tells_who_looked_and_what_was_found(in_use, tmp_path):
    ctx, release, _ = in_use
    looks = {
        name: monitor(ctx, release, "mia", newer(ctx, tmp_path / name, swap=name == "worse"))
        for name in ("steady", "worse")
    }

    def states(**found):
        paper = sample.paperwork(sample.released())
        about = {"candidate": paper.inputs.candidate.digest, "at": paper.at}
        known = tuple(one.model_copy(update=about) for one in found.values())
        context = dataclasses.replace(paper, monitorings=known)
        return [evidence_status(kind, context).status for kind in ("ops.monitoring", "ops.drift")]

    assert states() == ["missing", "missing"]
    assert states(one=looks["steady"]) == ["supported", "supported"]
    assert states(one=looks["worse"]) == ["supported", "contradicted"]
    later = looks["steady"].at + datetime.timedelta(days=93)
    paper = sample.paperwork(sample.released(), at=later)
    stale = looks["steady"].model_copy(update={"candidate": paper.inputs.candidate.digest})
    context = dataclasses.replace(paper, monitorings=(stale,))
    assert {evidence_status(kind, context).status for kind in ("ops.monitoring", "ops.drift")} == {"stale"}


def test_a_report_that_is_written_after_a_look_is_dated_by_it_and_tells_of_it(in_use, tmp_path):
    ctx, release, dataset = in_use
    candidate, decision = ctx.ledger.get(Candidate, release.candidate), ctx.ledger.get(Decision, release.decision)
    (before,) = write_report(ctx, candidate, decision, dataset, formats=("json",))
    first = before.read_bytes()
    ctx.clock.forward(days=3)
    look = monitor(ctx, release, "mia", newer(ctx, tmp_path / "new"))
    (after,) = write_report(ctx, candidate, decision, dataset, formats=("json",))
    assert look.digest.encode() not in first
    assert look.digest.encode() in after.read_bytes()
    assert look.at.strftime("%Y-%m-%dT%H:%M:%SZ").encode() in after.read_bytes()


def evidence_with(level: float, reach: float) -> Evidence:
    outcome = Measured(value=level, low=level - reach, high=level + reach, images=100)
    made = world.evidence(1)
    readings = tuple(Reading(metric=f"{kind}.clean", slice="overall", outcome=outcome) for kind in ("score", "drop"))
    return made.model_copy(update={"readings": readings})


@given(st.floats(-0.5, 0.5), st.floats(-0.5, 0.5), st.floats(0.001, 0.2), st.floats(0.001, 0.2))
def test_a_fall_is_told_exactly_where_the_interval_excludes_none(then, now, one, other):
    score, drop = changes_since((evidence_with(then, one),), (evidence_with(now, other),), alpha=0.05)
    reach = math.hypot(one, other)
    assert score.difference.value == pytest.approx(now - then)
    assert score.difference.high == pytest.approx(now - then + reach)
    assert score.worse == (score.adjusted_p <= 0.05) and drop.worse == (drop.adjusted_p <= 0.05)
    if score.worse:
        assert score.difference.high <= 1e-9
    if drop.worse:
        assert drop.difference.low >= -1e-9
    assert not (score.worse and drop.worse)
