"""Evidence that does not count leaves its rules unknown, says why, and blocks."""

from __future__ import annotations

import pytest

from auditsvc.gate import decide
from auditsvc.records import EACH, OVERALL, CheckSpec, DatasetRef, Unmeasured, digest_of
from tests.contracts.sample import a_candidate, a_digest
from tests.fakes import NOON
from tests.gate.sample import SHOES, a_loss, a_policy, a_rule, an_evidence, losses

GOOD = losses(overall=a_loss(0.0))
HATS = DatasetRef(**(SHOES.model_dump() | {"name": "hats", "digest": digest_of(b"hats")}))


def judged(policy, *evidence, at=NOON):
    return decide(policy, a_candidate(), evidence, at=at)


@pytest.mark.parametrize(
    ("changed", "why"),
    [({"candidate": a_candidate(1)}, "another candidate's"), ({"parent": a_digest(3)}, "another parent"),
     ({"version": 2}, "not of the version"), ({"parameters": {"steps": 1}}, "not of the parameters"),
     ({"parameters": {"steps": True}}, "not of the parameters"), ({"seed": 8}, "not of the seed"),
     ({"alpha": 0.2}, "not of the alpha"), ({"seed": 8, "alpha": 0.2}, "not of the seed and alpha"),
     ({"days": 91}, "older than 90 days"), ({"days": -1}, "from after this decision")],
)  # fmt: skip
def test_evidence_that_does_not_fit_is_unknown_and_says_why(changed, why):
    changed = {**changed}
    if "candidate" in changed:
        changed["candidate"] = changed["candidate"].digest
    decision = judged(a_policy(), an_evidence_with(**changed))
    assert decision.outcome == "inconclusive"
    assert why in decision.judgements[0].words
    assert decision.evidence == ()


def an_evidence_with(candidate=None, **changed):
    evidence = an_evidence(GOOD, **changed)
    if candidate is None:
        return evidence
    return evidence.model_copy(update={"key": evidence.key.model_copy(update={"candidate": candidate})})


def test_the_parents_evidence_is_not_the_candidates():
    parent = a_candidate().parent
    decision = judged(a_policy(), an_evidence_with(candidate=parent))
    assert decision.outcome == "inconclusive"
    assert "another candidate's" in decision.judgements[0].words


def test_no_evidence_at_all_is_unknown():
    assert [item.words for item in judged(a_policy()).judgements] == [
        "accuracy/drop.clean on overall: not known, no evidence of accuracy for this candidate; "
        "at most +5.0 points wanted"
    ]


def test_evidence_from_the_last_allowed_second_counts():
    assert judged(a_policy(), an_evidence(GOOD, days=90)).outcome == "approved"


def test_evidence_that_was_made_out_for_another_data_set_does_not_count():
    mixed = an_evidence(GOOD).model_copy(update={"dataset": HATS})
    assert "two different data sets" in judged(a_policy(), mixed).judgements[0].words


def test_a_data_set_that_the_policy_does_not_name_does_not_count():
    policy = a_policy(datasets=(HATS.digest,))
    assert "does not name" in judged(policy, an_evidence(GOOD)).judgements[0].words
    assert judged(policy, an_evidence(GOOD, dataset=HATS)).outcome == "approved"


def test_nobody_chooses_the_easier_data_set():
    policy = a_policy(a_rule(), a_rule(rule="dark", reading="lighting/drop.dark"))
    dark = {("drop.dark", OVERALL): a_loss(0.0)}
    same = judged(policy, an_evidence(GOOD), an_evidence(dark, check="lighting"))
    mixed = judged(policy, an_evidence(GOOD), an_evidence(dark, check="lighting", dataset=HATS))
    assert same.outcome == "approved"
    assert mixed.outcome == "inconclusive"
    assert "more than one data set" in mixed.judgements[0].words


def test_measuring_again_until_it_passes_changes_nothing():
    first, again = an_evidence(losses(overall=a_loss(0.2)), days=2), an_evidence(GOOD, days=1)
    decision = judged(a_policy(), again, first)
    assert (decision.outcome, decision.evidence) == ("rejected", (first.digest,))


def test_a_first_run_that_is_too_old_gives_way_to_a_later_one():
    old, fresh = an_evidence(losses(overall=a_loss(0.2)), days=100), an_evidence(GOOD, days=1)
    assert judged(a_policy(), old, fresh).outcome == "approved"


def test_newer_code_is_another_key_and_its_run_counts():
    old, newer = an_evidence(losses(overall=a_loss(0.2)), days=2), an_evidence(GOOD, days=1, code="0.2.0")
    assert judged(a_policy(), old, newer).outcome == "approved"


def test_a_reading_that_is_given_twice_is_no_reading():
    evidence = an_evidence(GOOD)
    twice = evidence.model_copy(update={"readings": (*evidence.readings, *an_evidence(
        losses(overall=a_loss(0.2))).readings)})  # fmt: skip
    decision = judged(a_policy(), twice)
    assert decision.outcome == "inconclusive"
    assert "more than once" in decision.judgements[0].words


def test_a_check_that_the_policy_does_not_run_leaves_its_rule_unknown():
    policy = a_policy(a_rule(reading="lighting/drop.dark"), checks={"accuracy": CheckSpec(version=1)})
    assert "does not run lighting" in judged(policy, an_evidence(GOOD)).judgements[0].words


def test_a_metric_that_was_not_given_is_unknown():
    policy = a_policy(a_rule(reading="accuracy/drop.dim*"))
    assert "gave no reading named drop.dim*" in judged(policy, an_evidence(GOOD)).judgements[0].words


def test_every_metric_that_a_pattern_names_is_judged():
    found = {("drop.a", OVERALL): a_loss(0.0), ("drop.b", OVERALL): a_loss(0.2), ("score.a", OVERALL): a_loss(0.9)}
    decision = judged(a_policy(a_rule(reading="accuracy/drop.*")), an_evidence(found))
    assert [(item.metric, item.verdict) for item in decision.judgements] == [
        ("accuracy/drop.a", "met"), ("accuracy/drop.b", "violated"),
    ]  # fmt: skip


def test_an_unmeasured_reading_keeps_its_reason():
    decision = judged(a_policy(), an_evidence(losses(overall=Unmeasured(reason="the lamp broke"))))
    assert decision.outcome == "inconclusive"
    assert "the lamp broke" in decision.judgements[0].words


def test_a_slice_that_one_check_leaves_out_is_known_from_the_others():
    policy = a_policy(a_rule(slices=EACH), a_rule(rule="dark", reading="lighting/drop.dark", slices=EACH,
                                                  min_images=100, below_minimum="warn"))  # fmt: skip
    clean = an_evidence(losses(overall=a_loss(0.0), a=a_loss(0.0), b=a_loss(0.0)))
    dark = an_evidence({("drop.dark", "kind=a"): a_loss(0.0)}, check="lighting")
    (finding,) = judged(policy, clean, dark).findings
    assert (finding.slice, finding.severity) == ("kind=b", "block")
    assert "gave no drop.dark for kind=b" in finding.words
