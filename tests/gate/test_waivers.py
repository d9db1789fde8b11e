"""A waiver is one rule, one candidate, one policy, and ends."""

from __future__ import annotations

import datetime

import pytest

from auditsvc.gate import decide
from tests.contracts.sample import a_candidate, a_digest
from tests.fakes import NOON
from tests.gate.sample import a_loss, a_policy, a_rule, a_waiver, an_evidence, losses

POLICY = a_policy(
    a_rule(), a_rule(rule="other", slices="kind=a"), a_rule(rule="hard", slices="kind=b", waivers="never")
)


def judged(*waivers, at=NOON, bad=("overall",), policy=POLICY):
    found = {name: a_loss(0.2 if name in bad else 0.0) for name in ("overall", "a", "b")}
    return decide(policy, a_candidate(), [an_evidence(losses(**found))], waivers=waivers, at=at)


def test_a_waiver_in_force_approves_and_is_shown():
    waiver = a_waiver(POLICY)
    decision = judged(waiver)
    assert (decision.outcome, decision.waivers, decision.notes) == ("approved", (waiver.digest,), None)
    assert [(item.rule, item.verdict, item.waiver) for item in decision.findings] == [
        ("loss", "violated", waiver.digest)
    ]


def test_a_waiver_is_in_force_on_its_last_day_and_turns_the_decision_on_the_next():
    waiver = a_waiver(POLICY, days=1)
    last = datetime.datetime.combine(waiver.until, datetime.time(23, 59, 59), datetime.UTC)
    assert judged(waiver, at=last).outcome == "approved"
    after = judged(waiver, at=last + datetime.timedelta(seconds=1))
    assert after.outcome == "rejected"
    assert after.notes == (f"the waiver of loss by bob ended on {waiver.until}",)


@pytest.mark.parametrize("fields", [{"candidate": a_digest(3)}, {"policy": a_digest(4)}])
def test_a_waiver_of_another_candidate_or_policy_is_nothing_here(fields):
    assert judged(a_waiver(POLICY, **fields)) == judged()


@pytest.mark.parametrize(
    ("waiver", "note"),
    [(a_waiver(POLICY, "hard"), "the waiver of hard by bob does not count: the policy allows none"),
     (a_waiver(POLICY, "lost"), "the waiver of lost by bob matches no rule of the policy"),
     (a_waiver(POLICY, at=NOON + datetime.timedelta(hours=1)), "the waiver of loss by bob is from after this decision"),
     (a_waiver(POLICY, "other"), "the waiver of other is not needed: the rule is met")],
)  # fmt: skip
def test_a_waiver_that_does_not_count_is_told(waiver, note):
    decision = judged(waiver, bad=("overall", "b"))
    assert (decision.outcome, decision.waivers, decision.notes) == ("rejected", (), (note,))


def test_a_waiver_covers_its_own_rule_only():
    assert judged(a_waiver(POLICY), bad=("overall", "a")).outcome == "rejected"
    assert judged(a_waiver(POLICY), a_waiver(POLICY, "other"), bad=("overall", "a")).outcome == "approved"


def test_of_two_waivers_of_one_rule_the_one_that_lasts_counts_in_any_order():
    short, long = a_waiver(POLICY, days=-1), a_waiver(POLICY, days=20)
    assert judged(short, long) == judged(long, short)
    assert judged(short, long).waivers == (long.digest,)
