"""Whole decisions and single fields of them, exactly: order, families, notes, ties, and the nearest miss."""

from __future__ import annotations

import datetime

import pytest

from auditsvc.gate import decide
from auditsvc.records import EACH, OVERALL, CheckSpec, Slicing, Unmeasured, digest_of
from auditsvc.records.eligibility import HoldoutUse, Incumbent, holdout_exhausted, holdout_note
from tests.contracts.sample import a_candidate
from tests.fakes import NOON
from tests.gate.sample import SHOES, a_loss, a_policy, a_rule, a_waiver, an_evidence, losses, measured

GOOD = losses(overall=a_loss(0.0))
OLD = a_candidate(2)
SCORE = ("score.clean", OVERALL)
AGAINST = a_rule(rule="no-worse", reading="accuracy/score.clean", of="incumbent", at_least=-0.02)
COMPARING = a_policy(a_rule(rule="floor", reading="accuracy/score.clean", at_least=0.5), AGAINST)


def judged(policy, *evidence, **more):
    return decide(policy, a_candidate(), evidence, at=NOON, **more)


def incumbent(outcomes, **key):
    return Incumbent(OLD, (an_evidence(outcomes, **({"candidate": OLD} | key)),))


def test_evidence_waivers_and_notes_are_in_order_whatever_was_given_first():
    names = [f"check-{number}" for number in range(16)]
    policy = a_policy(*(a_rule(rule=f"of-{name}", reading=f"{name}/drop.clean") for name in names))
    evidence = [
        an_evidence(losses(overall=a_loss(0.2 * (number % 2))), check=name) for number, name in enumerate(names)
    ]
    waivers = [a_waiver(policy, rule.rule) for rule in policy.rules]
    decision = judged(policy, *reversed(evidence), waivers=waivers)
    assert decision.outcome == "approved"
    assert decision.evidence == tuple(sorted(item.digest for item in evidence))
    assert decision.waivers == tuple(sorted(item.digest for item in waivers[1::2]))
    met = sorted(rule.rule for rule in policy.rules[::2])
    assert decision.notes == tuple(f"the waiver of {rule} is not needed: the rule is met" for rule in met)


def test_metrics_of_a_pattern_are_judged_in_the_order_of_their_names():
    found = {(f"drop.{letter}", OVERALL): a_loss(0.0) for letter in "qwertyuiopasdf"}
    decision = judged(a_policy(a_rule(reading="accuracy/drop.*")), an_evidence(found))
    assert [item.metric for item in decision.judgements] == [f"accuracy/drop.{one}" for one in sorted("qwertyuiopasdf")]


def test_rules_without_a_family_are_each_their_own():
    rules = [a_rule(rule=name, slices=f"kind={name}") for name in "ab"]
    evidence = an_evidence(losses(a=measured(0.07, 0.01, 0.13, p=0.03), b=a_loss(0.0, p=0.04)))
    assert [item.adjusted_p for item in judged(a_policy(*rules), evidence).judgements] == [0.03, 0.04]


def test_a_p_value_of_what_is_no_loss_is_not_tested():
    rule = a_rule(reading="watermark/flips", at_most=0.05)
    evidence = an_evidence({("flips", OVERALL): measured(0.06, 0.02, 0.09, p=0.001)}, check="watermark")
    (found,) = judged(a_policy(rule), evidence).judgements
    assert (found.verdict, found.adjusted_p) == ("unknown", None)


def test_a_loss_less_the_incumbents_is_violated_by_its_lower_end_alone():
    rules = a_policy(a_rule(at_most=0.5), a_rule(rule="no-worse", of="incumbent", at_most=0.05))
    own, theirs = losses(overall=measured(0.08, 0.05, 0.11, p=0.001)), losses(overall=measured(0.01, -0.01, 0.03))
    found = judged(rules, an_evidence(own), incumbent=incumbent(theirs)).judgements[-1]
    assert found.outcome.low > 0 and found.outcome.value > 0.05 > found.outcome.low
    assert (found.verdict, found.adjusted_p, found.bound) == ("unknown", None, "at_most")


