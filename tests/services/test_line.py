"""The verbs in order, and in the wrong order."""

from __future__ import annotations

import datetime
from dataclasses import replace

import pytest

from auditsvc.checks import check_named
from auditsvc.errors import Conflict, InvalidInput, NotApproved, NotFound, Refused
from auditsvc.evaluation import Check
from auditsvc.provenance import TrustRoot, verify
from auditsvc.records import Alarm, CheckFailed, CheckSpec, Evidence, Release, Rule, Submission, digest_of
from auditsvc.services.candidates import prune_candidate, register_parent, submit
from auditsvc.services.decisions import approve, judge, waive
from auditsvc.services.gate_query import query_gate
from auditsvc.services.measurement import measure_candidate
from auditsvc.services.registry import ALIAS
from auditsvc.services.release import release, release_folder, revoke
from auditsvc.services.reporting import write_report
from tests.services.line import FACTS, GOOD, bind, policy


def decided(line, rules=None):
    ctx, _, candidate, dataset = line
    under = rules or policy()
    bind(ctx, under, dataset)
    return judge(ctx, candidate, under, measure_candidate(ctx, candidate, under, dataset))


def released(line, rules=None):
    decision = decided(line, rules)
    for person in ("ann", "bob"):
        approve(line[0], decision, person)
    return release(line[0], line[2], decision)


def test_what_is_made_twice_is_made_once(line, folders):
    ctx, parent, candidate, _ = line
    again = prune_candidate(ctx, parent, GOOD, ctx.datasets.open(folders["calibration"]))
    assert again == candidate
    assert len(ctx.ledger.find(Submission, candidate.digest)) == 1


def test_a_candidate_carries_its_lineage_licence_and_mark(line):
    _, parent, candidate, _ = line
    assert candidate.parent == parent.digest
    assert candidate.recipe == GOOD
    assert candidate.mark is not None and candidate.mark.commitment.startswith("sha256:")
    assert {file.name for file in candidate.files} == {"model.safetensors", "architecture.json", "LICENSE"}


def test_evidence_is_found_again_by_content(line):
    ctx, _, candidate, dataset = line
    first = measure_candidate(ctx, candidate, policy(), dataset)
    ctx.clock.forward(days=1)
    assert measure_candidate(ctx, candidate, policy(), dataset) == first
    reseeded = measure_candidate(ctx, candidate, policy(version=2, seed=8), dataset)
    assert reseeded[0].digest != first[0].digest


def test_a_crashed_check_is_a_record_and_its_rules_are_unknown(line, monkeypatch):
    def crash(self, case):
        raise ZeroDivisionError("boom")
        yield

    monkeypatch.setattr(check_named("accuracy", CheckSpec(version=1)).__class__, "measure", crash)
    ctx, _, candidate, dataset = line
    (failed,) = measure_candidate(ctx, candidate, policy(), dataset)
    assert isinstance(failed, CheckFailed) and "boom" in failed.error
    decision = judge(ctx, candidate, policy(), (failed,))
    assert decision.outcome == "inconclusive"
    assert {item.verdict for item in decision.judgements} == {"unknown"}


def test_a_check_that_gives_less_than_it_declares_is_refused(line, monkeypatch):
    kind = check_named("accuracy", CheckSpec(version=1)).__class__
    whole = kind.measure
    monkeypatch.setattr(kind, "measure", lambda self, case: iter([*whole(self, case)][:-5]))
    ctx, _, candidate, dataset = line
    (result,) = measure_candidate(ctx, candidate, policy(), dataset)
    assert isinstance(result, CheckFailed) and "declares" in result.error


def test_the_mark_is_found_by_the_ordinary_check(line):
    ctx, _, candidate, dataset = line
    marked = policy(
        checks={"watermark": CheckSpec(version=1)},
        rules=(Rule(rule="mark", reading="watermark/log10_p", at_most=-6, why="a test"),),
    )
    (evidence,) = measure_candidate(ctx, candidate, marked, dataset)
    assert isinstance(evidence, Evidence), evidence
    assert evidence.reading("log10_p", "overall").value < -6
    assert evidence.reading("bit_accuracy", "overall").value > 0.9


