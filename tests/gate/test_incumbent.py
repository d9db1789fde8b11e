"""Rules against the candidate that is released now: judged on the difference, and not at all while there is none."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from auditsvc.gate import decide
from auditsvc.records import OVERALL, Unmeasured, digest_of
from auditsvc.records.eligibility import Incumbent
from auditsvc.records.evidence import difference
from tests.contracts.sample import a_candidate
from tests.fakes import NOON
from tests.gate.sample import SHOES, a_policy, a_rule, an_evidence, measured

SCORE = ("score.clean", OVERALL)
AGAINST = a_rule(rule="no-worse", reading="accuracy/score.clean", of="incumbent", at_least=-0.02)
FLOOR = a_rule(rule="floor", reading="accuracy/score.clean", at_least=0.5)
POLICY = a_policy(FLOOR, AGAINST)
OLD = a_candidate(2)
BOOTS = SHOES.model_copy(update={"name": "boots", "digest": digest_of(b"boots")})


def judged(own, theirs, **key):
    evidence = an_evidence({SCORE: own})
    known = an_evidence({SCORE: theirs}, **({"candidate": OLD} | key))
    return decide(POLICY, a_candidate(), [evidence], incumbent=Incumbent(OLD, (known,)), at=NOON)


@pytest.mark.parametrize(
    ("own", "verdict"),
    [((0.95, 0.945, 0.955), "met"), ((0.94, 0.92, 0.96), "unknown"), ((0.85, 0.84, 0.86), "violated")],
)
def test_the_difference_is_judged_by_its_pessimistic_end(own, verdict):
    decision = judged(measured(*own), measured(0.95, 0.94, 0.96))
    line = decision.judgements[-1]
    assert (line.rule, line.verdict, decision.incumbent) == ("no-worse", verdict, OLD.digest)
    assert line.outcome.value == pytest.approx(own[0] - 0.95)
    assert line.against is not None and line.against != line.evidence
    assert "less the incumbent" in line.words and "-2.0 points wanted" in line.words


def test_while_nothing_is_released_the_rule_is_not_judged_and_the_decision_says_so():
    decision = decide(POLICY, a_candidate(), [an_evidence({SCORE: measured(0.9, 0.8, 0.95)})], at=NOON)
    assert decision.outcome == "approved"
    assert [line.rule for line in decision.judgements] == ["floor"]
    assert decision.notes == ("no-worse was not judged: nothing is released yet",)


def test_an_incumbent_without_evidence_that_counts_leaves_the_rule_unknown():
    found = judged(measured(0.95, 0.94, 0.96), measured(0.95, 0.94, 0.96), seed=8)
    assert found.outcome == "inconclusive"
    assert "of the incumbent" in found.findings[0].words and "seed" in found.findings[0].words
    elsewhere = judged(measured(0.95, 0.94, 0.96), measured(0.95, 0.94, 0.96), dataset=BOOTS)
    assert "of the incumbent: no evidence" in elsewhere.findings[0].words
    gone = judged(measured(0.95, 0.94, 0.96), Unmeasured(reason="no light"))
    assert "of the incumbent: no light" in gone.findings[0].words


def test_a_policy_that_compares_with_the_incumbent_alone_is_refused():
    with pytest.raises(ValidationError, match="no rule blocks"):
        a_policy(AGAINST)


def test_the_difference_of_two_numbers_is_as_wide_as_both_make_it():
    found = difference(measured(0.9, 0.87, 0.92), measured(0.8, 0.76, 0.83, 300))
    assert (found.value, found.images) == (pytest.approx(0.1), 300)
    assert found.low == pytest.approx(0.1 - (0.03**2 + 0.03**2) ** 0.5)
    assert found.high == pytest.approx(0.1 + (0.02**2 + 0.04**2) ** 0.5)
