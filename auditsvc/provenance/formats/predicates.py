"""In-toto statements about a release, built from records.

Each builder gives the canonical bytes of one statement, and the same records give the same bytes, so
that an interrupted signing run recognises its own output.  Numbers are decimal strings: readers that
turn JSON numbers into floats can't change them.

The verification summary (VSA) binds everything together: the decision about a release, what it is based on, and who
approved it.  It lists the other attestations by the digest of their payload, and the records in the same folder (the
decision, the evidence, the trust policy) by their own digest.

Reference: in-toto (2024), "Attestation Framework" v1; SLSA (2025), "Provenance" and "Verification
Summary Attestation" v1; in-toto, "test-result" v0.1.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, Field, ValidationError

from auditsvc.provenance.formats.manifest import OMS_TYPE, oms_predicate, oms_root, strip_prefix
from auditsvc.provenance.formats.strict_json import Fault, fields_of, list_of, parse_json, text_of
from auditsvc.records import (
    AuditedData,
    Candidate,
    Decision,
    Digest,
    Evidence,
    FileEntry,
    Judgement,
    Moment,
    Name,
    Parent,
    PastDecision,
    canonical_json,
    faults_of,
    person_key,
)
from auditsvc.records.base import Value

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PROVENANCE_TYPE = "https://slsa.dev/provenance/v1"
TEST_TYPE = "https://in-toto.io/attestation/test-result/v0.1"
BOM_TYPE = "https://cyclonedx.org/bom"
VSA_TYPE = "https://slsa.dev/verification_summary/v1"

PRUNE_TYPE = "urn:auditsvc:buildtype:prune:v1"
ADMIT_TYPE = "urn:auditsvc:buildtype:admit:v1"
RELEASE_FIELD = "urn:auditsvc:release:v1"
"""The field of the summary that carries approvals, waivers and the digests of the records."""

_BASE_0_1 = "https://auditsvc.example"
BUILDER_ID_0_1 = f"{_BASE_0_1}/builders/pruner/v1"
VERIFIER_ID_0_1 = f"{_BASE_0_1}/verifier/v1"
RELEASE_FIELD_0_1 = f"{_BASE_0_1}/ext/release/v1"
"""The names that version 0.1 wrote; releases that carry them still verify."""

WHOLE = "model:"
"""Before the model's name, where the subject is all of its files."""

_ADMITTED = frozenset({"parent", "task", "architecture"})
_PRUNED = _ADMITTED | {"method", "targets", "seed", "recovery"}
EXTERNAL = {
    PRUNE_TYPE: _PRUNED,
    ADMIT_TYPE: _ADMITTED,
    f"{_BASE_0_1}/buildtypes/prune/v1": _PRUNED,
    f"{_BASE_0_1}/buildtypes/admit/v1": _ADMITTED,
}
"""The build types and the external parameters of each; a verifier rejects any other."""

_HEX = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True)
class Statement:
    """A parsed statement: its subjects as (name, hexadecimal SHA-256), its type, its predicate."""

    predicate_type: str
    subject: tuple[tuple[str, str], ...]
    predicate: Any

    @classmethod
    def parse(cls, payload: bytes, expected_type: str) -> Statement:
        """Read a statement of this predicate type from a payload whose signature was checked already.

        Raises:
            Fault: ``STATEMENT_TYPE``, ``PREDICATE_TYPE``, ``SUBJECT``, ``DIGEST_FORM`` and those of ``parse_json``.
        """
        value = parse_json(payload)
        if not isinstance(value, dict) or value.get("_type") != STATEMENT_TYPE:
            raise Fault("STATEMENT_TYPE", f"the statement must be of type {STATEMENT_TYPE}")
        fields_of(value, "the statement", "STATEMENT_TYPE", {"_type", "subject", "predicateType", "predicate"})
        if value["predicateType"] != expected_type:
            raise Fault("PREDICATE_TYPE", f"expected {expected_type}, found {str(value['predicateType'])[:100]}")
        subject = tuple(_subject(item) for item in list_of(value["subject"], "subject", "SUBJECT"))
        names = [name for name, _ in subject]
        if not subject or len(set(names)) != len(names):
            raise Fault("SUBJECT", "a statement needs at least one subject, each with its own name")
        return cls(expected_type, subject, value["predicate"])


def _subject(value: Any) -> tuple[str, str]:
    fields_of(value, "a subject", "SUBJECT", {"digest"}, frozenset({"name"}))
    name = text_of(value.get("name", ""), "a subject's name", "SUBJECT")
    digest = fields_of(value["digest"], "a subject's digest", "DIGEST_FORM", {"sha256"})["sha256"]
    if not isinstance(digest, str) or not _HEX.match(digest):
        raise Fault("DIGEST_FORM", f"the subject {name[:80]!r} has no SHA-256 of 64 lower-case digits")
    return name, digest


def sha256(digest: str) -> dict[str, str]:
    """An in-toto digest set."""
    return {"sha256": strip_prefix(digest)}


