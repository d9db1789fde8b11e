"""Only a decision under the terms that two people set can be approved, released and answer the gate."""

from __future__ import annotations

import csv
import dataclasses
import datetime
from pathlib import Path

import pytest
from pydantic import ValidationError

from auditsvc.errors import Conflict, InvalidInput, NotApproved, NotFound
from auditsvc.models import WEIGHTS
from auditsvc.provenance import TrustRoot, verify
from auditsvc.provenance.formats.dsse import Bundle
from auditsvc.provenance.verifier.verify import summary_in
from auditsvc.records import (
    Alarm,
    Approval,
    CheckSpec,
    Decision,
    FileEntry,
    Release,
    ReleaseTerms,
    Rule,
    Submission,
    digest_of,
)
from auditsvc.services.audit import audit_candidate, obstacles
from auditsvc.services.decisions import approve, involved, judge, report_folder, waive
from auditsvc.services.gate_query import query_gate
from auditsvc.services.measurement import measure_candidate
from auditsvc.services.objections import object_to, open_objections
from auditsvc.services.operator_terms import apply_operator_terms
from auditsvc.services.policies import resolve_policy
from auditsvc.services.registry import ALIAS
from auditsvc.services.release import release, release_folder, revoke
from auditsvc.services.terms import (
    TermsDraft,
    binding_terms,
    confirm_terms,
    past_decisions,
    pending_terms,
    propose_terms,
    require_binding,
)
from tests.services.line import FACTS, bind, data_in, policy

MODEL = FACTS["model"]
LAX = policy(
    policy="lax",
    version=99,
    approvals=1,
    rules=(Rule(rule="drop", reading="accuracy/drop.clean", at_most=0.99, why="anything goes"),),
)
STRICT = policy(rules=(Rule(rule="perfect", reading="accuracy/drop.clean", at_most=-0.9, why="nobody can"),))


def audited(line, rules, dataset=None):
    ctx, _, candidate, own = line
    return audit_candidate(ctx, candidate, rules, dataset or own, formats=()).decision


def let_out(line, decision):
    for person in ("ann", "bob"):
        approve(line[0], decision, person)
    return release(line[0], line[2], decision)


@pytest.mark.parametrize("bound", [False, True])
def test_a_policy_of_the_attackers_own_releases_nothing(line, bound):
    ctx, _, candidate, dataset = line
    if bound:
        bind(ctx, STRICT, dataset)
        audited(line, STRICT)
    trial = audited(line, LAX)
    assert (trial.outcome, trial.trial) == ("approved", True)
    with pytest.raises(NotApproved, match="terms of brightness" if bound else "no terms bind brightness"):
        approve(ctx, trial, "ann")
    with pytest.raises(NotApproved):
        release(ctx, candidate, trial)
    answer = query_gate(ctx.ledger, MODEL, "2")
    assert (answer.answer, answer.exit_code) == (("rejected", 1) if bound else ("inconclusive", 3))
    assert query_gate(ctx.ledger, MODEL, "2", "lax").exit_code == 3
    assert not list(ctx.ledger.all(Approval)) and not list(ctx.ledger.all(Release))


