"""Asking often enough is seen, and where alpha is shared it is refused."""

from __future__ import annotations

import numpy as np
import pytest

from auditsvc.evaluation import tango
from auditsvc.gate import decide
from auditsvc.records import digest_of
from auditsvc.records.eligibility import holdout_number
from tests.contracts.sample import a_candidate
from tests.fakes import NOON
from tests.gate.sample import SHOES, a_loss, a_policy, an_evidence, losses

OTHERS = tuple(digest_of(str(number).encode()) for number in range(9))
OWN = a_candidate().digest


def decided(policy, looks):
    evidence = an_evidence(losses(overall=a_loss(0.0)), alpha=policy.level)
    return decide(policy, a_candidate(), [evidence], holdout_uses={SHOES.digest: looks}, at=NOON)


def test_the_first_look_needs_no_word():
    for looks in ((), (OWN,), (OWN, *OTHERS)):
        assert decided(a_policy(), looks).notes is None


def test_later_looks_say_what_they_add_up_to():
    decision = decided(a_policy(), (*OTHERS[:2], OWN))
    assert decision.outcome == "approved"
    assert "candidate 3" in decision.notes[0] and "up to 15 %" in decision.notes[0]


def test_candidates_that_share_alpha_are_judged_at_their_share_and_no_later_one_is():
    policy = a_policy(max_evaluations=5)
    assert policy.level == pytest.approx(0.01)
    assert decided(policy, (*OTHERS[:4], OWN)).outcome == "approved"
    late = decided(policy, OTHERS[:5])
    assert late.outcome == "inconclusive"
    assert "candidate 6" in late.findings[0].words and "other images" in late.findings[0].words


def test_evidence_at_the_whole_alpha_does_not_count_where_alpha_is_shared():
    evidence = an_evidence(losses(overall=a_loss(0.0)), alpha=0.05)
    decision = decide(a_policy(max_evaluations=5), a_candidate(), [evidence], at=NOON)
    assert "not of the alpha" in decision.findings[0].words


def test_a_candidate_that_is_judged_again_is_no_new_look():
    assert holdout_number(OWN, {"a": (*OTHERS[:2], OWN, *OTHERS[2:]), "b": (OWN,)}) == 3
    assert holdout_number(OWN, {}) == 1


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
