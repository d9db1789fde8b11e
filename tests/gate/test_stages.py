"""A stage counts only where the policy has stages; the last one counts; small for now is no excuse."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from auditsvc.evaluation import tango
from auditsvc.gate import decide
from auditsvc.records import EACH
from tests.contracts.sample import a_candidate
from tests.fakes import NOON
from tests.gate.sample import a_loss, a_policy, a_rule, an_evidence, losses

STAGES = (0.25, 0.5, 1.0)


def outcome(policy, *evidence):
    return decide(policy, a_candidate(), evidence, at=NOON)


def at(policy, stage, whole=None, **found):
    made = an_evidence(losses(**found), alpha=policy.level, stage=stage)
    return made.model_copy(update={"whole": whole})


def test_stages_share_alpha_and_rise_to_all_images():
    assert a_policy(stages=STAGES).level == pytest.approx(0.05 / 3)
    for wrong in ((0.5,), (0.5, 0.25, 1.0), (0.25, 0.5), (0.5, 0.5, 1.0)):
        with pytest.raises(ValidationError):
            a_policy(stages=wrong)


def test_a_part_of_the_images_counts_only_under_a_policy_with_stages():
    plain, staged = a_policy(), a_policy(stages=STAGES)
    assert "a part of the images" in outcome(plain, at(plain, 100, overall=a_loss(0.0))).findings[0].words
    assert outcome(staged, at(staged, 100, overall=a_loss(0.0))).outcome == "approved"


def test_the_latest_stage_counts_in_any_order():
    policy = a_policy(stages=STAGES)
    early, late = at(policy, 100, overall=a_loss(0.0)), at(policy, 200, overall=a_loss(0.3))
    assert outcome(policy, early, late).outcome == outcome(policy, late, early).outcome == "rejected"


def test_checks_at_different_stages_are_not_mixed():
    policy = a_policy(a_rule(), a_rule(rule="dark", reading="lighting/drop.dark"), stages=STAGES)
    dark = an_evidence({("drop.dark", "overall"): a_loss(0.0)}, check="lighting", alpha=policy.level, stage=100)
    found = outcome(policy, at(policy, 200, overall=a_loss(0.0)), dark)
    assert found.outcome == "inconclusive"
    assert "earlier stage" in found.findings[0].words


@pytest.mark.parametrize(("images", "expected"), [(300, "inconclusive"), (20, "approved")])
def test_a_slice_that_is_small_only_for_now_is_not_excused(images, expected):
    rule = a_rule(slices=EACH, min_images=100, below_minimum="warn")
    policy = a_policy(rule, stages=STAGES)
    early = at(policy, 100, {"kind=a": 400, "kind=b": images}, a=a_loss(0.0, images=120), b=a_loss(0.0, 0.3, images=15))
    assert outcome(policy, early).outcome == expected


def test_the_chance_of_approving_a_bad_candidate_at_any_stage_stays_under_alpha():
    policy = a_policy(a_rule(at_most=0.03), stages=(0.1, 0.2, 0.3, 0.45, 0.7, 1.0))
    sizes = np.diff([0, *(round(1500 * share) for share in policy.stages)])
    rng = np.random.default_rng(5)
    drawn = np.stack([rng.multinomial(size, [0.04, 0.01, 0.95], size=4000)[:, :2] for size in sizes], axis=1)
    lost, won = drawn.cumsum(axis=1)[..., 0], drawn.cumsum(axis=1)[..., 1]
    ends = tango(lost, won, sizes.cumsum()[None], policy.level)
    assert (ends.high <= 0.03).any(axis=1).mean() <= policy.alpha