def easier(folder):
    """The same images and name without one slice: its rows are relabelled away."""
    with (folder / "metadata.csv").open(newline="") as stream:
        rows = [{**row, "camera": "a"} for row in csv.DictReader(stream)]
    with (folder / "metadata.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return folder


def test_easier_data_supersedes_nothing_and_is_shown_with_the_rest(line, tmp_path):
    ctx, _, candidate, dataset = line
    bind(ctx, STRICT, dataset)
    first = audited(line, STRICT)
    other = ctx.datasets.open(easier(data_in(tmp_path / "easier")))
    trial = audited(line, STRICT, other)
    assert (first.trial, trial.trial) == (False, True)
    assert any("a trial" in note and "data set" in note for note in trial.notes)
    assert query_gate(ctx.ledger, MODEL, "2").decision == first.digest
    assert [one.decision for one in past_decisions(ctx.ledger, candidate)] == [first.digest, trial.digest]
    require_binding(ctx.ledger, first)


@pytest.mark.parametrize(("least", "outcome"), [(20, "approved"), (21, "inconclusive")])
def test_a_required_slice_that_is_too_small_blocks(line, least, outcome):
    ctx, _, _, dataset = line
    lenient = policy(
        rules=(
            Rule(rule="loss", reading="accuracy/drop.clean", slices="each", at_most=0.3, below_minimum="warn", why="w"),
        )
    )
    bind(ctx, lenient, dataset, slices={"camera=b": least})
    decision = audited(line, lenient)
    assert decision.outcome == outcome, decision.findings
    open_ones = [(item.slice, item.severity) for item in decision.findings]
    assert open_ones == ([] if outcome == "approved" else [("camera=b", "block")])


def test_a_required_slice_that_the_data_lacks_blocks_and_is_not_excused(line):
    ctx, _, _, dataset = line
    bind(ctx, policy(), dataset, slices={"camera=c": 1})
    decision = audited(line, policy())
    assert decision.outcome == "inconclusive"
    assert [(item.slice, item.severity, item.outcome.images) for item in decision.findings] == [
        ("camera=c", "block", 0)
    ]


def test_a_trial_never_touches_a_live_release(line):
    ctx, _, _, dataset = line
    bind(ctx, policy(), dataset)
    sealed = let_out(line, audited(line, policy()))
    before = query_gate(ctx.ledger, MODEL, "2")
    refused = audited(line, policy(policy="renamed", rules=STRICT.rules))
    assert refused.outcome != "approved"
    assert query_gate(ctx.ledger, MODEL, "2") == before and before.answer == "approved" and before.review is None
    assert ctx.registry.aliased(MODEL, ALIAS) == "2"
    assert not ctx.ledger.find(Alarm, sealed.digest)


def test_an_alarm_ends_when_the_newest_decision_approves_again(line):
    ctx, _, candidate, dataset = line
    bind(ctx, policy(), dataset)
    first = audited(line, policy())
    let_out(line, first)
    evidence = measure_candidate(ctx, candidate, policy(), dataset)
    worse = judge(ctx, candidate, policy(), ())
    assert worse.trial  # without evidence nothing binds, so a crash raises no alarm
    ctx.clock.forward(days=policy().max_age_days + 1)
    old = judge(ctx, candidate, policy(), evidence)
    assert (old.outcome, old.trial) == ("inconclusive", False)
    assert query_gate(ctx.ledger, MODEL, "2").review is not None
    again = first.model_copy(update={"at": ctx.clock.now() + datetime.timedelta(hours=1)})
    ctx.ledger.append(again, actor="test")
    assert query_gate(ctx.ledger, MODEL, "2").review is None


def test_reports_of_two_decisions_are_two_files(line):
    ctx, _, candidate, dataset = line
    one = audit_candidate(ctx, candidate, policy(), dataset)
    kept = one.reports[0].read_bytes()
    two = audit_candidate(ctx, candidate, LAX, dataset)
    assert b"A trial: no terms bind this decision" in kept
    assert one.decision.policy_name.encode() in two.reports[0].read_bytes()
    assert one.reports != two.reports and one.reports[0].read_bytes() == kept
    assert one.reports[0].parent == report_folder(ctx.folder, one.decision.digest, MODEL, "2")


def test_terms_take_two_people_and_a_registered_model(line):
    ctx, parent, _, dataset = line
    draft = TermsDraft(datasets=(dataset.ref.digest,), parents=(parent.digest,), reason="why")
    with pytest.raises(NotFound, match="not registered"):
        propose_terms(ctx, "nothing", policy(), draft, "ann")
    proposal = propose_terms(ctx, MODEL, policy(), draft, "ann")
    assert (pending_terms(ctx.ledger, MODEL), binding_terms(ctx.ledger, MODEL)) == (proposal, None)
    with pytest.raises(Conflict, match="another person"):
        confirm_terms(ctx, proposal, "Ann")
    terms = confirm_terms(ctx, proposal, "bob")
    assert (binding_terms(ctx.ledger, MODEL), pending_terms(ctx.ledger, MODEL)) == (terms, None)
    assert confirm_terms(ctx, proposal, "cyd") == terms
    with pytest.raises(ValidationError, match="can't confirm"):
        ReleaseTerms.model_validate(terms.model_dump() | {"confirmed_by": "ANN"})
    ctx.clock.forward(days=1)
    older = propose_terms(ctx, MODEL, policy(), draft, "ann")
    ctx.clock.forward(days=1)
    propose_terms(ctx, MODEL, policy(), draft, "cyd")
    with pytest.raises(Conflict, match="newer proposal"):
        confirm_terms(ctx, older, "bob")


def test_a_parent_that_is_registered_after_the_terms_is_none_of_theirs(line):
    ctx, parent, candidate, dataset = line
    terms = bind(ctx, policy(), dataset)
    worse = parent.model_copy(update={"source": "someone else"})
    ctx.ledger.append(worse, actor="test")
    assert terms.parents == (parent.digest,)
    mine, theirs = (candidate.model_copy(update={"parent": one.digest}) for one in (parent, worse))
    data = (dataset.ref.digest,)
    assert terms.objections(mine, policy().digest, data) == ()
    assert terms.objections(theirs, policy().digest, data) == (
        f"the parent {worse.digest[:19]} isn't one that the terms name",
    )


def test_terms_that_can_not_be_kept_are_refused_with_every_reason(line):
    ctx, _, _, dataset = line
    draft = TermsDraft(datasets=(dataset.ref.digest,), slices={"camera=b": 5}, approvals=1, reason="why")
    floor = policy(rules=policy().rules[:1], datasets=(digest_of(b"other"),))
    with pytest.raises(InvalidInput) as refused:
        propose_terms(ctx, MODEL, floor, draft, "ann")
    assert [reason.split(":")[0] for reason in refused.value.reasons][:2] == ["the slice camera=b", "approvals"]
    assert len(refused.value.reasons) == 3
    with pytest.raises(NotFound):
        propose_terms(ctx, MODEL, policy(), draft.model_copy(update={"parents": (digest_of(b"p"),)}), "ann")


def test_every_data_set_of_the_terms_must_approve(line, tmp_path):
    ctx, _, _, dataset = line
    second = ctx.datasets.open(data_in(tmp_path / "second", seed=5))
    bind(ctx, policy(), dataset, second)
    one = audited(line, policy())
    with pytest.raises(NotApproved, match=second.ref.digest):
        approve(ctx, one, "ann")
    two = audited(line, policy(), second)
    assert not two.trial and not two.supersedes(one)
    assert approve(ctx, one, "ann").decision == one.digest


def test_a_decision_of_earlier_terms_or_of_another_parent_is_refused(line):
    ctx, _, candidate, dataset = line
    bind(ctx, policy(), dataset)
    old = audited(line, policy())
    ctx.clock.forward(days=1)
    bind(ctx, policy(), dataset, approvals=3)
    with pytest.raises(NotApproved, match="earlier terms"):
        approve(ctx, old, "ann")
    new = audited(line, policy())
    assert new.terms != old.terms and new.judgements == old.judgements
    for person in ("ann", "bob"):
        approve(ctx, new, person)
    with pytest.raises(NotApproved, match="2 of 3"):
        release(ctx, candidate, new)


def test_a_version_number_that_is_given_again_answers_for_what_has_it_now(line):
    ctx, _, candidate, dataset = line
    bind(ctx, policy(), dataset)
    let_out(line, audited(line, policy()))
    (first,) = ctx.ledger.find(Submission, candidate.digest)
    assert query_gate(ctx.ledger, MODEL, first.version).answer == "approved"
    other = candidate.model_copy(update={"card": {"parameters": 1.0}})
    ctx.ledger.append(other, first.model_copy(update={"candidate": other.digest}), actor="sue")
    answer = query_gate(ctx.ledger, MODEL, first.version)
    assert (answer.answer, answer.candidate, answer.release) == ("inconclusive", other.digest, None)


def test_weights_of_a_revoked_release_are_not_released_with_another_note(line):
    ctx, _, candidate, dataset = line
    bind(ctx, policy(), dataset)
    revoke(ctx, let_out(line, audited(line, policy())), "a flaw", "ann", "bob")
    note = candidate.files[0].model_copy(update={"name": "NOTE.md", "digest": digest_of(b"x")})
    again = candidate.model_copy(update={"files": (*candidate.files, note)})
    decision = ctx.ledger.find(Decision, candidate.digest)[-1]
    ctx.ledger.append(again, Submission(candidate=again.digest, model=MODEL, version="9", submitter="sue",
                                        at=ctx.clock.now()), actor="sue")  # fmt: skip
    with pytest.raises(NotApproved, match="released as version 2 of brightness and revoked"):
        release(ctx, again, decision)


def test_who_waived_a_rule_is_one_of_those_whom_the_approver_must_not_be(line):
    ctx, _, candidate, _ = line
    decision = audited(line, STRICT)
    waiver = waive(ctx, decision, "perfect", "wendy", "a test", ctx.clock.now().date())
    waived = audited(line, STRICT)
    assert waived.waivers == (waiver.digest,)
    assert involved(ctx.ledger, waived) == (ctx.ledger.find(Submission, candidate.digest)[0].submitter, "wendy")


def test_terms_can_leave_out_the_watermark_of_what_was_pruned_elsewhere(line):
    ctx, _, candidate, dataset = line
    marked = policy(
        checks={"accuracy": CheckSpec(version=1), "watermark": CheckSpec(version=1)},
        rules=(*policy().rules, Rule(rule="mark", reading="watermark/log10_p", at_most=-6, why="a test")),
    )
    plain = candidate.model_copy(update={"mark": None})
    ctx.ledger.append(plain, actor="test")
    assert "no watermark, so mark can't be met" in obstacles(ctx, plain, marked, dataset)[0]
    bind(ctx, marked, dataset)
    assert audit_candidate(ctx, plain, marked, dataset, formats=()).decision.outcome == "inconclusive"
    ctx.clock.forward(days=1)
    bind(ctx, marked, dataset, unmarked=True)
    assert obstacles(ctx, plain, marked, dataset) == ()
    free = audit_candidate(ctx, plain, marked, dataset, formats=()).decision
    assert (free.outcome, free.trial) == ("approved", False)
    assert [(item.rule, item.severity) for item in free.findings] == [("mark", "warn")]
    own = audited(line, marked)
    assert {item.severity for item in own.judgements if item.rule == "mark"} == {"block"}


def test_a_release_shows_its_policy_data_and_terms_and_the_earlier_decisions(line):
    ctx, _, candidate, dataset = line
    trial = audited(line, LAX)
    ctx.clock.forward(days=1)
    terms = bind(ctx, policy(), dataset)
    sealed = let_out(line, audited(line, policy()))
    assert (sealed.terms, sealed.policy) == (terms.digest, policy().digest)
    assert [(one.digest, one.images) for one in sealed.data] == [(dataset.ref.digest, 60)]
    folder = release_folder(ctx, ctx.ledger.find(Submission, candidate.digest)[0])
    field = summary_in(Bundle.parse((folder / "attest" / "vsa.sigstore.json").read_bytes())).release
    assert [one.decision for one in field.earlier] == [trial.digest]
    found = verify(folder / "release", folder / "attest", trust=TrustRoot.of_keys(ctx.keys), at=ctx.clock.now())
    assert found.verdict == "VALID"
    said = {step.step: step.detail for step in found.steps}
    assert policy().digest in said["policy"] and dataset.ref.digest in said["data"] and "60 images" in said["data"]
    assert "proposed by tess, confirmed by tom" in said["terms"]


def test_the_name_of_a_shipped_policy_is_never_that_of_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "standard").write_text("policy: standard\nversion: 99\n")
    (tmp_path / "mine").write_text("policy: mine\n")
    assert resolve_policy("standard").version != 99
    with pytest.raises(NotFound, match=r"\./mine"):
        resolve_policy("mine")


