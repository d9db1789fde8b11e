"""The incumbent is what is released now; looks are kept; evidence that grew too old is measured again."""

from __future__ import annotations

from auditsvc.records import Evidence, Release, Revocation, Rule
from auditsvc.records.eligibility import HoldoutUse
from auditsvc.services.decisions import incumbent_named, incumbent_of, judge
from auditsvc.services.measurement import measure_candidate
from tests.contracts.sample import a_candidate, a_digest
from tests.fakes import NOON, MemoryLedger
from tests.services.line import policy


def a_release(candidate, number):
    return Release(model=candidate.model, version=str(number), candidate=candidate.digest, decision=a_digest(number),
                   approvals=(), files=candidate.files, attestations=(), at=NOON)  # fmt: skip


def test_the_incumbent_is_the_newest_release_that_stands_and_never_the_candidate_itself():
    ledger, first, second, own = MemoryLedger(), a_candidate(2), a_candidate(3), a_candidate()
    ledger.append(first, second, own, actor="ann")
    assert incumbent_of(own, ledger) is None
    releases = [a_release(one, number) for number, one in enumerate((first, second, own))]
    ledger.append(*releases, actor="ann")
    assert incumbent_of(own, ledger).candidate == second
    revoked = Revocation(release=releases[1].digest, reason="bad", requested_by="a", confirmed_by="b", at=NOON)
    ledger.append(revoked, actor="ann")
    assert incumbent_of(own, ledger).candidate == first
    assert incumbent_named(second.digest, ledger).candidate == second
    assert incumbent_named(a_digest(9), ledger) is None is incumbent_named(None, ledger)


def test_judging_again_is_no_new_look(line):
    ctx, _, candidate, dataset = line
    evidence = measure_candidate(ctx, candidate, policy(), dataset)
    for days in (0, 1):
        ctx.clock.forward(days=days)
        judge(ctx, candidate, policy(), evidence)
    assert [use.candidate for use in ctx.ledger.all(HoldoutUse)] == [candidate.digest]


def test_a_rule_against_the_incumbent_waits_until_something_is_released(line):
    ctx, _, candidate, dataset = line
    against = Rule(rule="no-worse", reading="accuracy/score.clean", of="incumbent", at_least=-0.9, why="a test")
    rules = policy(rules=(*policy().rules, against))
    evidence = measure_candidate(ctx, candidate, rules, dataset)
    assert "nothing is released yet" in judge(ctx, candidate, rules, evidence).notes[-1]
    other = candidate.model_copy(update={"card": {"parameters": 1.0}})
    (found,) = evidence
    theirs = found.model_copy(update={"key": found.key.model_copy(update={"candidate": other.digest})})
    ctx.ledger.append(other, theirs, a_release(other, 1), actor="test")
    decision = judge(ctx, candidate, rules, evidence)
    assert (decision.incumbent, decision.outcome) == (other.digest, "approved")


def test_evidence_that_grew_too_old_is_measured_again(line):
    ctx, _, candidate, dataset = line
    measure_candidate(ctx, candidate, policy(), dataset)
    measure_candidate(ctx, candidate, policy(), dataset)
    assert len(ctx.ledger.find(Evidence, candidate.digest)) == 1
    ctx.clock.forward(days=policy().max_age_days + 1)
    evidence = measure_candidate(ctx, candidate, policy(), dataset)
    assert len(ctx.ledger.find(Evidence, candidate.digest)) == 2
    assert judge(ctx, candidate, policy(), evidence).outcome == "approved"
