"""The transcript of a verification: every step, what was seen, and what follows from all of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from auditsvc.provenance.strict import Fault
from auditsvc.records import Moment, Step, Verification, VerificationVerdict

_OPEN = frozenset({"STALE_TRUST", "TRUST_ROLLBACK"})
"""Codes that say: nothing is known to be wrong, but not enough is known."""


@dataclass
class Seen:
    """What a step that held has to tell."""

    detail: str = "holds"


@dataclass
class Transcript:
    """Collects steps; a step that fails does not stop those that don't need it."""

    steps: list[Step] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @contextmanager
    def step(self, name: str) -> Iterator[Seen]:
        """Run one step: a ``Fault`` inside fails it, anything else is not for the transcript."""
        seen = Seen()
        try:
            yield seen
        except Fault as fault:
            self.failed(name, [fault])
        else:
            self.held(name, seen.detail)

    def held(self, name: str, detail: str) -> None:
        """A step that holds."""
        self.steps.append(Step(step=name, code="OK", ok=True, detail=detail))

    def failed(self, name: str, faults: Iterable[Fault]) -> None:
        """A step that does not hold, with every reason."""
        self.steps += (Step(step=name, code=fault.step_code, ok=False, detail=fault.detail) for fault in faults)

    def note(self, words: str) -> None:
        """A true limit of what was checked."""
        if words not in self.notes:
            self.notes.append(words)

    def verification(self, at: Moment) -> Verification:
        """What follows: anything wrong is ``INVALID``, then ``REVOKED``, then ``UNKNOWN``, else ``VALID``."""
        codes = {step.code for step in self.steps if not step.ok}
        verdict: VerificationVerdict = "VALID"
        if not self.steps or codes - _OPEN - {"REVOKED"}:
            verdict = "INVALID"
        elif "REVOKED" in codes:
            verdict = "REVOKED"
        elif codes:
            verdict = "UNKNOWN"
        return Verification(verdict=verdict, as_of=at, steps=tuple(self.steps), notes=tuple(self.notes))