def test_one_name_and_version_of_a_policy_is_one_policy(line):
    ctx = line[0]
    ctx.ledger.append(policy(), actor="test")
    ctx.ledger.append(policy(), actor="test")
    with pytest.raises(Conflict, match="version 1"):
        ctx.ledger.append(policy(seed=99), actor="test")
    assert not list(ctx.ledger.all(Decision))


def test_terms_of_the_operators_file_bind_without_two_people_and_people_can_not_replace_them(line, tmp_path):
    ctx, _, _, dataset = line
    rules, path = policy(), tmp_path / "terms.yaml"
    ctx.ledger.append(rules, actor="test")
    path.write_text(f"{MODEL}: {{policy: '{rules.digest}', datasets: ['{dataset.ref.digest}'], reason: the board}}\n")
    for _ in range(2):  # the second time nothing is new
        apply_operator_terms(ctx, path)
    (terms,) = ctx.ledger.find(ReleaseTerms, MODEL)
    assert binding_terms(ctx.ledger, MODEL) == terms and terms.operator
    assert "without two people" in terms.set_by and terms.lines[-1].endswith(terms.set_by)
    decision = audited(line, rules)
    assert decision.terms == terms.digest and let_out(line, decision).decision == decision.digest
    draft = TermsDraft(datasets=(dataset.ref.digest,), reason="of people")
    with pytest.raises(Conflict, match="the operator's settings set the terms"):
        propose_terms(dataclasses.replace(ctx, operator_models=frozenset({MODEL})), MODEL, rules, draft, "ann")
    for faulty, words in (("[1]", "name no models"), (f"{MODEL}: {{policy: standard, dataset: x}}", "dataset")):
        path.write_text(faulty)
        with pytest.raises(InvalidInput, match=words):
            apply_operator_terms(ctx, path)


