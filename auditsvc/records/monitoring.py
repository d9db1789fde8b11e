"""What a look at a release in use found: its files, its gate answer, and how it does on newer images."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from auditsvc.records.base import Digest, Moment, Name, Record, Text, Value
from auditsvc.records.decision import Judgement
from auditsvc.records.evidence import Measured, Unmeasured
from auditsvc.records.model import DatasetRef
from auditsvc.records.release import VerificationVerdict

Watched = Literal["steady", "worse", "unknown"]
"""``steady``: every blocking rule holds on the newer images too and nothing fell; ``worse``: something is broken;
``unknown``: a blocking rule can't be decided on so few images."""


class Change(Value):
    """One reading on the newer images against the same reading that the release rests on."""

    metric: str
    slice: str
    then: Measured
    now: Measured
    difference: Measured
    """``now`` less ``then``."""
    adjusted_p: Annotated[float, Field(ge=0, le=1)]
    """The chance of such a turn for the worse where there is none, after Holm's correction over all changes."""
    worse: bool


class Distance(Value):
    """How far the newer images are from those of the audit, as the parent sees them, and the chance of that."""

    baseline: Digest
    outcome: Annotated[Measured | Unmeasured, Field(discriminator="state")]
    p: Annotated[float, Field(ge=0, le=1)] | None = None


class Monitoring(Record):
    """One look at a release in use.  It moves nothing and judges no candidate: people decide what follows."""

    kind: ClassVar[str] = "monitoring"
    event: ClassVar[str] = "release.monitored"

    model: Name
    version: str
    release: Digest
    candidate: Digest
    policy: Digest
    """The part of the release's policy that was asked again, as a policy of its own."""
    dataset: DatasetRef
    evidence: tuple[Digest, ...]
    files: VerificationVerdict
    gate: Text
    judgements: tuple[Judgement, ...]
    changes: tuple[Change, ...]
    distance: Distance | None = None
    outcome: Watched
    reasons: tuple[Text, ...] = ()
    person: Name
    at: Moment

    def subjects(self) -> tuple[str, ...]:
        """Found by the model's name, the release and the candidate."""
        return (self.model, self.release, self.candidate)