def test_an_approved_candidate_waits_for_two_people(line):
    ctx, _, candidate, _ = line
    decision = decided(line)
    assert decision.outcome == "approved", [item.words for item in decision.findings]
    assert query_gate(ctx.ledger, "brightness", "2").answer == "inconclusive"
    with pytest.raises(NotApproved):
        release(ctx, candidate, decision)
    approve(ctx, decision, "ann")
    with pytest.raises(NotApproved):
        release(ctx, candidate, decision)
    assert ctx.registry.aliased("brightness", ALIAS) is None


def test_who_submitted_can_not_approve(line):
    with pytest.raises(Conflict):
        approve(line[0], decided(line), "sue")


def test_one_person_is_not_two(line):
    decision = decided(line)
    approve(line[0], decision, "ann")
    approve(line[0], decision, "ann")
    with pytest.raises(NotApproved):
        release(line[0], line[2], decision)


def test_a_release_verifies_from_its_folder_and_carries_the_alias(line):
    ctx = line[0]
    sealed = released(line)
    folder = release_folder(ctx, ctx.ledger.find(Submission, sealed.candidate)[0])
    trust = TrustRoot.from_pem(ctx.keys.signer("release").public_pem)
    found = verify(folder / "release", folder / "attest", trust=trust, at=ctx.clock.now())
    assert found.verdict == "VALID", found.reasons
    assert ctx.registry.aliased("brightness", ALIAS) == "2"
    assert query_gate(ctx.ledger, "brightness", "2").answer == "approved"


def test_releasing_twice_changes_nothing(line):
    assert released(line).digest == released(line).digest
    assert len(tuple(line[0].ledger.all(Release))) == 1


def test_a_release_under_another_decision_lies_beside_the_first_which_stays(line):
    ctx = line[0]
    trust = TrustRoot.from_pem(ctx.keys.signer("release").public_pem)
    first, second = released(line), released(line, policy(version=2))
    submission = ctx.ledger.find(Submission, first.candidate)[0]
    folders = [release_folder(ctx, submission, sealed.decision) for sealed in (first, second)]
    assert folders[0] != folders[1] == release_folder(ctx, submission)
    for folder in folders:
        assert verify(folder / "release", folder / "attest", trust=trust, at=ctx.clock.now()).verdict == "VALID"
    assert query_gate(ctx.ledger, "brightness", "2").release == second.digest


def test_a_rejected_candidate_is_never_released(line):
    strict = policy(rules=(Rule(rule="floor", reading="accuracy/drop.clean", at_most=-0.9, why="can't hold"),))
    decision = decided(line, strict)
    assert decision.outcome != "approved"
    with pytest.raises(NotApproved):
        approve(line[0], decision, "ann")
    with pytest.raises(NotApproved):
        release(line[0], line[2], decision)


def test_a_release_that_a_newer_binding_decision_does_not_approve_raises_an_alarm_and_stays(line):
    ctx = line[0]
    sealed = released(line)
    strict = policy(version=2, rules=(Rule(rule="f", reading="accuracy/drop.clean", at_most=-0.9, why="can't hold"),))
    refused = decided(line, strict)
    assert decided(line, strict) == refused
    (alarm,) = ctx.ledger.find(Alarm, sealed.digest)
    assert (alarm.decision, alarm.outcome) == (refused.digest, refused.outcome)
    answer = query_gate(ctx.ledger, "brightness", "2")
    assert (answer.answer, answer.release, refused.digest in answer.review) == ("approved", sealed.digest, True)
    assert ctx.registry.aliased("brightness", ALIAS) == "2"
    revoke(ctx, sealed, "it loses too much", "ann", "bob")
    assert query_gate(ctx.ledger, "brightness", "2").review is None


