"""Jobs as steps: killed anywhere and begun again, they end with the same records, and nothing is done twice."""

from __future__ import annotations

from dataclasses import replace

import pytest

from auditsvc.errors import Conflict, InvalidInput, NotFound
from auditsvc.records import (
    AuditRequest,
    Candidate,
    CheckSpec,
    Decision,
    Evidence,
    Parent,
    PruneRequest,
    Release,
    ReleaseRequest,
    ReportRequest,
    Shard,
    Submission,
)
from auditsvc.services.candidates import submit
from auditsvc.services.decisions import approve
from auditsvc.services.job_handlers import JobContext, measure_shard, run_job
from auditsvc.services.measurement import Sharding, measure_candidate, plan_shards
from tests.fakes import MemoryLedger
from tests.fakes.jobs import MemoryRunner
from tests.services.line import FACTS, GOOD, bind, policy

JOB = "000000000001-0000000000000000"
RULES = policy(
    checks={
        "accuracy": CheckSpec(version=1),
        "prediction_churn": CheckSpec(version=1),
        "occlusion": CheckSpec(version=1, parameters={"fractions": [0.1, 0.2]}),
    }
)
ATTACK = CheckSpec(version=1, parameters={"budgets": [1.0], "steps": 2, "images": 40})
ATTACKED = policy(policy="attacked", checks={**RULES.checks, "adversarial": ATTACK})


class Killed(BaseException):
    """The process is gone: nothing in the code may catch it."""


class DiesIn(MemoryRunner):
    """Dies in the middle of one step, after its effects and before its result is kept."""

    doomed = ""

    def step(self, name, run_job):
        if name == self.doomed and name not in self.kept:
            run_job()
            raise Killed
        return super().step(name, run_job)


@pytest.fixture
def room(line, folders):
    ctx, _, candidate, _ = line
    ctx.ledger.append(RULES, actor="test")
    made = JobContext(ctx, folders["audited"].parent, shard_work=60)
    return made, candidate


def audit_order(candidate, rules=RULES):
    return AuditRequest(candidate=candidate.digest, policy=rules.digest, data="audited")


def everything(ctx):
    kinds = (Candidate, Submission, Evidence, Decision, Release)
    return {kind.__name__: [one.digest for one in ctx.ledger.all(kind)] for kind in kinds}


def test_an_audit_is_measured_judged_and_reported(room):
    made, candidate = room
    result = run_job(JOB, audit_order(candidate), "ann", made, MemoryRunner(made))
    decision = made.ctx.ledger.get(Decision, result["decision"])
    assert decision.outcome == result["outcome"] == "approved"
    assert set(decision.evidence) <= set(result["evidence"])
    assert [(made.ctx.folder / name).is_file() for name in result["reports"]] == [True]


@pytest.mark.parametrize(("shard_work", "shards"), [(30, 6), (10**9, 3)])
@pytest.mark.slow
def test_evidence_does_not_depend_on_the_number_of_shards(line, folders, shard_work, shards):
    ctx, _, candidate, dataset = line
    ctx.ledger.append(ATTACKED, actor="test")
    made = JobContext(ctx, folders["audited"].parent, shard_work=shard_work)
    runner = MemoryRunner(made)
    result = run_job(JOB, audit_order(candidate, ATTACKED), "ann", made, runner)
    assert [name for name in runner.ran if name.startswith("shard")] == [f"shard {number}" for number in range(shards)]
    serial = measure_candidate(_with_an_empty_ledger(ctx, candidate), candidate, ATTACKED, dataset)
    assert result["evidence"] == [one.digest for one in serial]


def test_a_policy_with_stages_is_not_shared_out(room):
    made, candidate = room
    staged = RULES.model_copy(update={"stages": (0.5, 1.0)})
    dataset = made.dataset("audited")
    assert plan_shards(made.ctx, candidate, staged, dataset, Sharding(JOB, "audited", 1)) == ()
    assert plan_shards(made.ctx, candidate, RULES, dataset, Sharding(JOB, "audited", 1)) != ()


def _with_an_empty_ledger(ctx, candidate):
    ledger = MemoryLedger(ctx.clock)
    ledger.append(ctx.ledger.get(Parent, candidate.parent), candidate, RULES, actor="test")
    return replace(ctx, ledger=ledger, log=ledger)


def _until_done(order, made, steps):
    """The result of a job that is killed once in each of these steps."""
    kept = {}
    for doomed in steps:
        runner = DiesIn(made, kept)
        runner.doomed = doomed
        with pytest.raises(Killed):
            run_job(JOB, order, "sue", made, runner)
    return run_job(JOB, order, "sue", made, MemoryRunner(made, kept))


def test_an_audit_that_is_killed_in_every_step_ends_as_one_that_is_not(room):
    made, candidate = room
    other = replace(made, ctx=_with_an_empty_ledger(made.ctx, candidate))
    submit(other.ctx, candidate, "1", "sue")
    plain = MemoryRunner(other)
    expected = run_job(JOB, audit_order(candidate), "sue", other, plain)
    assert _until_done(audit_order(candidate), made, steps=plain.ran) == expected
    assert everything(made.ctx) == everything(other.ctx)


def test_a_release_that_is_killed_is_sealed_once(room):
    made, candidate = room
    bind(made.ctx, RULES, made.dataset("audited"))
    result = run_job(JOB, audit_order(candidate), "sue", made, MemoryRunner(made))
    decision = made.ctx.ledger.get(Decision, result["decision"])
    for person in ("bob", "cyd"):
        approve(made.ctx, decision, person)
    released = _until_done(ReleaseRequest(decision=decision.digest), made, steps=["release"])
    assert [one.digest for one in made.ctx.ledger.all(Release)] == [released["release"]]


def test_a_prune_that_is_killed_submits_one_candidate(room, folders):
    made, candidate = room
    parent = candidate.parent
    order = PruneRequest(parent=parent, recipe=GOOD, calibration="calibration")
    result = _until_done(order, made, steps=["make", "submit"])
    assert result["candidate"] == candidate.digest
    assert (result["model"], len(list(made.ctx.ledger.all(Submission)))) == (FACTS["model"], 1)


def test_a_report_is_of_the_data_that_was_audited(room):
    made, candidate = room
    result = run_job(JOB, audit_order(candidate), "sue", made, MemoryRunner(made))
    again = ReportRequest(decision=result["decision"], data="audited", formats=("html", "json"))
    assert len(run_job(JOB, again, "sue", made, MemoryRunner(made))["reports"]) == 2
    with pytest.raises(InvalidInput, match="does not rest on"):
        run_job(JOB, again.model_copy(update={"data": "calibration"}), "sue", made, MemoryRunner(made))


@pytest.mark.parametrize("name", ["elsewhere", "../audited", "a/../../b"])
def test_a_data_set_is_looked_for_in_the_data_folder_only(room, name):
    made, _ = room
    if ".." in name:
        with pytest.raises(ValueError, match="data"):
            ReportRequest(decision="sha256:" + "0" * 64, data=name)
    with pytest.raises(NotFound, match="no data set"):
        made.dataset(name)


def test_a_shard_refuses_a_data_set_that_was_changed(room):
    made, candidate = room
    shard = Shard(
        job=JOB, candidate=candidate.digest, policy=RULES.digest, data="audited",
        dataset="sha256:" + "0" * 64, checks=("accuracy",), part=0, parts=1,
    )  # fmt: skip
    with pytest.raises(Conflict, match="changed while the job ran"):
        measure_shard(shard, made)
