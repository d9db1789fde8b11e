"""A dry run judges everything again under another policy, and changes nothing."""

from __future__ import annotations

from auditsvc.gate import decide
from auditsvc.records import Submission
from auditsvc.services.decisions import backtest
from tests.contracts.sample import a_candidate
from tests.fakes import NOON
from tests.fakes.ledger import MemoryLedger
from tests.gate.sample import a_loss, a_policy, a_rule, an_evidence, losses


def a_ledger(loss):
    ledger, candidate = MemoryLedger(), a_candidate()
    evidence = an_evidence(losses(overall=a_loss(loss)))
    submission = Submission(candidate=candidate.digest, model="net", version="1", submitter="ann", at=NOON)
    decision = decide(a_policy(), candidate, [evidence], at=NOON)
    ledger.append(candidate, submission, evidence, a_policy(), decision, actor="ann")
    return ledger


def test_a_stricter_policy_turns_the_decisions_that_it_would():
    ledger = a_ledger(0.03)
    size = ledger.size()
    (same,) = backtest(a_policy(), ledger)
    (strict,) = backtest(a_policy(a_rule(at_most=0.01), version=2), ledger)
    assert (same.before, same.now, same.turned) == ("approved", "approved", False)
    assert (strict.now, strict.turned) == ("rejected", True)
    assert strict.reasons[0].startswith("loss: accuracy/drop.clean on overall: +3.0 points")
    assert ledger.size() == size


def test_evidence_with_other_pins_is_unknown_under_the_new_policy():
    (item,) = backtest(a_policy(seed=8), a_ledger(0.0))
    assert item.now == "inconclusive"
    assert "not of the seed" in item.reasons[0]


def test_only_the_model_that_was_asked_for_is_replayed():
    assert list(backtest(a_policy(), a_ledger(0.0), "other")) == []
