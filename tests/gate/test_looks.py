"""Asking often enough is seen, and where alpha is shared it is refused."""

from __future__ import annotations

import numpy as np
import pytest

from auditsvc.evaluation import tango
from auditsvc.gate import decide
from auditsvc.records.eligibility import evaluation_of
from tests.bench.resubmission import resubmission_50
from tests.contracts.sample import a_candidate
from tests.fakes import NOON
from tests.gate.sample import SHOES, a_loss, a_policy, an_evidence, losses


def decided(policy, number, alpha=None, **found):
    evidence = an_evidence(losses(overall=a_loss(**({"value": 0.0} | found))), alpha=alpha or policy.level_of(number))
    return decide(policy, a_candidate(), [evidence], holdout_uses={SHOES.digest: number}, at=NOON)


def test_the_first_look_needs_no_word():
    assert decided(a_policy(), 1).notes is None


def test_later_looks_say_what_they_add_up_to():
    decision = decided(a_policy(), 3)
    assert decision.outcome == "approved"
    assert "candidate 3" in decision.notes[0] and "up to 15 %" in decision.notes[0]


def test_candidates_that_share_alpha_are_judged_at_their_share_and_no_later_one_is():
    policy = a_policy(max_evaluations=5)
    assert policy.level == pytest.approx(0.01)
    assert decided(policy, 5).outcome == "approved"
    late = decided(policy, 6)
    assert late.outcome == "inconclusive"
    assert "candidate 6" in late.findings[0].words and "other images" in late.findings[0].words


def test_evidence_at_the_whole_alpha_does_not_count_where_alpha_is_shared():
    for policy, number in ((a_policy(max_evaluations=5), 1), (a_policy(spend_alpha=True), 1)):
        assert "not of the alpha" in decided(policy, number, alpha=0.05).findings[0].words
    spending = a_policy(spend_alpha=True)
    assert "not of the alpha" in decided(spending, 2, alpha=spending.level_of(1)).findings[0].words


def test_the_ordinal_is_the_largest_over_the_data_sets():
    assert (evaluation_of({"a": 3, "b": 1}), evaluation_of({})) == (3, 1)


def test_spent_shares_add_up_to_alpha_and_the_decision_says_how_much_is_spent():
    policy = a_policy(spend_alpha=True)
    assert sum(policy.level_of(number) for number in range(1, 10_000)) == pytest.approx(0.05, rel=1e-3)
    assert [policy.level_of(number) for number in (1, 2, 3)] == pytest.approx([0.0375, 0.05 / 8, 0.05 / 24])
    assert a_policy(spend_alpha=True, stages=(0.5, 1.0)).level == pytest.approx(0.01875)
    assert decided(policy, 3).notes == (
        "evaluation 3 of this model on these images, judged at alpha 0.00208; 0.0458 of 0.05 is spent, and a "
        "candidate that is approved returns its share",
    )
    with pytest.raises(ValueError, match="give one of them"):
        a_policy(spend_alpha=True, max_evaluations=3)


def test_harm_is_shown_at_the_policys_level_however_much_is_spent():
    """Spending protects from passing by chance; it must not turn a shown loss into an unknown one."""
    policy = a_policy(spend_alpha=True)
    assert decided(policy, 40, value=0.08, reach=0.07, p=0.01).outcome == "rejected"
    assert decided(policy, 40, value=0.08, reach=0.07, p=0.04).outcome == "inconclusive"


def test_spending_keeps_the_chance_of_ever_approving_a_bad_candidate():
    found = resubmission_50(runs=2000)
    assert found["without"] > 0.5 > 0.06 >= found["spending"] > 0


def test_sharing_alpha_keeps_the_chance_of_approving_any_bad_candidate():
    """Sweeps of twenty candidates that lose exactly the limit: without sharing, many of them approve one."""
    rng = np.random.default_rng(3)
    approved = {}
    for looks in (1, 20):
        drawn = rng.multinomial(500, [0.075, 0.025, 0.9], size=(3000, 20))
        high = tango(drawn[..., 0], drawn[..., 1], 500, a_policy(max_evaluations=looks).level).high
        approved[looks] = float((high <= 0.05).any(axis=1).mean())
    assert approved[1] > 0.4
    assert approved[20] <= 0.06
