"""The plan: what no candidate could meet, and what the formula's own simulation meets with the power it says."""

from __future__ import annotations

import numpy as np
import pytest

from auditsvc.datasets import SliceColumn, Slices
from auditsvc.evaluation import tango, wilson
from auditsvc.evaluation.paired import Sample, losses
from auditsvc.records import EACH, OVERALL, Slicing
from auditsvc.services.policies import read_policy
from auditsvc.services.power import chance_of_approval, plan, slice_sizes, undersized_slices, with_policy_slices
from tests.bench.resubmission import power_first_try
from tests.fakes.models import grey_dataset
from tests.gate.sample import a_policy, a_rule


def lines_of(rule, **sizes):
    policy = a_policy(rule)
    return plan(policy, {OVERALL if name == OVERALL else f"kind={name}": size for name, size in sizes.items()})


@pytest.mark.parametrize("limit", [0.01, 0.03, 0.05, 0.2])
def test_below_the_fewest_images_not_even_a_perfect_candidate_meets_a_loss_rule(limit):
    (line,) = lines_of(a_rule(at_most=limit), overall=10)
    highs = [float(losses(Sample(np.zeros(images, np.int8), Slices(images, ()), None), 0.05).high[0])
             for images in (line.min_n, line.min_n - 1)]  # fmt: skip
    assert highs[0] <= limit < highs[1]
    assert line.state == "too few"


@pytest.mark.parametrize("floor", [0.5, 0.9, 0.99])
def test_below_the_fewest_images_not_even_a_perfect_candidate_meets_a_floor(floor):
    (line,) = lines_of(a_rule(reading="accuracy/score.clean", at_least=floor), overall=10**6)
    needed = line.min_n
    assert wilson(needed, needed, 0.05).low == 1.0 or float(wilson(needed, needed, 0.05).low) >= floor
    assert line.state == "enough"


def test_the_wanted_images_meet_the_rule_with_the_power_that_was_asked_for():
    (line,) = lines_of(a_rule(at_most=0.03), overall=400)
    assert (line.n_for_power, line.state) == (400, "enough")
    drawn = np.random.default_rng(3).multinomial(line.n_for_power, [0.025, 0.025, 0.95], size=4000)
    met = tango(drawn[:, 0], drawn[:, 1], line.n_for_power, 0.05).high <= 0.03
    assert met.mean() == pytest.approx(0.8, abs=0.02)


def test_the_wanted_images_meet_a_floor_with_the_power_that_was_asked_for():
    (line,) = lines_of(a_rule(reading="accuracy/score.clean", at_least=0.9), overall=400)
    drawn = np.random.default_rng(3).binomial(line.n_for_power, 0.95, size=4000)
    assert (wilson(drawn, line.n_for_power, 0.05).low >= 0.9).mean() == pytest.approx(0.8, abs=0.06)


def test_a_small_slice_blocks_unless_the_rule_excuses_it_beside_larger_ones():
    soft = a_rule(slices=EACH, min_images=100, below_minimum="warn")
    assert [line.cannot_approve for line in lines_of(soft, overall=500, a=400, b=50)] == [False, False]
    assert [line.cannot_approve for line in lines_of(soft, overall=100, a=50, b=50)] == [True, True]
    hard = a_rule(slices=EACH, min_images=100)
    assert [line.cannot_approve for line in lines_of(hard, overall=500, a=400, b=50)] == [False, True]


def test_the_images_that_are_needed_are_those_of_the_stricter_reason():
    """56 images are more than a perfect candidate needs, and fewer than the rule judges."""
    rule = a_rule(slices=EACH, at_most=0.05, min_images=125)
    (line,) = lines_of(rule, a=56)
    assert (line.min_n, line.needed, line.state) == (59, 125, "too few")
    dataset = grey_dataset([0.1, 0.2, 0.6, 0.7, 0.8])
    told = undersized_slices(a_policy(rule), dataset)
    assert told and all(line.endswith("images, at least 125 are needed") for line in told)


