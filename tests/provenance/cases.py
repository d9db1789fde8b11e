"""The negative cases: each an attack or an accident, numbered as in the design, with the code it must give.

``CASES`` maps the number to its variants.  A case takes a forge, does its harm, and returns what the
verifier found; the codes of all reasons must be exactly those that the case names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from auditsvc.provenance.formats.strict_json import Fault
from auditsvc.records import Step, Verification
from tests.provenance.forge import Forge
from tests.provenance.sample import AT

Harm = Callable[[Forge], "Verification | None"]


@dataclass(frozen=True)
class Case:
    number: int
    title: str
    codes: frozenset[str]
    verdict: str
    harm: Harm
    needs: str = ""

    def run(self, folder: Path) -> Verification:
        """Seal a release, harm it, verify it."""
        forge = Forge(folder)
        found = self.harm(forge)
        return forge.verify() if found is None else found


CASES: list[Case] = []


def case(number: int, title: str, *codes: str, verdict: str = "INVALID", needs: str = "") -> Callable[[Harm], Harm]:
    def register(harm: Harm) -> Harm:
        CASES.append(Case(number, title, frozenset(codes), verdict, harm, needs))
        return harm

    return register


def caught(check: Callable[[], object]) -> Verification:
    """The verification that a refusal outside ``verify`` amounts to."""
    try:
        check()
    except Fault as fault:
        step = Step(step="check", code=fault.step_code, ok=False, detail=fault.detail)
        return Verification(verdict="INVALID", as_of=AT, steps=(step,))
    return Verification(verdict="VALID", as_of=AT, steps=())


def all_cases() -> Iterator[Case]:
    """Every case, in order."""
    from tests.provenance import (  # noqa: F401 - importing them registers their cases
        cases_attestations,
        cases_envelope,
        cases_files,
        cases_keys,
        cases_log,
        cases_statements,
        cases_trust,
    )

    yield from sorted(CASES, key=lambda item: item.number)
