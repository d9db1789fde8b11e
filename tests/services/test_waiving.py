"""A rule that the policy excludes from waivers can't be waived, nor one of a candidate by its submitter."""

from __future__ import annotations

import datetime

import pytest

from auditsvc.errors import Conflict, InvalidInput, NotApproved
from auditsvc.records import Rule
from auditsvc.services.decisions import MAX_WAIVER_DAYS, approve, judge, waive
from auditsvc.services.gate_query import query_gate
from auditsvc.services.measurement import measure_candidate
from auditsvc.services.release import release
from auditsvc.services.revocation import verify_offline
from tests.fakes import NOON
from tests.services.line import bind, policy

UNTIL = NOON.date() + datetime.timedelta(days=5)


def a_decision(line, **fields):
    ctx, _, candidate, dataset = line
    rule = Rule(rule="floor", reading="accuracy/score.clean", at_least=0.9999, why="nothing on 60 images can", **fields)
    under = policy(rules=(rule,))
    return judge(ctx, candidate, under, measure_candidate(ctx, candidate, under, dataset))


def test_a_rule_that_nobody_may_waive_is_not_waived(line):
    with pytest.raises(InvalidInput, match="does not allow waiving the rule floor"):
        waive(line[0], a_decision(line, waivers="never"), "floor", "bob", "a reason", UNTIL)


@pytest.mark.parametrize("person", ["sue", "Sue", "SUE"])
def test_who_submitted_does_not_waive_under_any_spelling(line, person):
    with pytest.raises(Conflict, match="submitted this candidate"):
        waive(line[0], a_decision(line), "floor", person, "a reason", UNTIL)


def test_a_waiver_in_force_approves_and_is_listed(line):
    decision = a_decision(line)
    waiver = waive(line[0], decision, "floor", "bob", "a reason", UNTIL)
    again = a_decision(line)
    assert (decision.outcome, again.outcome, again.waivers) == ("inconclusive", "approved", (waiver.digest,))


@pytest.mark.parametrize("until", [NOON.date() + datetime.timedelta(days=MAX_WAIVER_DAYS + 1), datetime.date.max])
def test_a_waiver_is_not_for_ever(line, until):
    with pytest.raises(InvalidInput, match="at most 366 days"):
        waive(line[0], a_decision(line), "floor", "bob", "a reason", until)


def waived(line):
    """A binding decision that approves because bob waived a rule."""
    ctx, _, _, dataset = line
    rule = Rule(rule="floor", reading="accuracy/score.clean", at_least=0.9999, why="nothing on 60 images can")
    bind(ctx, policy(rules=(rule,)), dataset)
    waive(ctx, a_decision(line), "floor", "bob", "a reason", UNTIL)
    return a_decision(line)


def test_who_waived_does_not_count_as_an_approver(line):
    ctx, _, candidate, _ = line
    decision = waived(line)
    for name in ("bob", "Bob"):
        with pytest.raises(Conflict, match="waived a rule of this decision"):
            approve(ctx, decision, name)
    approve(ctx, decision, "ann")
    with pytest.raises(NotApproved, match="1 of 2 people"):
        release(ctx, candidate, decision)


def test_gate_and_verifier_see_that_a_waiver_ended(line):
    ctx, _, candidate, _ = line
    decision = waived(line)
    for name in ("ann", "cyd"):
        approve(ctx, decision, name)
    sealed = release(ctx, candidate, decision)
    assert query_gate(ctx.ledger, sealed.model, sealed.version, at=ctx.clock.now()).answer == "approved"
    assert verify_offline(ctx, sealed).verdict == "VALID"
    ctx.clock.forward(days=6)
    answer, seen = query_gate(ctx.ledger, sealed.model, sealed.version, at=ctx.clock.now()), verify_offline(ctx, sealed)
    assert (answer.answer, answer.reasons) == ("inconclusive", (f"the waiver of floor by bob ended on {UNTIL}",))
    assert (seen.verdict, [step.code for step in seen.reasons]) == ("UNKNOWN", ["WAIVER_ENDED"])
    ctx.clock.forward(days=-7)
    before = verify_offline(ctx, sealed)
    assert (before.verdict, [step.code for step in before.reasons]) == ("UNKNOWN", ["NOT_YET_SIGNED"])


def test_evidence_ages(line):
    ctx, _, candidate, dataset = line
    bind(ctx, policy(), dataset)
    decision = judge(ctx, candidate, policy(), measure_candidate(ctx, candidate, policy(), dataset))
    for name in ("ann", "cyd"):
        approve(ctx, decision, name)
    ctx.clock.forward(days=91)
    with pytest.raises(NotApproved, match="its evidence is 91 days old; the policy counts it for 90"):
        release(ctx, candidate, decision)
    ctx.clock.forward(days=-91)
    sealed = release(ctx, candidate, decision)
    ctx.clock.forward(days=91)
    answer = query_gate(ctx.ledger, sealed.model, sealed.version, at=ctx.clock.now())
    assert (answer.answer, "91 days old" in (answer.review or "")) == ("approved", True)
    seen = verify_offline(ctx, sealed)
    assert seen.verdict == "VALID"
    assert any("91 days old; its policy counts evidence for 90 days" in note for note in seen.notes)
