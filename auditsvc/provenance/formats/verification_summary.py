"""The decision about a release, as a SLSA verification summary: what it rests on, and who consented.

The summary ties everything together: it lists the other attestations by the digest of their payload,
and the files that lie beside them (the decision, the evidence, the trust policy) by their own.

Reference: SLSA (2025), "Verification Summary Attestation" v1.2.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from auditsvc.provenance.formats.predicates import RELEASE_FIELD, VERIFIER_ID, resource_uri
from auditsvc.provenance.formats.strict_json import Fault
from auditsvc.records import Digest, Moment, Name, faults_of
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
    """Who verified, with which software."""

    id: str
    version: dict[str, str] = {}


class Consent(Value):
    """One approval: who, when, and the digest of the record."""

    approver: Name
    record: Digest
    at: Moment


class AppliedWaiver(Value):
    """One waiver: which rule, who took it upon themselves, why, until when."""

    rule: Name
    person: Name
    record: Digest
    reason: str
    until: datetime.date


class ReleaseField(Value):
    """What auditsvc adds to the summary."""

    model: Name
    version: str
    candidate: Digest
    decision: Digest
    submitter: Name
    approvals: tuple[Consent, ...] = ()
    approvals_needed: Annotated[str, Field(pattern=r"^[0-9]$")] = "0"
    waivers: tuple[AppliedWaiver, ...] = ()
    sealed: Moment
    beside: tuple[Named, ...] = ()


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
    release: Annotated[ReleaseField, Field(alias=RELEASE_FIELD)]

    model_config = {"populate_by_name": True}

    def predicate(self) -> dict[str, Any]:
        """As JSON data."""
        fields: dict[str, Any] = self.model_dump(mode="json", by_alias=True)
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
        """What the summary says of itself fits together.

        Raises:
            Fault: ``VERIFIER``, ``RESOURCE``, ``SUMMARY``.
        """
        if self.verifier.id != VERIFIER_ID or self.slsa_version != SLSA_VERSION:
            raise Fault("VERIFIER", f"the summary is by {self.verifier.id[:100]}")
        if self.resource_uri != resource_uri(self.release.model, self.release.version):
            raise Fault("RESOURCE", "the summary names two different model versions")
        names = [item.name for item in self.inputs]
        beside = [item.name for item in self.release.beside]
        if len(set(names)) != len(names) or len(set(beside)) != len(beside):
            raise Fault("SUMMARY", "an attestation or a file is listed twice")

    def check_passed(self) -> None:
        """The decision was for release.  Raises ``Fault`` (``NOT_PASSED``)."""
        if self.result != "PASSED" or "FAILED" in self.levels:
            raise Fault("NOT_PASSED", "the decision was against the release")

    def check_consents(self) -> None:
        """Enough people consented, and the submitter is none of them.  Raises ``Fault`` (``APPROVALS``)."""
        people = {consent.approver.casefold() for consent in self.release.approvals}
        needed = max(1, int(self.release.approvals_needed))
        if self.release.submitter.casefold() in people:
            raise Fault("APPROVALS", f"{self.release.submitter} submitted and approved")
        if len(people) < needed:
            raise Fault("APPROVALS", f"{len(people)} people approved; {needed} must")
