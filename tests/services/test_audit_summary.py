"""A decision on one screen: worst first, by rule, what would settle it, and nothing untrue."""

from __future__ import annotations

from typing import Any

from auditsvc.gate import decide
from auditsvc.records import EACH, OVERALL, Decision, Evidence, Policy, Unmeasured
from auditsvc.services.audit_summary import findings_by_rule, long_summary, short_summary
from tests.contracts.sample import a_candidate
from tests.fakes import NOON
from tests.gate.sample import SHOES, Outcomes, a_loss, a_policy, a_rule, an_evidence, losses, measured

CLEAN: Outcomes = {
    ("score.clean", OVERALL): measured(0.9, 0.88, 0.92),
    ("parent.clean", OVERALL): measured(0.95, 0.9, 1.0),
}
EACH_SLICE = a_rule(rule="slices", slices=EACH, min_images=100, below_minimum="warn")


def summary(policy: Policy, outcomes: Outcomes, **more: Any) -> tuple[Decision, list[str], list[str]]:
    evidence: Evidence = an_evidence(outcomes)
    decision = decide(policy, a_candidate(), [evidence], at=NOON)
    texts = [list(form(decision, policy, [evidence], "m version 2", **more)) for form in (short_summary, long_summary)]
    return decision, texts[0], texts[1]


def test_a_rejection_names_the_worst_slice_of_each_rule_and_how_many_more() -> None:
    found = CLEAN | losses(overall=a_loss(0.05), a=a_loss(0.2, 0.02), b=a_loss(0.3, 0.02), c=a_loss(0.01, 0.02))
    decision, short, long = summary(a_policy(a_rule(rule="all", at_most=0.01), EACH_SLICE), found)
    assert (decision.outcome, short[0]) == (
        "rejected", f"rejected: m version 2 on 900 images of {SHOES.name}, policy test version 1"
    )  # fmt: skip
    assert short[1] == "  accuracy     90.0 % (88.0 to 92.0); its parent 95.0 %; loses 5.0 points (4.0 to 6.0)"
    assert short[2] == (
        "  violated     slices: loses 30.0 points (28.0 to 32.0) on kind=b, 500 images; at most +5.0 wanted; "
        "and 1 more of this rule"
    )
    assert short[3].startswith("  violated     all: loses 5.0 points (4.0 to 6.0) on all images")
    assert len(short) == 5 and "settle" not in "".join(short)
    assert sum(line.startswith("    accuracy/") for line in long) == len(decision.findings) == 3


def test_what_is_unknown_says_how_many_images_would_settle_it() -> None:
    found = CLEAN | losses(overall=a_loss(0.0, 0.001), a=a_loss(0.03, 0.03, 200), b=a_loss(0.0499, 0.03, 200))
    decision, short, _ = summary(a_policy(EACH_SLICE), found)
    assert decision.outcome == "inconclusive"
    settled = [line for line in short if line.startswith("  would settle")]
    words = next(item.words for item in decision.findings if item.slice == "kind=a")
    assert len(settled) == 1 and "images of kind=a" in settled[0]
    assert settled[0].split("about ")[1].split()[0] == words.split("about ")[1].split()[0]
    assert [line for line in short if line.startswith("  too near")] == [
        "  too near     the limit for more images to settle it: kind=b"
    ]


def test_small_slices_are_told_from_rules_that_only_warn() -> None:
    """A rule that warns on all images is not a slice that is too small."""
    warns = a_rule(rule="floor", reading="accuracy/score.clean", at_least=0.95, severity="warn")
    small = Unmeasured(reason="too few", images=20)
    found = CLEAN | losses(overall=a_loss(0.0), a=a_loss(0.0), b=small)
    decision, short, _ = summary(a_policy(EACH_SLICE, warns), found)
    assert decision.outcome == "approved"
    assert [line.partition(":")[0] for line in short if "floor" in line] == ["  violated     floor (warning)"]
    assert "  not judged   too few images: kind=b (20)" in short
    assert not any("too few" in line and "all images" in line for line in short)


def test_a_gain_is_called_a_gain_and_crashes_are_named() -> None:
    found = CLEAN | losses(overall=measured(-0.02, -0.03, -0.01))
    _, short, long = summary(a_policy(), found, crashed=["lighting"])
    assert short[1].endswith("gains 2.0 points (1.0 to 3.0)")
    assert short[-1] == long[-1] == "  crashed      the check lighting; its rules are unknown"


def test_findings_are_grouped_by_rule_blocking_violations_first() -> None:
    warn = a_rule(rule="warn", at_most=0.0001, severity="warn")
    found = CLEAN | losses(overall=a_loss(0.1), a=a_loss(0.04, 0.02), b=a_loss(0.3))
    policy = a_policy(warn, EACH_SLICE, a_rule(rule="all"))
    decision, _, _ = summary(policy, found)
    groups = findings_by_rule(decision, policy)
    assert [(group.rule.rule, group.worst.verdict, group.worst.slice) for group in groups] == [
        ("slices", "violated", "kind=b"), ("all", "violated", OVERALL), ("slices", "unknown", "kind=a"),
        ("warn", "violated", OVERALL),
    ]  # fmt: skip