def test_a_rule_without_a_formula_is_said_to_have_none():
    (line,) = lines_of(a_rule(reading="accuracy/parent.clean", at_least=0.9), overall=5)
    assert (line.state, line.cannot_approve) == ("no formula", False)


def test_the_data_set_is_counted_with_the_policys_own_slices():
    dataset = grey_dataset([0.1, 0.2, 0.6, 0.7, 0.8])
    policy = a_policy(a_rule(slices=EACH), slicing=Slicing(image={"brightness": 2}))
    sizes = slice_sizes(with_policy_slices(policy, dataset))
    assert sizes == {
        OVERALL: 5,
        "kind=bright": 3,
        "kind=dark": 2,
        "brightness=below 0.6": 2,
        "brightness=0.6 and over": 3,
    }
    assert len(undersized_slices(policy, with_policy_slices(policy, dataset))) == 4
    assert with_policy_slices(a_policy(), dataset) is dataset


def test_a_share_that_may_be_small_at_most_is_planned_as_the_gate_will_judge_it():
    """Nothing lost on ``min_n`` images just meets the rule; on one less it does not."""
    rule = a_rule(reading="prediction_churn/negative_flip_rate", at_most=0.02)
    (line,) = plan(a_policy(rule), {OVERALL: 100})
    assert line.state == "too few"
    for images, met in ((line.min_n, True), (line.min_n - 2, False)):
        assert (float(wilson(0, images, 0.05).high) <= 0.02) is met
    assert line.n_for_power > line.min_n


def two_groups(images, clusters=None):
    codes = (np.arange(images) % 2).astype(np.int32)
    return Slices(images, (SliceColumn("kind", ("a", "b"), codes),), clusters)


def test_the_chance_of_the_whole_policy_falls_with_images_rules_and_changes():
    each = a_rule(slices="each")
    many = chance_of_approval(a_policy(each), two_groups(2000), runs=60)
    few = chance_of_approval(a_policy(each), two_groups(200), runs=60)
    still = chance_of_approval(a_policy(each), two_groups(200), runs=60, changing=0.01)
    assert (many.chance, many.more, many.with_more) == (1.0, {}, None)
    assert few.low <= few.chance < 0.5 < still.chance and few.chance < few.high
    assert {name for name, _ in few.weakest} == {"kind=a", "kind=b"} == set(few.more)
    assert few.with_more >= 0.8
    assert chance_of_approval(a_policy(each), two_groups(60), runs=20, power=0.8).chance == 0


def test_the_chance_follows_the_interval_of_the_audit():
    """One rule, no slice: the share of simulated audits equals the power of Tango's interval."""
    rng = np.random.default_rng(1)
    drawn = rng.multinomial(300, [0.025, 0.025, 0.95], size=20_000)
    truth = float((tango(drawn[:, 0], drawn[:, 1], 300, 0.05).high <= 0.05).mean())
    found = chance_of_approval(a_policy(), Slices(300, ()), runs=1000)
    assert abs(found.chance - truth) < 0.03


def test_clusters_and_spent_alpha_lower_the_chance_and_other_metrics_are_assumed():
    slices = two_groups(400)
    plain = chance_of_approval(a_policy(), slices, runs=200, changing=0.1).chance
    spent = chance_of_approval(a_policy(max_evaluations=20), slices, runs=200, changing=0.1).chance
    alike = chance_of_approval(a_policy(), two_groups(400, np.arange(400) // 8), runs=50, changing=0.1).chance
    assert alike < plain > spent
    mark = a_rule(rule="mark", reading="watermark/log10_p", at_most=-12)
    assert chance_of_approval(a_policy(a_rule(), mark), slices, runs=20).assumed == ("mark",)


def test_small_data_can_approve_500_images_and_standard_keeps_its_first_try():
    groups = SliceColumn("g", ("a", "b", "c"), (np.arange(500) % 3).astype(np.int32))
    assert chance_of_approval(read_policy("small-data"), Slices(500, (groups,)), changing=0.02, runs=60).chance > 0.9
    assert power_first_try(images=1000, runs=20) >= 0.9
