"""Every comparison in the gate and its records, exactly on its boundary."""

from __future__ import annotations

import datetime

import pytest

from auditsvc.gate import decide
from auditsvc.records import EACH, OVERALL, Rule, Unmeasured
from auditsvc.records.eligibility import holdout_exhausted, holdout_note
from auditsvc.records.evidence import difference, holm
from auditsvc.records.messages import finding_message, images_to_decide
from auditsvc.records.metric import metric_of
from tests.contracts.sample import a_candidate
from tests.fakes import NOON
from tests.gate.sample import SHOES, a_loss, a_policy, a_rule, a_waiver, an_evidence, losses, measured

FLIPS = {"reading": "watermark/flips", "at_most": 0.05}


def judged(rule: Rule, outcome, slice_name=OVERALL, whole=None, **policy):
    """The judgement on one slice beside a clean overall."""
    outcomes = {(rule.metric, OVERALL): a_loss(0.0)} | {(rule.metric, slice_name): outcome}
    evidence = an_evidence(outcomes, check=rule.check, **({"stage": 100, "alpha": 0.025} if whole else {}))
    evidence = evidence.model_copy(update={"whole": whole})
    found = decide(a_policy(rule, **policy), a_candidate(), [evidence], at=NOON)
    return next(one for one in found.judgements if one.slice == slice_name)


@pytest.mark.parametrize(("images", "verdict"), [(99, "unknown"), (100, "met"), (101, "met")])
@pytest.mark.parametrize("slice_name", [OVERALL, "kind=a"])
def test_a_slice_of_exactly_the_minimum_is_judged(slice_name, images, verdict):
    rule = a_rule(slices=(OVERALL, EACH), min_images=100)
    assert judged(rule, a_loss(0.0, images=images), slice_name).verdict == verdict


@pytest.mark.parametrize(("whole", "severity"), [(99, "warn"), (100, "block")])
def test_a_slice_that_reaches_the_minimum_in_the_whole_data_set_is_not_excused(whole, severity):
    rule = a_rule(slices=(OVERALL, EACH), min_images=100, below_minimum="warn")
    found = judged(rule, a_loss(0.0, images=50), "kind=a", {OVERALL: 900, "kind=a": whole}, stages=(0.5, 1.0))
    assert (found.verdict, found.severity) == ("unknown", severity)


@pytest.mark.parametrize(
    ("ends", "verdict"),
    [((0.05, 0.05, 0.05), "met"), ((0.06, 0.05, 0.07), "unknown"), ((0.06, 0.051, 0.07), "violated")],
)
def test_a_ceiling_is_broken_only_above_it(ends, verdict):
    assert judged(a_rule(**FLIPS), measured(*ends)).verdict == verdict


@pytest.mark.parametrize(
    ("ends", "verdict"),
    [((0.9, 0.9, 0.9), "met"), ((0.85, 0.8, 0.9), "unknown"), ((0.85, 0.8, 0.899), "violated")],
)
def test_a_floor_is_broken_only_below_it(ends, verdict):
    assert judged(a_rule(reading="accuracy/score.clean", at_least=0.9), measured(*ends)).verdict == verdict


@pytest.mark.parametrize(
    ("value", "low", "p", "verdict"),
    [(0.06, 0.0, None, "unknown"), (0.06, 0.001, None, "violated"), (0.05, 0.001, None, "unknown"),
     (0.06, -0.1, 0.05, "violated"), (0.06, -0.1, 0.0501, "unknown"), (0.05, -0.1, 0.05, "unknown")],
)  # fmt: skip
def test_a_loss_is_shown_at_alpha_and_above_the_limit(value, low, p, verdict):
    assert judged(a_rule(), measured(value, low, 0.2, p=p)).verdict == verdict


def test_an_empty_slice_is_unknown_and_one_image_is_not_empty():
    rule = a_rule(slices=(OVERALL, EACH))
    empty = judged(rule, Unmeasured(reason="no image of this slice was tried"), "kind=a")
    assert "the slice is empty" in empty.words
    one = judged(rule, Unmeasured(reason="dark", images=1), "kind=a")
    assert "dark" in one.words and "empty" not in one.words


@pytest.mark.parametrize(("seconds", "outcome"), [(0, "approved"), (1, "inconclusive")])
def test_evidence_of_the_last_permitted_second_counts(seconds, outcome):
    evidence = an_evidence(losses(overall=a_loss(0.0)), days=90)
    at = NOON + datetime.timedelta(seconds=seconds)
    assert decide(a_policy(), a_candidate(), [evidence], at=at).outcome == outcome
    at = NOON - datetime.timedelta(days=90, seconds=seconds)
    assert decide(a_policy(), a_candidate(), [evidence], at=at).outcome == outcome


def test_a_waiver_counts_from_its_second_to_the_end_of_its_last_day():
    policy, evidence = a_policy(), [an_evidence(losses(overall=a_loss(0.2)))]

    def outcome(days: int, later: int = 0) -> str:
        waiver = a_waiver(policy, days=days, at=NOON + datetime.timedelta(seconds=later))
        return decide(policy, a_candidate(), evidence, waivers=[waiver], at=NOON).outcome

    assert [outcome(0), outcome(-1), outcome(5, later=1)] == ["approved", "rejected", "rejected"]


def test_the_last_permitted_evaluation_is_judged_and_the_first_is_not_noted():
    policy = a_policy(max_evaluations=3)
    uses = [{SHOES.digest: number} for number in (1, 2, 3, 4)]
    assert [bool(holdout_exhausted(policy, one)) for one in uses] == [False, False, False, True]
    assert [bool(holdout_note(policy, one)) for one in uses] == [False, True, True, False]
    assert [bool(holdout_note(a_policy(), one)) for one in uses] == [False, True, True, True]
    assert [bool(holdout_note(a_policy(spend_alpha=True), one)) for one in uses] == [True] * 4


def test_an_unknown_names_the_images_up_to_twenty_times_those_at_hand():
    rule, outcome = a_rule(), measured(0.04, 0.02, 0.06, images=100)
    words = [finding_message(rule, metric_of(rule.metric), OVERALL, outcome, needed) for needed in (2000, 2001)]
    assert "about 2000 images would decide it" in words[0] and "too near the limit" in words[1]
    assert images_to_decide(rule, metric_of(rule.metric), measured(0.0499999, 0.0, 0.1, images=100), 0.05) > 100


def test_holm_orders_within_a_family_and_stays_at_most_one():
    assert holm([("a", 0.01), ("a", 0.04), ("b", 0.04), ("a", None), ("a", 0.9)]) == [0.03, 0.08, 0.04, None, 0.9]
    assert holm([("a", 0.6), ("a", 0.6)]) == [1.0, 1.0]


def test_a_difference_has_its_ends_from_both_intervals():
    found = difference(measured(0.9, 0.86, 0.93, images=50), measured(0.8, 0.76, 0.83, images=40))
    assert (found.value, found.images) == (pytest.approx(0.1), 40)
    assert found.low == pytest.approx(0.1 - 0.05) and found.high == pytest.approx(0.1 + 0.05)
