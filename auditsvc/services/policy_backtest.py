"""Back-test a policy: its decisions on every candidate judged so far.  It measures and stores nothing."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from auditsvc.gate import decide
from auditsvc.ports import Ledger
from auditsvc.records import Candidate, Decision, Evidence, Policy, Submission, Value, Waiver
from auditsvc.services.decisions import holdout_uses, incumbent_named, incumbent_of


class BacktestRow(Value):
    """One submitted candidate: what was decided, what this policy decides on the same evidence, and why."""

    model: str
    version: str
    data: str
    before: str
    under: str
    now: str
    reasons: tuple[str, ...]

    @property
    def turned(self) -> bool:
        """Whether the outcome is another one."""
        return self.before != self.now


def backtest(policy: Policy, ledger: Ledger, model: str | None = None) -> Iterator[BacktestRow]:
    """Every submission that was judged, oldest first, judged again as of the time of its newest decision.

    Evidence that was measured with other pins than this policy's does not count, and its rules are unknown:
    that is what would have to be measured first.
    """
    for submission in ledger.all(Submission):
        decisions = ledger.find(Decision, submission.candidate)
        if decisions and model in (None, submission.model):
            yield from _replayed(policy, submission, decisions[-1], ledger)


def _replayed(policy: Policy, submission: Submission, last: Decision, ledger: Ledger) -> Iterator[BacktestRow]:
    candidate = ledger.get(Candidate, submission.candidate)
    evidence = sorted(ledger.find(Evidence, candidate.digest), key=_data)
    waivers = ledger.find(Waiver, candidate.digest)
    incumbent = incumbent_named(last.incumbent, ledger) or incumbent_of(candidate, ledger)
    for (dataset, name), found in groupby(evidence, key=_data):
        looks = {dataset: holdout_uses(dataset, candidate.model, ledger)}
        decision = decide(
            policy, candidate, found, waivers=waivers, incumbent=incumbent, holdout_uses=looks, at=last.at
        )
        open_ones = (item for item in decision.findings if item.severity == "block" and item.waiver is None)
        yield BacktestRow(
            model=submission.model,
            version=submission.version,
            data=name,
            before=last.outcome,
            under=last.policy_name,
            now=decision.outcome,
            reasons=tuple(f"{item.rule}: {item.words}" for item in open_ones),
        )


def _data(evidence: Evidence) -> tuple[str, str]:
    return evidence.key.dataset, evidence.dataset.name