def test_slices_that_the_terms_require_are_judged_in_trials_too(line):
    ctx, _, _, dataset = line
    bind(ctx, policy(), dataset, slices={"camera=a": 50})
    found = audited(line, policy(version=2))
    assert found.trial and found.outcome == "inconclusive"
    (missing,) = [one for one in found.findings if one.slice == "camera=a"]
    assert "40 images; the terms require 50 of this slice" in missing.outcome.reason


def test_a_release_rests_on_the_decision_on_each_data_set(line, tmp_path: Path):
    ctx, _, candidate, dataset = line
    other = ctx.datasets.open(data_in(tmp_path / "other", 40, seed=9))
    rules = policy(rules=(Rule(rule="loss", reading="accuracy/drop.clean", at_most=0.07, why="a margin"),))
    bind(ctx, rules, dataset, other)
    first = audited(line, rules)
    unknown = audit_candidate(ctx, candidate, rules, other, formats=()).decision
    assert (first.outcome, unknown.outcome) == ("approved", "inconclusive")
    with pytest.raises(NotApproved, match="name more data sets; not approved on"):
        require_binding(ctx.ledger, first)
    waive(ctx, unknown, "loss", "wendy", "a test", ctx.clock.now().date())
    waived = audit_candidate(ctx, candidate, rules, other, formats=()).decision
    with pytest.raises(NotApproved, match="rests on a waiver that this one does not name"):
        require_binding(ctx.ledger, first)
    assert require_binding(ctx.ledger, waived)
    for person in ("ann", "bob"):
        approve(ctx, waived, person)
    object_to(ctx, first, "cyd", "rejected", "it fails at night")
    with pytest.raises(Conflict, match="cyd rejected it"):
        release(ctx, candidate, waived)
    object_to(ctx, first, "cyd", "withdrawn", "mended")
    assert release(ctx, candidate, waived).decision == waived.digest