def as_text(value: Any) -> Any:
    """Plain data with every number as a decimal string."""
    if isinstance(value, Mapping):
        return {str(key): as_text(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_text(item) for item in value]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return repr(value)
    return value


def subjects_of(candidate: Candidate) -> list[dict[str, Any]]:
    """Every file by name, and the whole under the model's name by its OMS root."""
    files = sorted(candidate.files, key=lambda file: file.name)
    whole = {"name": f"{WHOLE}{candidate.model}", "digest": {"sha256": oms_root(candidate.files)}}
    return [*({"name": file.name, "digest": sha256(file.digest)} for file in files), whole]


def _statement(predicate_type: str, subject: Sequence[Mapping[str, Any]], predicate: Mapping[str, Any]) -> bytes:
    fields = {"_type": STATEMENT_TYPE, "subject": subject, "predicateType": predicate_type, "predicate": predicate}
    return canonical_json(fields)


def folder_statement(name: str, files: Sequence[FileEntry]) -> bytes:
    """Which files there are, under a name that is for people only."""
    return _statement(OMS_TYPE, [{"name": name, "digest": {"sha256": oms_root(files)}}], oms_predicate(files))


def oms_statement(candidate: Candidate) -> bytes:
    """Which files the model consists of."""
    return folder_statement(f"{WHOLE}{candidate.model}", candidate.files)


def provenance_statement(candidate: Candidate, parent: Parent, software: str, builder: str) -> bytes:
    """How the candidate came to be: parent, recipe, and the commitment of its watermark; ``builder`` is its id."""
    recipe = candidate.recipe
    external: dict[str, Any] = {
        "parent": parent.model,
        "task": candidate.task,
        "architecture": candidate.architecture,
    }
    if recipe:
        made = {"method": recipe.method, "targets": recipe.targets, "seed": recipe.seed, "recovery": recipe.recovery}
        external |= as_text(made)
    mark = candidate.mark
    internal: dict[str, Any] = {}
    byproducts: list[dict[str, Any]] = []
    if mark:
        internal = {"mark": {"scheme": mark.scheme, "parameters": as_text(mark.parameters)}}
        commitment = {"name": "watermark-commitment", "digest": sha256(mark.commitment)}
        byproducts = [commitment, {"name": "unmarked-weights", "digest": sha256(mark.unmarked)}]
    predicate = {
        "buildDefinition": {
            "buildType": PRUNE_TYPE if recipe else ADMIT_TYPE,
            "externalParameters": external,
            "internalParameters": internal,
            "resolvedDependencies": _dependencies(candidate, parent),
        },
        "runDetails": {
            "builder": {"id": builder, "version": {"auditsvc": software}},
            "byproducts": byproducts,
        },
    }
    return _statement(PROVENANCE_TYPE, subjects_of(candidate), predicate)


def _dependencies(candidate: Candidate, parent: Parent) -> list[dict[str, Any]]:
    record = {"digestOf": "auditsvc parent record"}
    found: list[dict[str, Any]] = [{"name": "parent", "digest": sha256(parent.digest), "annotations": record}]
    found += [{"name": f"parent/{file.name}", "digest": sha256(file.digest)} for file in parent.files]
    if candidate.recipe:
        found.append({"name": "recipe", "digest": sha256(candidate.recipe.digest)})
        if candidate.recipe.data:
            found.append({"name": "recovery-data", "digest": sha256(candidate.recipe.data)})
    return found


def result_statement(candidate: Candidate, evidence: Evidence, decision: Decision, uri: str, report: str) -> bytes:
    """The result of one check: every judgement based on this evidence, as passed, warned or failed.

    ``uri`` is the name of the policy, ``report`` is the path of the evidence record in the attestation folder.
    """
    passed, warned, failed = _sorted_tests(j for j in decision.judgements if j.evidence == evidence.digest)
    record = {"name": "report", "downloadLocation": report, "mediaType": "application/json"}
    predicate = {
        "result": "FAILED" if failed else "WARNED" if warned else "PASSED",
        "configuration": [
            {"name": "policy", "uri": uri, "digest": sha256(decision.policy)},
            {"name": "dataset", "digest": sha256(evidence.key.dataset)},
            {"name": "parent", "digest": sha256(evidence.key.parent)},
            {"name": f"check/{evidence.key.check}/{evidence.key.version}", "digest": sha256(evidence.key.text())},
            record | {"digest": sha256(evidence.digest)},
        ],
        "passedTests": passed,
        "warnedTests": warned,
        "failedTests": failed,
    }
    return _statement(TEST_TYPE, subjects_of(candidate), predicate)


def bom_statement(candidate: Candidate, document: Mapping[str, Any]) -> bytes:
    """The bill of materials."""
    return _statement(BOM_TYPE, subjects_of(candidate), document)


def _sorted_tests(judgements: Iterable[Judgement]) -> tuple[list[str], list[str], list[str]]:
    passed, warned, failed = [], [], []
    for judgement in judgements:
        name = f"{judgement.rule}/{judgement.metric}/{judgement.slice}"
        if judgement.verdict == "met":
            passed.append(name)
        elif judgement.severity == "warn" or judgement.waiver:
            warned.append(name)
        else:
            failed.append(name)
    return sorted(passed), sorted(warned), sorted(failed)


def policy_uri(policy: Digest, public_url: str) -> str:
    """The name of a policy in statements: where the service shows it, or a URN by its digest."""
    return f"{public_url.rstrip('/')}/v1/policies/{policy}" if public_url else f"urn:auditsvc:policy:{policy}"


def identity_of(role: str, hint: str) -> str:
    """The id of a builder or verifier in statements: a URN by the digest of its public key.

    It is no address, so that a reader who has only the key can check it.
    """
    return f"urn:auditsvc:{role}:sha256:{hint}"


def resource_uri(model: str, version: str) -> str:
    """The name of a model version in statements."""
    return f"pkg:mlflow/{model}@{version}"


def summary_statement(candidate: Candidate, predicate: Mapping[str, Any]) -> bytes:
    """The decision, as a SLSA verification summary."""
    return _statement(VSA_TYPE, subjects_of(candidate), predicate)


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
