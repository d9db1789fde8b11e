"""Met only by the pessimistic end; a stricter limit never helps; pure and in any order the same."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditsvc.evaluation import tango
from auditsvc.gate import decide
from auditsvc.records import EACH, OVERALL, Unmeasured
from tests.contracts.sample import a_candidate
from tests.fakes import NOON
from tests.gate.sample import a_loss, a_policy, a_rule, an_evidence, losses, measured

LEVEL = {"reading": "accuracy/score.clean", "at_least": 0.9}


def verdict_of(rule, outcome):
    evidence = an_evidence({(rule.metric, OVERALL): outcome}, check=rule.check)
    (judgement,) = decide(a_policy(rule), a_candidate(), [evidence], at=NOON).judgements
    return judgement.verdict


@pytest.mark.parametrize(
    ("ends", "verdict"),
    [((0.95, 0.91, 0.97), "met"), ((0.95, 0.9, 0.97), "met"), ((0.95, 0.89, 0.97), "unknown"),
     ((0.85, 0.8, 0.9), "unknown"), ((0.85, 0.8, 0.89), "violated")],
)  # fmt: skip
def test_a_floor_is_met_by_the_lower_end_and_violated_by_the_upper(ends, verdict):
    assert verdict_of(a_rule(**LEVEL), measured(*ends)) == verdict


@pytest.mark.parametrize(
    ("ends", "verdict"),
    [((0.03, 0.01, 0.04), "met"), ((0.03, 0.01, 0.05), "met"), ((0.03, 0.01, 0.06), "unknown"),
     ((0.04, 0.02, 0.06), "unknown"), ((0.06, 0.02, 0.09), "violated"), ((0.06, -0.01, 0.09), "unknown"),
     ((0.09, 0.06, 0.12), "violated")],
)  # fmt: skip
def test_a_loss_is_violated_when_it_is_shown_and_its_estimate_is_over_the_limit(ends, verdict):
    assert verdict_of(a_rule(), measured(*ends)) == verdict


def test_a_reading_that_is_no_loss_is_violated_by_its_lower_end_alone():
    rule = a_rule(reading="watermark/flips", at_most=0.05)
    assert verdict_of(rule, measured(0.06, 0.02, 0.09)) == "unknown"
    assert verdict_of(rule, measured(0.09, 0.06, 0.12)) == "violated"


def test_outcome_is_the_worst_of_the_blocking_rules_and_warnings_never_block():
    good, bad = a_loss(0.0), a_loss(0.2)
    warn = a_rule(rule="soft", slices="kind=a", severity="warn")
    policy = a_policy(a_rule(), warn, a_rule(rule="unseen", slices="kind=b"))
    for overall, small, unseen, outcome in (
        (good, bad, good, "approved"),
        (good, good, Unmeasured(reason="no light", images=50), "inconclusive"),
        (bad, good, Unmeasured(reason="no light", images=50), "rejected"),
    ):
        evidence = an_evidence(losses(overall=overall, a=small, b=unseen))
        assert decide(policy, a_candidate(), [evidence], at=NOON).outcome == outcome


NUMBERS = st.tuples(*[st.floats(-0.3, 0.3)] * 3).map(sorted)
ROWS = st.lists(st.tuples(NUMBERS, st.integers(1, 400), st.none() | st.floats(0, 1)), min_size=1, max_size=6)
LIMIT = st.floats(-0.2, 0.2)
RANK = {"approved": 2, "inconclusive": 1, "rejected": 0}


def outcome_under(rows, limit, least, floor, soft):
    rule = a_rule(slices=EACH, min_images=floor, below_minimum=soft, **{least: limit})
    found = {str(number): measured(value, low, high, images, p=p)
             for number, ((low, value, high), images, p) in enumerate(rows)}  # fmt: skip
    return RANK[decide(a_policy(rule), a_candidate(), [an_evidence(losses(**found))], at=NOON).outcome]


@given(ROWS, LIMIT, LIMIT, st.integers(1, 500), st.sampled_from(("block", "warn")))
def test_a_stricter_limit_never_helps(rows, one, other, floor, soft):
    strict, lax = sorted((one, other))
    assert outcome_under(rows, strict, "at_most", floor, soft) <= outcome_under(rows, lax, "at_most", floor, soft)
    assert outcome_under(rows, lax, "at_least", floor, soft) <= outcome_under(rows, strict, "at_least", floor, soft)


@given(ROWS, LIMIT, st.integers(0, 5), st.floats(0, 0.5), st.sampled_from(("at_most", "at_least")))
def test_doubt_never_helps(rows, limit, which, wider, least):
    ends, images, p = rows[which % len(rows)]
    doubtful = list(rows)
    doubtful[which % len(rows)] = ((ends[0] - wider, ends[1], ends[2] + wider), images, p)
    assert (outcome_under(doubtful, limit, least, 1, "block") == RANK["approved"]) <= (
        outcome_under(rows, limit, least, 1, "block") == RANK["approved"]
    )


@given(st.randoms(use_true_random=False))
def test_the_order_of_the_evidence_changes_nothing(chance: random.Random):
    rules = (a_rule(), a_rule(rule="dark", reading="lighting/drop.dark"))
    given_ = [
        an_evidence(losses(overall=a_loss(0.0))),
        an_evidence(losses(overall=a_loss(0.2)), days=-1),
        an_evidence(losses(overall=a_loss(0.1)), seed=8),
        an_evidence({("drop.dark", OVERALL): a_loss(0.0)}, check="lighting"),
        an_evidence({("drop.dark", OVERALL): a_loss(0.3)}, check="lighting", days=1),
    ]
    expected = decide(a_policy(*rules), a_candidate(), given_, at=NOON)
    chance.shuffle(given_)
    assert decide(a_policy(*rules), a_candidate(), iter(given_), at=NOON) == expected
    assert expected.outcome == "rejected"


def test_a_harmed_slice_is_named_only_if_it_stands_out_from_its_family():
    """One slice in twenty is at p = 0.03 by chance; at p = 0.001 it is not by chance."""
    rule = a_rule(slices=EACH)
    quiet = {str(number): a_loss(0.0, p=0.5) for number in range(19)}
    for p, verdict in ((0.03, "unknown"), (0.001, "violated")):
        evidence = an_evidence(losses(**quiet, odd=measured(0.07, 0.01, 0.13, p=p)))
        (finding,) = decide(a_policy(rule), a_candidate(), [evidence], at=NOON).findings
        assert (finding.slice, finding.verdict, finding.adjusted_p) == ("kind=odd", verdict, pytest.approx(20 * p))


def test_rules_of_one_family_share_the_correction():
    both = [a_rule(rule=name, slices=f"kind={name}", family="all") for name in "ab"]
    evidence = an_evidence(losses(a=measured(0.07, 0.01, 0.13, p=0.03), b=a_loss(0.0, p=0.04)))
    decision = decide(a_policy(*both), a_candidate(), [evidence], at=NOON)
    assert [item.adjusted_p for item in decision.judgements] == [0.06, 0.06]
    assert [item.verdict for item in decision.judgements] == ["unknown", "met"]


def test_an_unknown_says_how_many_images_would_decide_it():
    """Told so many images, four in five candidates of this kind are shown to lose less than the limit."""
    rule = a_rule(at_most=0.025)
    evidence = an_evidence(losses(overall=measured(0.0, -0.026, 0.026, 200, lost=5, won=5, p=0.6)))
    (finding,) = decide(a_policy(rule), a_candidate(), [evidence], at=NOON).findings
    needed = int(finding.words.rpartition("about ")[2].partition(" ")[0])
    drawn = np.random.default_rng(1).multinomial(needed, [0.025, 0.025, 0.95], size=4000)
    assert (tango(drawn[:, 0], drawn[:, 1], needed, 0.05).high <= 0.025).mean() == pytest.approx(0.8, abs=0.02)
    on_the_limit = an_evidence(losses(overall=measured(0.025, 0.0, 0.05, 200, p=0.06)))
    (finding,) = decide(a_policy(rule), a_candidate(), [on_the_limit], at=NOON).findings
    assert finding.words.endswith("wanted; too near the limit for any number of images at hand")
    near = an_evidence(losses(overall=measured(0.024, -0.001, 0.05, 200, lost=8, won=3, p=0.06)))
    (finding,) = decide(a_policy(rule), a_candidate(), [near], at=NOON).findings
    assert finding.words.endswith("too near the limit for any number of images at hand")
