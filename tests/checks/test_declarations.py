"""Checks declare what they measure; the gate, the plan and reports read the declarations and never a name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from auditsvc.checks import all_checks
from auditsvc.compliance.assessment.evidence_status import RECORDED, covered, topics_of, untested
from auditsvc.compliance.assessment.framework import load_vocabulary
from auditsvc.evaluation import Check, EvalContext
from auditsvc.gate import decide
from auditsvc.records import (
    CLEAN_CONDITION,
    OVERALL,
    Condition,
    Evidence,
    Family,
    Metric,
    Reading,
    digest_of,
    metric_of,
    paired_metrics,
)
from auditsvc.resources import resource_dir
from tests.contracts.sample import a_candidate
from tests.fakes import NOON
from tests.gate.sample import a_policy, a_rule, an_evidence, measured

PACKAGE = Path(__file__).parents[2] / "auditsvc"


class Outside(Check):
    """A check from outside: counts cells and claims nothing, though its name would suggest a lot."""

    id = "blood-count"
    version = 1

    def conditions(self) -> tuple[Condition, ...]:
        return ()

    def metrics(self) -> tuple[Metric, ...]:
        return (
            Metric(id="remembered", kind="quantity", unit="cells", better="higher", title="cells remembered"),
            Metric(id="regression", kind="difference", unit="points", better="lower", role="loss", title="lost cells"),
        )  # fmt: skip

    def measure(self, case: EvalContext) -> Iterator[Reading]:
        yield from ()


class Remember(Outside):
    """The same under another suggestive name, with one topic."""

    id = "remember"
    topics = frozenset({"env.energy"})


def run_of(check: Check, **outcomes) -> Evidence:
    found = {(metric, OVERALL): outcome for metric, outcome in outcomes.items()}
    made = an_evidence(found, check=check.id, parameters=check.parameters())
    return made.model_copy(update={"declared": check.declarations()})


def test_a_check_from_outside_covers_only_the_topics_that_it_declares():
    quiet = run_of(Outside(), remembered=measured(5, 4, 6))
    assert covered((quiet,)) == frozenset() and topics_of(quiet) == ()
    assert {"images outside its use", "privacy"} <= set(untested((quiet,)))
    claimed = run_of(Remember(), remembered=measured(5, 4, 6))
    assert covered((claimed,)) == {"env.energy"} and "privacy" in untested((claimed,))
    assert "speed" in untested((claimed,)) and "speed" not in untested((claimed,), timed=True)


@pytest.mark.parametrize("name", ["blood-count", "remember", "membership-inference", "adversarial-training", "ood"])
def test_a_name_claims_no_coverage_in_old_evidence_either(name):
    old = an_evidence({("score.clean", OVERALL): measured(0.9, 0.8, 0.95)}, check=name)
    assert old.declared is None and covered((old,)) == frozenset()


def test_a_clean_score_claims_no_accuracy_and_no_fairness_unless_it_is_declared():
    made = an_evidence({("score.clean", name): measured(0.9, 0.8, 0.95) for name in (OVERALL, "kind=a")}, check="x")
    made = made.model_copy(update={"declared": Outside().declarations()})
    assert covered((made,)) == frozenset()


def test_groups_are_covered_only_where_a_group_was_measured():
    overall = an_evidence({("score.clean", OVERALL): measured(0.9, 0.8, 0.95)})
    both = an_evidence({("score.clean", name): measured(0.9, 0.8, 0.95) for name in (OVERALL, "kind=a")})
    assert "fairness.slices" not in covered((overall,)) and "perf.accuracy" in covered((overall,))
    assert "fairness.slices" in covered((both,))


def test_the_gate_judges_a_declared_loss_as_a_loss_whatever_its_name():
    """The estimate is over the limit and the loss is shown: violated for a loss, unknown for any other number."""
    rule = a_rule(rule="cells", reading="blood-count/regression", at_most=0.05)
    declared = run_of(Outside(), regression=measured(0.06, 0.02, 0.09))
    anonymous = declared.model_copy(update={"declared": None})
    for evidence, verdict, words in ((declared, "violated", "+6.0 points"), (anonymous, "unknown", "0.06 (")):
        (judgement,) = decide(a_policy(rule), a_candidate(), [evidence], at=NOON).judgements
        assert judgement.verdict == verdict and words in judgement.words


def test_a_decision_is_the_same_from_stored_evidence():
    rule = a_rule(rule="cells", reading="blood-count/regression", at_most=0.05)
    evidence = run_of(Outside(), regression=measured(0.06, 0.02, 0.09))
    again = Evidence.parse(evidence.canonical())
    assert again == evidence and again.digest == evidence.digest
    one, other = (decide(a_policy(rule), a_candidate(), [item], at=NOON) for item in (evidence, again))
    assert one.digest == other.digest


def test_evidence_without_declarations_keeps_its_bytes():
    old = an_evidence({("drop.clean", OVERALL): measured(0.0, -0.01, 0.01)})
    assert b"declared" not in old.canonical() and digest_of(old.canonical()) == old.digest
    assert Evidence.parse(old.canonical()) == old


@pytest.mark.parametrize("name", sorted(all_checks()))
def test_every_shipped_check_declares_known_topics_and_distinct_metrics(name):
    check = all_checks()[name]()
    declared = check.declarations()
    assert declared.topics and set(declared.topics) <= set(load_vocabulary(resource_dir("policies")).evidence)
    ids = [metric.id for metric in declared.metrics]
    assert len(ids) == len(set(ids)) and ids
    known = {condition.name for condition in declared.conditions}
    assert {metric.condition for metric in declared.metrics if metric.condition} <= known
    assert {one.family for one in declared.conditions if one.family} <= {family.name for family in declared.families}


def test_every_automatic_kind_of_evidence_has_a_producer():
    """What nothing shipped measures is called ``outside`` in the vocabulary, and listed in the limits."""
    kinds = load_vocabulary(resource_dir("policies")).evidence
    produced = set(RECORDED).union(*(check.topics for check in all_checks().values()))
    assert {kind for kind, one in kinds.items() if one.source == "automatic"} <= produced
    limits = (PACKAGE / "guide" / "limits.md").read_text()
    assert [kind for kind, one in kinds.items() if one.source == "outside" and f"`{kind}`" not in limits] == []


def test_a_family_names_its_conditions():
    light = Family(name="exposure", title="Exposure", axis="EV", words="exposure {} EV", signed=True, suffix="EV")
    dark, same = light.condition(-2), light.condition(0)
    assert (dark.name, dark.words, dark.severity) == ("exposure@-2EV", "exposure −2 EV", -2)
    assert (same.name, same.words) == ("exposure@+0EV", "exposure 0 EV")
    area = Family(name="hide", title="Hidden", axis="share", words="{} % hidden", percent=True)
    assert (area.condition(0.25).name, area.condition(0.25).words) == ("hide@0.25", "25 % hidden")
    assert [one.id for one in paired_metrics((CLEAN_CONDITION,))] == ["score.clean", "parent.clean", "drop.clean"]


@pytest.mark.parametrize(
    ("name", "kind", "unit", "role"),
    [("drop.clean", "difference", "points", "loss"), ("score.dark@-2EV", "proportion", "%", "score"),
     ("parent.clean", "proportion", "%", "parent"), ("rise.cer", "difference", "points", "change"),
     ("flips", "proportion", "%", None), ("iou", "ratio", "%", None), ("tpr_difference", "difference", "points", None),
     ("log10_p", "quantity", "", None), ("droplet", "quantity", "", None)],
)  # fmt: skip
def test_a_name_from_before_declarations_means_what_it_meant(name, kind, unit, role):
    found = metric_of(name)
    assert (found.kind, found.unit, found.role) == (kind, unit, role)


def test_nothing_but_the_declarations_interprets_the_name_of_a_metric():
    """Names are interpreted in records/metric.py alone, for evidence from before checks declared their metrics."""
    guess = re.compile(
        r"""(startswith|removeprefix)\(["'(]*(drop|score|parent|rise)\.|metric\w*(\.metric)?\.partition\(["'][.@]"""
    )
    found = [
        f"{path.relative_to(PACKAGE)}:{number}"
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.relative_to(PACKAGE) != Path("records/metric.py")
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if guess.search(line)
    ]
    assert found == []
