"""The verification summary (VSA): the decision about a release, what it is based on, and who approved it.

The summary binds everything together: it lists the other attestations by the digest of their payload, and the records
in the same folder (the decision, the evidence, the trust policy) by their own digest.

Reference: SLSA (2025), "Verification Summary Attestation" v1.2.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, Field, ValidationError

from auditsvc.provenance.formats.predicates import RELEASE_FIELD, RELEASE_FIELD_0_1, as_text, resource_uri
from auditsvc.provenance.formats.strict_json import Fault
from auditsvc.records import AuditedData, Digest, Moment, Name, PastDecision, faults_of, person_key
from auditsvc.records.base import Value

SLSA_VERSION = "1.2"
_SHA256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class DigestSet(Value):
    """An in-toto digest set with SHA-256 only."""

    sha256: _SHA256


class Named(Value):
    """Something by name and digest."""

    name: Annotated[str, Field(min_length=1, max_length=300)]
    digest: DigestSet


class PolicyRef(Value):
    """The policy that was applied."""

    uri: str
    digest: DigestSet


class Verifier(Value):
    """The verifier and its software versions."""

    id: str
    version: dict[str, str] = {}


class ApprovalEntry(Value):
    """One approval: who, when, and the digest of the record."""

    approver: Name
    record: Digest
    at: Moment


CLOCK_SKEW = datetime.timedelta(minutes=5)
"""How far the clocks of signer and verifier may differ."""


class AppliedWaiver(Value):
    """One waiver: the rule, the person who takes responsibility, the reason, the last day."""

    rule: Name
    person: Name
    record: Digest
    reason: str
    until: datetime.date


class ReleaseField(Value):
    """The extension field of auditsvc in the summary.

    Releases of version 0.1 call ``signed_at`` ``sealed`` and ``files`` ``beside``; both are read."""

    model: Name
    version: str
    candidate: Digest
    decision: Digest
    submitter: Name
    approvals: tuple[ApprovalEntry, ...] = ()
    approvals_needed: Annotated[str, Field(pattern=r"^[0-9]$")] = "0"
    waivers: tuple[AppliedWaiver, ...] = ()
    terms: Digest | None = None
    """The terms that bind the decision; a release of version 0.1 has none."""
    data: tuple[AuditedData, ...] | None = None
    earlier: tuple[PastDecision, ...] | None = None
    """Other decisions on the candidate, of whatever policy and data."""
    signed_at: Annotated[Moment, Field(validation_alias=AliasChoices("signed_at", "sealed"))]
    files: Annotated[tuple[Named, ...], Field(validation_alias=AliasChoices("files", "beside"))] = ()


class Summary(Value):
    """The predicate of a verification summary."""

    verifier: Verifier
    time_verified: Annotated[Moment, Field(alias="timeVerified")]
    resource_uri: Annotated[str, Field(alias="resourceUri")]
    policy: PolicyRef
    inputs: Annotated[tuple[Named, ...], Field(alias="inputAttestations")]
    result: Annotated[Literal["PASSED", "FAILED"], Field(alias="verificationResult")]
    levels: Annotated[tuple[str, ...], Field(alias="verifiedLevels", min_length=1)]
    slsa_version: Annotated[str, Field(alias="slsaVersion")] = SLSA_VERSION
    release: Annotated[
        ReleaseField,
        Field(
            validation_alias=AliasChoices(RELEASE_FIELD, RELEASE_FIELD_0_1, "release"),
            serialization_alias=RELEASE_FIELD,
        ),
    ]

    model_config = {"populate_by_name": True}

    def predicate(self) -> dict[str, Any]:
        """As JSON data, with every number as a decimal string."""
        fields: dict[str, Any] = as_text(self.model_dump(mode="json", by_alias=True, exclude_none=True))
        return fields

    @classmethod
    def parse(cls, predicate: Any) -> Summary:
        """Read the predicate of a verification summary.

        Raises:
            Fault: ``SUMMARY``, with every fault.
        """
        if not isinstance(predicate, Mapping):
            raise Fault("SUMMARY", "the summary is not an object")
        try:
            return cls.model_validate(predicate)
        except ValidationError as error:
            raise Fault("SUMMARY", "; ".join(faults_of(error))[:1000]) from error

    def check_consistent(self) -> None:
        """The summary agrees with itself.

        Raises:
            Fault: ``VERIFIER``, ``RESOURCE``, ``SUMMARY``.
        """
        if self.slsa_version != SLSA_VERSION:
            raise Fault("VERIFIER", f"the summary is of SLSA {self.slsa_version[:100]}, not {SLSA_VERSION}")
        if self.resource_uri != resource_uri(self.release.model, self.release.version):
            raise Fault("RESOURCE", "the summary names two different model versions")
        names = [item.name for item in self.inputs]
        files = [item.name for item in self.release.files]
        if len(set(names)) != len(names) or len(set(files)) != len(files):
            raise Fault("SUMMARY", "an attestation or a file is listed twice")

    def check_passed(self) -> None:
        """The decision was to approve.  Raises ``Fault`` (``NOT_PASSED``)."""
        if self.result != "PASSED" or "FAILED" in self.levels:
            raise Fault("NOT_PASSED", "the decision was not to release")

    def check_approvals(self) -> None:
        """Enough people approved who neither submitted it nor waived a rule.  Raises ``Fault`` (``APPROVALS``)."""
        waived = {person_key(waiver.person) for waiver in self.release.waivers}
        people = {person_key(entry.approver) for entry in self.release.approvals} - waived
        needed = max(1, int(self.release.approvals_needed))
        if person_key(self.release.submitter) in people:
            raise Fault("APPROVALS", f"{self.release.submitter} submitted and approved")
        if len(people) < needed:
            but = " (who waived a rule doesn't count)" if waived else ""
            raise Fault("APPROVALS", f"{len(people)} people approved; {needed} must{but}")

    def check_time(self, at: Moment) -> str:
        """It was signed before this time, and every waiver holds then; the detail of the step.

        Raises:
            Fault: ``NOT_YET_SIGNED`` or ``WAIVER_ENDED``.
        """
        signed = self.release.signed_at
        if at < signed - CLOCK_SKEW:
            raise Fault("NOT_YET_SIGNED", f"it was signed at {signed.isoformat()}, after the time of this verification")
        ended = [one for one in self.release.waivers if one.until < at.date()]
        if ended:
            words = "; ".join(f"of {one.rule} by {one.person} on {one.until}" for one in ended)
            raise Fault("WAIVER_ENDED", f"a waiver that the decision needs ended: {words}")
        last = min((one.until for one in self.release.waivers), default=None)
        return f"signed at {signed.isoformat()}" + (f"; the first waiver ends on {last}" if last else "")