def test_an_objection_holds_for_a_decision_that_is_made_again_and_for_the_same_weights(line):
    ctx, _, candidate, dataset = line
    bind(ctx, policy(), dataset)
    first = audited(line, policy())
    object_to(ctx, first, "cyd", "changes requested", "explain the loss")
    again = first.model_copy(update={"notes": ("made again",), "at": first.at + datetime.timedelta(seconds=1)})
    ctx.ledger.append(again, actor="test")
    with pytest.raises(Conflict, match="cyd requested changes"):
        approve(ctx, again, "ann")
    note, other = (FileEntry(name=name, size=1, digest=digest_of(name.encode())) for name in ("NOTE.md", WEIGHTS))
    noted = candidate.model_copy(update={"files": (*candidate.files, note)})
    others = candidate.model_copy(update={"files": (other,)})
    of_noted, of_others = (first.model_copy(update={"candidate": one.digest}) for one in (noted, others))
    ctx.ledger.append(noted, others, of_noted, of_others, actor="test")
    assert open_objections(ctx.ledger, of_noted) == open_objections(ctx.ledger, first) != ()
    assert open_objections(ctx.ledger, of_others) == ()
    assert first.digest in {one.decision for one in past_decisions(ctx.ledger, noted)}
    object_to(ctx, again, "cyd", "withdrawn", "explained")
    assert open_objections(ctx.ledger, first) == () and approve(ctx, again, "ann").decision == again.digest


def test_files_of_which_nothing_is_proven_are_audited_and_not_released(line):
    ctx, _, candidate, dataset = line
    bind(ctx, policy(), dataset)
    brought = candidate.model_copy(update={"unproven": ("model.mnn",)})
    ctx.ledger.append(brought, actor="test")
    (obstacle,) = obstacles(ctx, brought, policy(), dataset)
    done = audit_candidate(ctx, brought, policy(), dataset, formats=())
    assert "model.mnn can't be released" in obstacle and done.obstacles == (obstacle,)
    with pytest.raises(NotApproved, match=r"model\.mnn can't be released: it is not proven"):
        approve(ctx, done.decision, "ann")