def test_a_revoked_release_is_answered_as_such_and_stays_so(line):
    ctx = line[0]
    sealed = released(line)
    revoke(ctx, sealed, "wrong data", "ann", "bob")
    assert query_gate(ctx.ledger, "brightness", "2").answer == "revoked"
    assert ctx.registry.aliased("brightness", ALIAS) is None
    with pytest.raises(NotApproved):
        released(line)


def test_a_waiver_that_matches_nothing_is_an_error(line):
    decision = decided(line)
    with pytest.raises(InvalidInput):
        waive(line[0], decision, "no-such-rule", "ann", "because", datetime.date(2100, 1, 1))


def test_a_waiver_lets_one_rule_pass_until_its_day(line):
    ctx = line[0]
    strict = policy(rules=(*policy().rules, Rule(rule="gain", reading="accuracy/drop.clean", at_most=-0.9, why="no")))
    decision = decided(line, strict)
    assert decision.outcome == "rejected" or decision.outcome == "inconclusive"
    until = ctx.clock.now().date() + datetime.timedelta(days=2)
    with pytest.raises(Conflict):
        waive(ctx, decision, "gain", "sue", "mine", until)
    waive(ctx, decision, "gain", "ann", "known and accepted", until)
    assert decided(line, strict).outcome == "approved"
    ctx.clock.forward(days=3)
    assert decided(line, strict).outcome == decision.outcome


def test_the_report_is_written_whole(line):
    ctx, _, candidate, dataset = line
    (path,) = write_report(ctx, candidate, decided(line), dataset)
    text = path.read_text()
    assert text.lstrip().startswith("<!") and text.rstrip().endswith("</html>")
    assert "compliant" not in text.lower()


def test_the_gate_does_not_know_what_nobody_submitted(line):
    with pytest.raises(NotFound):
        query_gate(line[0].ledger, "brightness", "99")


def test_a_pickle_under_a_good_name_is_refused_unopened(folders, tmp_path):
    from tests.services.line import ports_in

    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "architecture.json").write_bytes((folders["parent"] / "architecture.json").read_bytes())
    (bad / "model.safetensors").write_bytes(b"\x80\x04cos\nsystem\n(S'touch /tmp/owned'\ntR.")
    with pytest.raises(Refused, match="pickle"):
        register_parent(ports_in(tmp_path / "store"), bad, FACTS)


def test_data_of_another_world_is_refused(line, tmp_path):
    from tests.services.line import data_in

    ctx, _, candidate, _ = line
    folder = data_in(tmp_path / "other")
    text = (folder / "dataset.yaml").read_text().replace("[dark, bright]", "[bright, dark]")
    (folder / "dataset.yaml").write_text(text)
    with pytest.raises(InvalidInput, match="same order"):
        measure_candidate(ctx, candidate, policy(), ctx.datasets.open(folder))


def test_a_swapped_blob_is_not_audited(line):
    ctx, _, candidate, dataset = line
    swapped = candidate.model_copy(update={"files": tuple(replace_digest(file) for file in candidate.files)})
    ctx.ledger.append(swapped, actor="mallory")
    with pytest.raises(NotFound):
        measure_candidate(ctx, swapped, policy(), dataset)


def replace_digest(file):
    return file.model_copy(update={"digest": digest_of(file.name.encode())})


def test_checks_are_discovered_and_typed():
    assert issubclass(check_named("accuracy", CheckSpec(version=1)).__class__, Check)
    with pytest.raises(InvalidInput, match="known"):
        check_named("no-such-check", CheckSpec(version=1))
    with pytest.raises(InvalidInput, match="version"):
        check_named("accuracy", CheckSpec(version=99))


def test_a_second_submitter_changes_nothing(line):
    ctx, _, candidate, _ = line
    assert submit(ctx, candidate, "1", "eve").submitter == "sue"
    assert replace(ctx, folder=ctx.folder) == ctx
