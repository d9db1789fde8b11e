"""There is one audit: whoever starts it, the same candidate, policy and data give the same records."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest
from typer.testing import CliRunner

import auditsvc
from auditsvc import pruning
from auditsvc.cli import audit
from auditsvc.cli.app import app
from auditsvc.demo import run
from auditsvc.errors import InvalidInput
from auditsvc.records import AuditRequest, CheckFailed, Decision, Rule, Slicing, Submission
from auditsvc.records.evidence import DiscoveredSlices, Exemplars
from auditsvc.services import audit as auditing
from auditsvc.services.audit import audit_candidate
from auditsvc.services.job_handlers import JobContext, run_job
from auditsvc.services.sweep import Sweep
from tests.fakes.jobs import MemoryRunner
from tests.services.line import FACTS, policy
from tests.services.test_exemplifying import another_seed

OWN_SLICES = policy(
    slicing=Slicing(classes=True),
    rules=(
        Rule(rule="floor", reading="accuracy/score.clean", at_least=0.8, why="a floor"),
        Rule(rule="dark", reading="accuracy/drop.clean", slices="class=dark", at_most=0.5, why="a class of its own"),
    ),
)
"""Its second rule is about a slice that the policy itself makes."""

JOB = "000000000001-0000000000000000"
RUNNER = CliRunner()


def by_function(line, folders, monkeypatch):
    ctx, _, candidate, dataset = line
    done = audit_candidate(ctx, candidate, OWN_SLICES, dataset)
    assert done.decision == ctx.ledger.find(Decision, candidate.digest)[-1]
    assert [path.is_file() for path in done.reports] == [True]


def by_command(line, folders, monkeypatch):
    ctx, _, candidate, _ = line
    monkeypatch.setattr(audit, "context_for", lambda store, **_: ctx)
    version = ctx.ledger.find(Submission, candidate.digest)[0].version
    words = ["--model", FACTS["model"], "--version", version, "--policy", OWN_SLICES.digest]
    done = RUNNER.invoke(app, ["audit", "--data", str(folders["audited"]), *words, "--json"])
    assert done.exit_code == 0, (done.output, done.exception)


def by_job(line, folders, monkeypatch):
    ctx, _, candidate, _ = line
    context = JobContext(ctx, folders["audited"].parent, shard_work=30)
    request = AuditRequest(candidate=candidate.digest, policy=OWN_SLICES.digest, data="audited")
    runner = MemoryRunner(context)
    result = run_job(JOB, request, "ann", context, runner)
    assert any(name.startswith("shard") for name in runner.ran)
    assert ctx.ledger.get(DiscoveredSlices, result["slices"]) and ctx.ledger.get(Exemplars, result["exemplars"])


def by_sweep(line, folders, monkeypatch):
    ctx, parent, candidate, dataset = line
    calibration = ctx.datasets.open(folders["calibration"])
    found = Sweep(parent, calibration, dataset, OWN_SLICES, ctx).run(
        [pruning.ladder("magnitude-global", "sparsity", (0.1,))]
    )
    assert found.best == candidate


def test_every_entry_point_gives_the_same_decision_slices_and_exemplars(lines, folders, monkeypatch):
    seen = {}
    for enter in (by_function, by_command, by_job, by_sweep):
        ctx, parent, candidate, dataset = lines(enter.__name__)
        ctx.ledger.append(OWN_SLICES, actor="test")
        another_seed(ctx, candidate, 3)
        enter((ctx, parent, candidate, dataset), folders, monkeypatch)
        kinds = (Decision, DiscoveredSlices, Exemplars)
        seen[enter.__name__] = {kind.__name__: [one.digest for one in ctx.ledger.all(kind)] for kind in kinds}
    first = seen["by_function"]
    assert {name: len(digests) for name, digests in first.items()} == dict.fromkeys(first, 1)
    assert seen == dict.fromkeys(seen, first)


@pytest.mark.parametrize("enter", [by_function, by_command, by_job, by_sweep])
def test_a_rule_about_a_slice_that_is_not_there_is_refused_everywhere(lines, folders, monkeypatch, enter):
    ctx, parent, candidate, dataset = lines("store")
    unknown = OWN_SLICES.model_copy(update={"slicing": None})
    monkeypatch.setitem(globals(), "OWN_SLICES", unknown)
    ctx.ledger.append(unknown, actor="test")
    with pytest.raises((InvalidInput, AssertionError), match="does not fit the data set"):
        enter((ctx, parent, candidate, dataset), folders, monkeypatch)
    assert not list(ctx.ledger.all(Decision))


def test_a_search_that_crashes_is_left_out_and_the_decision_made(line, monkeypatch):
    ctx, _, candidate, dataset = line

    def crash(*_):
        raise RuntimeError("no groups")

    monkeypatch.setattr(auditing, "discovered_slices", crash)
    done = audit_candidate(ctx, candidate, policy(), dataset)
    assert (done.discovered, done.decision.outcome) == (None, "approved")


def test_a_check_that_crashes_is_a_failure_and_the_decision_inconclusive(line, monkeypatch):
    ctx, _, candidate, dataset = line
    monkeypatch.setattr("auditsvc.checks.accuracy.Accuracy.measure", lambda *_: 1 / 0)
    done = audit_candidate(ctx, candidate, policy(), dataset)
    assert (done.evidence, [type(one) for one in done.failures]) == ((), [CheckFailed])
    assert done.decision.outcome == "inconclusive"


def test_a_candidate_that_was_not_submitted_gets_no_report(line):
    ctx, _, candidate, dataset = line
    other = another_seed(ctx, candidate, 3)
    done = audit_candidate(ctx, other, policy(), dataset)
    assert (done.reports, done.decision.candidate) == ((), other.digest)


def test_the_parts_of_the_audit_are_put_together_in_one_place():
    """Only the audit imports what judges a candidate and what explores it."""
    package = Path(inspect.getfile(auditsvc)).parent
    parts = {("auditsvc.services.decisions", "judge"), ("auditsvc.services.audit", "discover_slices")}
    users = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom)
        if parts & {(node.module, one.name) for one in node.names}
    }
    assert users == {"services/audit.py"}
    assert run.audit_candidate is audit_candidate
