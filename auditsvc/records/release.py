"""Releases, their revocation and rollback, and the results of verifying them."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from auditsvc.records.base import Digest, Moment, Name, Record, Text, Value
from auditsvc.records.decision import AuditedData, Outcome
from auditsvc.records.model import FileEntry

VerificationVerdict = Literal["VALID", "INVALID", "REVOKED", "UNKNOWN"]


class Release(Record):
    """Candidate, decision and approvals, signed.

    ``attestations`` are the signed envelopes, by file name inside the release's ``attest`` folder.
    """

    kind: ClassVar[str] = "release"
    event: ClassVar[str] = "release.created"

    model: Name
    version: str
    candidate: Digest
    decision: Digest
    approvals: tuple[Digest, ...]
    files: tuple[FileEntry, ...]
    attestations: tuple[FileEntry, ...]
    terms: Digest | None = None
    """The terms that bind the decision; a release of version 0.1 has none."""
    policy: Digest | None = None
    data: tuple[AuditedData, ...] | None = None
    at: Moment

    def subjects(self) -> tuple[str, ...]:
        """Found by candidate, by decision, by model and by ``model/version``, and by each file."""
        names = (self.model, f"{self.model}/{self.version}")
        return (self.candidate, self.decision, *names, *(file.digest for file in self.files))


class Alarm(Record):
    """A newer binding decision doesn't approve what is released.  The release stays the gate's answer: people revoke it
    or roll it back, two for each."""

    kind: ClassVar[str] = "alarm"
    event: ClassVar[str] = "release.alarm-raised"

    model: Name
    version: str
    release: Digest
    decision: Digest
    outcome: Outcome
    at: Moment

    def subjects(self) -> tuple[str, ...]:
        """Found by the release and by the model's name."""
        return (self.release, self.model)


class _AboutRelease(Record):
    """What one person requests about a release, and why."""

    release: Digest
    reason: Text
    requested_by: Name
    at: Moment

    def subjects(self) -> tuple[str, ...]:
        """Found by the release."""
        return (self.release,)


class RevocationRequest(_AboutRelease):
    """A person's request to revoke a release; pending until another person confirms it with a ``Revocation``."""

    kind: ClassVar[str] = "revocation-request"
    event: ClassVar[str] = "revocation.requested"


class Revocation(_AboutRelease):
    """A release that must no longer be used, and why; requested by one person, confirmed by another."""

    kind: ClassVar[str] = "revocation"
    event: ClassVar[str] = "release.revoked"

    confirmed_by: Name


class RollbackRequest(_AboutRelease):
    """A person's request to move the alias back to a release; pending until another person confirms it."""

    kind: ClassVar[str] = "rollback-request"
    event: ClassVar[str] = "rollback.requested"


class Rollback(_AboutRelease):
    """The alias returns to an earlier release, for real or as a rehearsal; requested by one person, confirmed
    by another.

    ``found`` is the version that carried the alias, ``version`` the one that was verified and carries it from then on.
    """

    kind: ClassVar[str] = "rollback"
    event: ClassVar[str] = "release.rolled-back"

    model: Name
    found: str | None = None
    version: str
    confirmed_by: Name
    rehearsal: bool
    took_ms: Annotated[int, Field(ge=0)]
    """From the question to a verified release that is ready to carry the alias."""

    @model_validator(mode="after")
    def _two_people(self) -> Self:
        if self.requested_by.lower() == self.confirmed_by.lower():
            raise ValueError(f"{self.requested_by} requested it and can't confirm it")
        return self

    def subjects(self) -> tuple[str, ...]:
        """Found by the model's name and by the release."""
        return (self.model, self.release)


class Retirement(Record):
    """A signing key that no longer counts, from which place in the log on, and why.

    The log's index is the clock: what was logged before ``log_size`` still holds, unless the key was in foreign hands
    (``compromised_since``), when nothing from that index on does.
    """

    kind: ClassVar[str] = "retirement"
    event: ClassVar[str] = "key.retired"

    role: Literal["build", "audit", "release"]
    pem: str
    log_size: Annotated[int, Field(ge=0)]
    compromised_since: Annotated[int, Field(ge=0)] | None = None
    reason: Text
    by: Name
    confirmed_by: Name | None = None
    """The second person; a record from before keys took two has none."""
    at: Moment

    def subjects(self) -> tuple[str, ...]:
        """Found by the role."""
        return (self.role,)


class AliasMove(Record):
    """The version that the registry's alias belongs to from now on (None: to none), and the record that says so."""

    kind: ClassVar[str] = "alias-move"
    event: ClassVar[str] = "alias.moved"

    model: Name
    alias: Name
    version: str | None = None
    because: Digest
    at: Moment

    def subjects(self) -> tuple[str, ...]:
        """Found by the model's name, and by what it follows from."""
        return (self.model, self.because)


class RegistryFinding(Record):
    """A comparison of a registered version with the candidate that was submitted as it: ``fault`` is what differs."""

    kind: ClassVar[str] = "registry-finding"
    event: ClassVar[str] = "model-version.compared"

    model: Name
    version: str
    candidate: Digest
    fault: Text | None = None
    """None: the version holds the candidate's files again."""
    at: Moment

    def subjects(self) -> tuple[str, ...]:
        """Found by ``model/version``."""
        return (f"{self.model}/{self.version}",)


class Step(Value):
    """One step of a verification: its stable code, whether it held, and what was seen."""

    step: str
    code: Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]*$")]
    ok: bool
    detail: str


class Verification(Value):
    """What an outsider finds.  ``VALID`` only if every step ran and held; every reason is listed."""

    verdict: VerificationVerdict
    as_of: Moment
    steps: tuple[Step, ...]
    notes: tuple[str, ...] = ()
    """True limits of what was checked, in words: what no step could look at."""

    @property
    def reasons(self) -> tuple[Step, ...]:
        """The steps that did not hold."""
        return tuple(step for step in self.steps if not step.ok)


class TraceMatch(Value):
    """A copy whose watermark was detected; ``log10_p`` is for this key alone."""

    model: str
    version: str
    recipient: str = ""
    standing: Literal["submitted", "released", "revoked"]
    z: float
    log10_p: float


class TraceResult(Value):
    """The result of a search for watermarks.  ``NO EVIDENCE`` never means that a model is not a copy.

    ``log10_p`` is corrected for the number of keys ``tried``; ``dispute`` says whether the match also holds against a
    claimant who could try keys by the billion; ``untried`` are the versions that could not be compared, and why.
    """

    verdict: Literal["MATCH", "INCONCLUSIVE", "NO EVIDENCE"]
    sentence: str
    log10_p: float
    tried: int
    dispute: bool
    matches: tuple[TraceMatch, ...] = ()
    untried: tuple[str, ...] = ()