def test_a_candidate_without_evidence_that_counts_is_compared_with_nothing():
    known = incumbent({SCORE: measured(0.95, 0.94, 0.96)})
    decision = judged(COMPARING, an_evidence({SCORE: measured(0.95, 0.94, 0.96)}, seed=8), incumbent=known)
    assert [(item.verdict, item.against, "not of the seed" in item.words) for item in decision.judgements] == [
        ("unknown", None, True)
    ] * 2
    assert (decision.notes, decision.incumbent) == (None, OLD.digest)


def test_a_reading_that_was_not_measured_is_not_blamed_on_the_incumbent():
    known = incumbent({SCORE: Unmeasured(reason="no light then")})
    decision = judged(COMPARING, an_evidence({SCORE: Unmeasured(reason="no light now")}), incumbent=known)
    assert "not known, no light now" in decision.judgements[-1].words
    assert decision.judgements[-1].against is None


def test_a_policy_that_compares_with_nothing_names_no_incumbent():
    decision = judged(a_policy(), an_evidence(GOOD), incumbent=incumbent(GOOD))
    assert (decision.incumbent, decision.notes) == (None, None)


@pytest.mark.parametrize(("below", "severity"), [("warn", "warn"), ("block", "block")])
def test_a_minimum_of_one_image_excuses_only_a_slice_without_any(below, severity):
    rule = a_rule(rule="hit", reading="attack/drop.hit", slices=EACH, min_images=1, below_minimum=below)
    hit = {("drop.hit", "kind=a"): Unmeasured(reason="not tried"), ("drop.hit", "kind=b"): a_loss(0.0, images=1)}
    clean = an_evidence(losses(overall=a_loss(0.0), a=a_loss(0.0, images=9), b=a_loss(0.0)))
    decision = judged(a_policy(a_rule(), rule), clean, an_evidence(hit, check="attack"))
    assert [(item.slice, item.severity) for item in decision.findings] == [("kind=a", severity)]


def test_a_small_slice_that_was_not_measured_keeps_its_reason():
    rule = a_rule(slices=(OVERALL, EACH), min_images=100, below_minimum="warn")
    evidence = an_evidence(losses(overall=a_loss(0.0), a=Unmeasured(reason="too dark", images=40)))
    (finding,) = judged(a_policy(rule), evidence).findings
    assert "not known, too dark; the rule judges slices of at least 100 images" in finding.words
    assert (finding.outcome.images, finding.severity, finding.evidence) == (40, "warn", evidence.digest)


def test_overall_is_not_excused_for_being_small_where_a_slice_is_not():
    rule = a_rule(slices=(OVERALL, EACH), min_images=100, below_minimum="warn")
    evidence = an_evidence(losses(overall=a_loss(0.0, images=50), a=a_loss(0.0, images=100)))
    (finding,) = judged(a_policy(rule), evidence).findings
    assert (finding.slice, finding.verdict, finding.severity) == (OVERALL, "unknown", "block")


def test_sizes_of_slices_come_from_the_evidence_of_the_same_data_set():
    boots = SHOES.model_copy(update={"name": "boots", "digest": digest_of(b"boots")})
    rules = (a_rule(slices=EACH), a_rule(rule="dark", reading="lighting/drop.dark"))
    policy = a_policy(*rules, datasets=(SHOES.digest, boots.digest))
    clean = an_evidence(losses(overall=a_loss(0.0), a=a_loss(0.0)))
    dark = {("drop.dark", OVERALL): a_loss(0.0), ("drop.dark", "kind=b"): a_loss(0.0)}
    elsewhere = judged(policy, clean, an_evidence(dark, check="lighting", dataset=boots))
    assert [item.slice for item in elsewhere.judgements] == ["kind=a", OVERALL]
    here = judged(policy, clean, an_evidence(dark, check="lighting"))
    assert [item.slice for item in here.judgements] == ["kind=a", "kind=b", OVERALL]


