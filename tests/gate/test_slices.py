"""Small, empty and missing slices: never a pass, and never a place to hide a loss."""

from __future__ import annotations

from auditsvc.gate import decide
from auditsvc.records import EACH, OVERALL, Unmeasured
from tests.contracts.sample import a_candidate
from tests.fakes import NOON
from tests.gate.sample import a_loss, a_policy, a_rule, an_evidence, losses, measured

SOFT = a_rule(slices=EACH, min_images=100, below_minimum="warn")


def judged(rule, **by_slice):
    return decide(a_policy(rule), a_candidate(), [an_evidence(losses(**by_slice))], at=NOON)


def test_a_small_slice_is_unknown_at_its_own_severity():
    for severity, below, expected in (
        ("block", "warn", "warn"),
        ("block", "block", "block"),
        ("warn", "block", "warn"),
    ):
        rule = a_rule(rule="slices", slices=EACH, min_images=100, below_minimum=below, severity=severity)
        policy = a_policy(a_rule(), rule)
        evidence = an_evidence(losses(overall=a_loss(0.0), a=a_loss(0.0), b=a_loss(0.0, images=99)))
        (finding,) = decide(policy, a_candidate(), [evidence], at=NOON).findings
        assert (finding.slice, finding.verdict, finding.severity) == ("kind=b", "unknown", expected)
        assert "99 images; the rule judges slices of at least 100" in finding.words


def test_a_loss_that_even_a_small_slice_shows_blocks():
    decision = judged(SOFT, a=a_loss(0.0), b=measured(0.8, 0.5, 0.95, 20))
    (finding,) = decision.findings
    assert (finding.verdict, finding.severity, decision.outcome) == ("violated", "block", "rejected")


def test_cutting_the_images_into_slices_that_are_all_too_small_is_no_way_through():
    decision = judged(SOFT, a=a_loss(0.0, images=60), b=a_loss(0.0, images=60))
    assert decision.outcome == "inconclusive"
    assert {item.severity for item in decision.findings} == {"block"}


def test_overall_is_never_excused_for_being_small():
    decision = judged(a_rule(min_images=100, below_minimum="warn"), overall=a_loss(0.0, images=50))
    assert decision.outcome == "inconclusive"


def test_an_empty_slice_blocks():
    decision = judged(SOFT, a=a_loss(0.0), b=Unmeasured(reason="no image of this slice was tried"))
    (finding,) = decision.findings
    assert (finding.slice, finding.severity) == ("kind=b", "block")
    assert "the slice is empty" in finding.words


def test_a_slice_that_one_check_did_not_sample_is_small_there_and_not_empty():
    policy = a_policy(a_rule(), a_rule(rule="hit", reading="attack/drop.hit", slices=EACH, min_images=10,
                                       below_minimum="warn"))  # fmt: skip
    clean = an_evidence(losses(overall=a_loss(0.0), a=a_loss(0.0, images=9), b=a_loss(0.0)))
    hit = {("drop.hit", "kind=a"): Unmeasured(reason="no image of this slice was tried"),
           ("drop.hit", "kind=b"): a_loss(0.0)}  # fmt: skip
    decision = decide(policy, a_candidate(), [clean, an_evidence(hit, check="attack")], at=NOON)
    assert [(item.slice, item.severity) for item in decision.findings] == [("kind=a", "warn")]


def test_a_slice_that_the_evidence_lacks_stays_in_the_list():
    decision = judged(a_rule(slices=("kind=a", "kind=c")), a=a_loss(0.0), b=a_loss(0.0))
    assert [(item.slice, item.verdict) for item in decision.judgements] == [("kind=a", "met"), ("kind=c", "unknown")]


def test_each_is_every_slice_but_overall_and_unknown_where_there_is_none():
    decision = judged(a_rule(slices=EACH), overall=a_loss(0.0), a=a_loss(0.0), b=a_loss(0.0))
    assert [item.slice for item in decision.judgements] == ["kind=a", "kind=b"]
    assert judged(a_rule(slices=EACH), overall=a_loss(0.0)).outcome == "inconclusive"


def test_only_a_star_is_special_in_a_pattern():
    names = {"[0, 20)": a_loss(0.0), "[20, 40)": a_loss(0.2), "0": a_loss(0.0)}
    assert [item.slice for item in judged(a_rule(slices="kind=[0, 20)"), **names).judgements] == ["kind=[0, 20)"]
    assert [item.slice for item in judged(a_rule(slices="kind=[*"), **names).judgements] == [
        "kind=[0, 20)", "kind=[20, 40)",
    ]  # fmt: skip


def test_overlapping_selectors_judge_a_slice_once():
    decision = judged(a_rule(slices=(EACH, "kind=*", OVERALL)), overall=a_loss(0.0), a=a_loss(0.0))
    assert [item.slice for item in decision.judgements] == ["kind=a", OVERALL]