def test_a_metric_that_a_rule_names_and_no_reading_has_keeps_its_evidence_and_selectors():
    evidence = an_evidence(GOOD)
    rule = a_rule(reading="accuracy/drop.dim", slices=("kind=a", EACH), severity="warn")
    (found, _) = judged(a_policy(rule, a_rule(rule="other")), evidence).judgements
    assert (found.metric, found.slice, found.severity, found.evidence) == (
        "accuracy/drop.dim", "kind=a, each", "warn", evidence.digest,
    )  # fmt: skip


def test_of_two_waivers_in_force_the_one_that_ends_last_counts_and_ties_have_an_order():
    policy, evidence = a_policy(), an_evidence(losses(overall=a_loss(0.2)))
    short, long = (a_waiver(policy, days=days) for days in (5, 20))
    same = [a_waiver(policy, reason=f"reason {number}") for number in range(5)]
    for waivers, counts in (([short, long], long), (same, max(same, key=lambda one: one.digest))):
        for order in (waivers, waivers[::-1]):
            assert judged(policy, evidence, waivers=order).waivers == (counts.digest,)


def test_a_waiver_that_has_not_begun_and_one_that_ended_are_told_apart():
    policy = a_policy()
    late, over = NOON + datetime.timedelta(seconds=1), NOON.date() - datetime.timedelta(days=1)
    waivers = [a_waiver(policy, days=-1, at=late), a_waiver(policy, at=late)]
    decision = judged(policy, an_evidence(losses(overall=a_loss(0.2))), waivers=waivers)
    assert decision.notes == (
        f"the waiver of loss by bob ended on {over}",
        "the waiver of loss by bob is from after this decision",
    )


def test_the_nearest_miss_is_the_reason_in_any_order():
    other, old = an_evidence(GOOD, candidate=OLD), an_evidence(GOOD, days=91)
    for given in ((other, old), (old, other)):
        (found,) = judged(a_policy(), *given).judgements
        assert "the evidence of accuracy is older than 90 days" in found.words


def test_of_two_runs_that_finished_together_the_lower_digest_counts_in_any_order():
    runs = [an_evidence(losses(overall=a_loss(0.001 * number))) for number in range(6)]
    first = min(item.digest for item in runs)
    assert judged(a_policy(), *runs).evidence == judged(a_policy(), *runs[::-1]).evidence == (first,)


def test_the_policy_decides_between_data_sets_by_name_alone():
    boots = SHOES.model_copy(update={"name": "boots", "digest": digest_of(b"boots")})
    rules = (a_rule(), a_rule(rule="dark", reading="lighting/drop.dark"))
    given = (an_evidence(GOOD), an_evidence({("drop.dark", OVERALL): a_loss(0.0)}, check="lighting", dataset=boots))
    assert judged(a_policy(*rules, datasets=(SHOES.digest, boots.digest)), *given).outcome == "approved"
    mixed = judged(a_policy(*rules), *given)
    assert [item.words.partition("not known, ")[2].partition(";")[0] for item in mixed.judgements] == [
        "the evidence is of more than one data set, and the policy does not say which one counts"
    ] * 2


def test_a_check_without_evidence_keeps_its_own_reason_where_data_sets_are_mixed():
    boots = SHOES.model_copy(update={"name": "boots", "digest": digest_of(b"boots")})
    rules = [a_rule(rule=name, reading=f"{name}/drop.clean") for name in ("a", "b", "c")]
    decision = judged(a_policy(*rules), an_evidence(GOOD, check="a"), an_evidence(GOOD, check="b", dataset=boots))
    assert "no evidence of c for this candidate" in decision.judgements[2].words


def test_a_check_of_an_earlier_stage_is_named():
    rules = (a_rule(), a_rule(rule="dark", reading="lighting/drop.dark"))
    policy = a_policy(*rules, stages=(0.5, 1.0))
    dark = an_evidence({("drop.dark", OVERALL): a_loss(0.0)}, check="lighting", alpha=policy.level, stage=100)
    whole = an_evidence(GOOD, alpha=policy.level)
    (clean, late) = judged(policy, whole, dark).judgements
    assert clean.verdict == "met"  # all images are a later stage than any number of them
    assert "the evidence of lighting is of an earlier stage than that of other checks" in late.words


def test_evidence_of_a_check_that_the_policy_does_not_name_is_left_out():
    stray = an_evidence(GOOD, check="stray")
    assert judged(a_policy(), stray, an_evidence(GOOD)).outcome == "approved"
    assert judged(a_policy(checks={"accuracy": CheckSpec(version=1)}), stray).outcome == "inconclusive"


def test_notes_on_reuse_are_exact():
    third, late = {SHOES.digest: 3}, {SHOES.digest: 41}
    assert holdout_note(a_policy(max_evaluations=3), third) == (
        "candidate 3 of the 3 that share alpha on these images",
    )
    assert holdout_note(a_policy(), third) == (
        "candidate 3 to be judged on these images: if all 3 were bad, one of them would pass a rule with a probability "
        "of up to 15 %; the policy does not spend alpha over them (spend_alpha)",
    )
    assert "of up to 100 %" in holdout_note(a_policy(), late)[0]
    assert holdout_exhausted(a_policy(max_evaluations=3), late) == (
        "this is candidate 41 to be judged on these images, and the policy allows max_evaluations: 3; "
        "judge it on other images"
    )
    assert holdout_exhausted(a_policy(), late) == ""


def test_the_largest_number_over_the_data_sets_counts():
    assert holdout_note(a_policy(max_evaluations=5), {"a": 1, "b": 3, "c": 1}) == (
        "candidate 3 of the 5 that share alpha on these images",
    )


def test_a_use_is_found_by_its_data_set_and_by_data_set_and_model():
    use = HoldoutUse(dataset=SHOES.digest, model="net", candidate=a_candidate().digest, at=NOON)
    assert use.subjects() == (SHOES.digest, f"{SHOES.digest}|net")


def test_a_judgement_that_is_met_asks_for_no_images_and_names_its_bound():
    rules = (a_rule(), a_rule(rule="floor", reading="accuracy/score.clean", at_least=0.5))
    found = judged(a_policy(*rules), an_evidence(GOOD | {SCORE: measured(0.9, 0.8, 0.95)})).judgements
    assert [(one.verdict, one.bound, one.limit) for one in found] == [
        ("met", "at_most", 0.05),
        ("met", "at_least", 0.5),
    ]
    assert [one.words.rpartition("; ")[2] for one in found] == ["at most +5.0 points wanted", "at least 50.0 % wanted"]


def test_a_waiver_that_begins_later_on_its_last_day_has_not_ended():
    policy = a_policy()
    waiver = a_waiver(policy, days=0, at=NOON + datetime.timedelta(hours=1))
    decision = judged(policy, an_evidence(losses(overall=a_loss(0.2))), waivers=[waiver])
    assert decision.notes == ("the waiver of loss by bob is from after this decision",)


def test_evidence_counts_under_exactly_the_slicing_of_the_policy():
    plain, sliced = a_policy(), a_policy(slicing=Slicing(classes=True))
    with_slices = an_evidence(GOOD, slicing=Slicing(classes=True).model_dump(mode="json"))
    assert judged(sliced, with_slices).outcome == judged(plain, an_evidence(GOOD)).outcome == "approved"
    for policy, evidence in ((sliced, an_evidence(GOOD)), (plain, with_slices)):
        assert "is not of the slicing that the policy pins" in judged(policy, evidence).judgements[0].words
