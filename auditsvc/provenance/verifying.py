"""Verifying: is this folder what was approved?  For strangers, offline, with nothing but a trust root.

``verify`` returns what it found, step by step, and never raises for a bad release; it is ``VALID`` only
if every step ran and held.  Steps that need one that failed are left out: what failed is the reason.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from auditsvc.errors import InvalidInput
from auditsvc.provenance import layout
from auditsvc.provenance.attested import Attested, check_logged, check_window, open_attestation
from auditsvc.provenance.dsse import Bundle
from auditsvc.provenance.judging import check_provenance, check_records, check_subjects, check_test
from auditsvc.provenance.manifest import Folder, Keep, differences, read_folder
from auditsvc.provenance.oms import resources_of
from auditsvc.provenance.statements import VSA_TYPE, Statement
from auditsvc.provenance.strict import MAX_BYTES, Fault
from auditsvc.provenance.summary import Summary
from auditsvc.provenance.transcript import Transcript
from auditsvc.provenance.trust import TrustRoot
from auditsvc.records import Digest, Moment, Release, Verification

REQUIRED = ("oms", "provenance", "vsa")


def verify(
    files: Path, attestations: Path, *, trust: TrustRoot, at: Moment, resource: str | None = None
) -> Verification:
    """What a stranger finds who holds the files of a release against its attestations.

    ``resource`` is the model version that the caller asked for (``pkg:mlflow/<model>@<version>``); without
    it, the release may be of any model that the trusted keys released, and a note says so.

    Raises:
        Unavailable: the disk can't be read.  Nothing else: a bad release is a result.
    """
    return examine(files, attestations, trust=trust, at=at, resource=resource).transcript.verification(at)


@dataclass
class Examination:
    """A verification on its way: the material, what was found so far, and the transcript."""

    trust: TrustRoot
    at: Moment
    files: Folder
    beside: Folder
    contents: dict[str, bytes]
    transcript: Transcript = field(default_factory=Transcript)
    attested: dict[str, Attested] = field(default_factory=dict)
    summary: Summary | None = None
    resources: dict[str, str] | None = None

    def release(self) -> Release:
        """The release, as the verified summary and files make it.  Raises ``Fault`` without a summary."""
        if self.summary is None:
            raise Fault("SUMMARY", "there is no summary of the release")
        return _release(self.summary, self.files, self.beside)


def examine(
    files: Path,
    attestations: Path,
    *,
    trust: TrustRoot,
    at: Moment,
    resource: str | None = None,
    keep: Keep | None = None,
) -> Examination:
    """Run every step.  With ``keep``, the verified bytes of each file are handed over; see ``read_folder``.

    Raises:
        Unavailable: the disk can't be read.
    """
    contents: dict[str, bytes] = {}
    beside = read_folder(attestations, contents.__setitem__, MAX_BYTES)
    found = Examination(trust, at, read_folder(files, keep), beside, contents)
    try:
        _examine(found, resource)
    except InvalidInput as error:
        found.transcript.failed("verifier", [Fault("VERIFIER_ERROR", str(error)[:1000])])
    return found


def _examine(found: Examination, resource: str | None) -> None:
    bundles = _bundles(found)
    _open(found, bundles, ["vsa"])
    _vouch(found)
    if "vsa" in found.attested or found.trust.log:
        _open(found, bundles, [name for name in sorted(bundles) if name != "vsa"])
    else:
        found.transcript.note("The other attestations were not checked: only the summary vouches for their keys.")
    for name in sorted(found.attested):
        _check_log(found, found.attested[name])
    _check_files(found)
    if found.summary:
        _check_summary(found, found.summary, resource)
        _check_inputs(found, found.summary, bundles)
        _check_statements(found, found.summary)
    found.transcript.note("No list of revocations was given: a recall would not be seen here.")


def _bundles(found: Examination) -> dict[str, Bundle]:
    transcript = found.transcript
    if found.beside.faults:
        transcript.failed("attestations", found.beside.faults)
    bundles = {}
    names = sorted(name.removesuffix(layout.SUFFIX) for name in found.contents if name.endswith(layout.SUFFIX))
    for name in names:
        with transcript.step(f"bundle {name}") as seen:
            if layout.type_of(name) is None or "/" in name:
                raise Fault("EXTRA_FILES", f"{name}{layout.SUFFIX} has no meaning in a release")
            bundles[name] = Bundle.parse(found.contents[name + layout.SUFFIX])
            seen.detail = f"key {bundles[name].hint[:16]}..., payload {bundles[name].payload_digest[:23]}..."
    missing = [name for name in REQUIRED if name not in names]
    transcript.failed("attestations", (Fault("MISSING_ATTESTATION", f"{name} is not there") for name in missing))
    return bundles


def _open(found: Examination, bundles: dict[str, Bundle], names: list[str]) -> None:
    for name in names:
        kind = layout.type_of(name)
        if name not in bundles or kind is None:
            continue
        with found.transcript.step(f"signature {name}") as seen:
            attested = open_attestation(name, bundles[name], found.trust, kind)
            found.attested[name] = attested
            seen.detail = f"by the {attested.key.role} key, {kind}"


def _vouch(found: Examination) -> None:
    """Read the summary; where only a release key is trusted, take the other keys from it."""
    if "vsa" not in found.attested:
        return
    with found.transcript.step("summary") as seen:
        summary = Summary.parse(found.attested["vsa"].statement.predicate)
        summary.check_consistent()
        found.summary = summary
        seen.detail = f"{summary.resource_uri}: {summary.result} under {summary.policy.uri}"
    if found.summary is None or found.trust.log:
        return
    with found.transcript.step("vouched keys") as seen:
        _check_beside(found, found.summary, layout.TRUST_POLICY)
        try:
            vouched = TrustRoot.from_policy(found.contents[layout.TRUST_POLICY])
        except InvalidInput as error:
            raise Fault("TRUST_POLICY", str(error)[:500]) from error
        found.trust = found.trust.vouching(vouched)
        seen.detail = "build, audit and log keys as the summary names them"
        found.transcript.note(
            "Only the release key was given. It vouches for the keys that built, measured and logged; whether "
            "the log shows the same to everybody can be checked with a trust policy from another source only."
        )


def _check_beside(found: Examination, summary: Summary, name: str) -> None:
    listed = {item.name: f"sha256:{item.digest.sha256}" for item in summary.release.beside}
    there = {file.name: file.digest for file in found.beside.files}
    if name not in listed or name not in there:
        raise Fault("MISSING", f"{name} is not there, or the summary does not name it")
    if listed[name] != there[name]:
        raise Fault("DIGEST_MISMATCH", f"{name} has other bytes than the summary names")


def _check_log(found: Examination, attested: Attested) -> None:
    log = found.trust.log
    index = None
    if log is None:
        found.transcript.note("No log was trusted: nothing is known of when this was signed.")
    elif attested.bundle.entries or found.trust.require.tlog:
        with found.transcript.step(f"log {attested.name}") as seen:
            index = check_logged(attested, log).index
            seen.detail = f"entry {index} of {log.origin}"
    else:
        found.transcript.note(f"{attested.name} is in no log.")
    with found.transcript.step(f"key window {attested.name}"):
        check_window(attested, index)


def _check_files(found: Examination) -> None:
    """The folder holds exactly the files that were signed."""
    transcript = found.transcript
    if "oms" in found.attested:
        statement = found.attested["oms"].statement
        with transcript.step("manifest") as seen:
            found.resources = resources_of(statement.subject, statement.predicate)
            seen.detail = f"{len(found.resources)} files signed"
    wrong = list(found.files.faults)
    if found.resources is not None:
        explained = {fault.detail.split(" ")[0] for fault in wrong}
        wrong += (f for f in differences(found.resources, found.files.files) if f.detail.split(" ")[0] not in explained)
    size = sum(file.size for file in found.files.files)
    if wrong:
        transcript.failed("files", wrong)
    else:
        transcript.held("files", f"{len(found.files.files)} files, {size} bytes")


def _check_summary(found: Examination, summary: Summary, resource: str | None) -> None:
    step, require = found.transcript.step, found.trust.require
    with step("decision") as seen:
        summary.check_passed()
        seen.detail = f"passed at {summary.time_verified.isoformat()}"
    with step("approvals") as seen:
        summary.check_consents()
        seen.detail = ", ".join(sorted({consent.approver for consent in summary.release.approvals}))
    with step("verifier") as seen:
        if summary.verifier.id not in found.attested["vsa"].key.ids:
            raise Fault("VERIFIER", f"the key may not speak for {summary.verifier.id[:100]}")
        seen.detail = summary.verifier.id
    with step("policy") as seen:
        policy = f"sha256:{summary.policy.digest.sha256}"
        if require.policies and policy not in require.policies:
            raise Fault("POLICY", f"{summary.policy.uri} ({policy[:20]}...) is not a policy that you accept")
        seen.detail = summary.policy.uri
    if resource is None:
        found.transcript.note(f"No model was asked for: this is {summary.resource_uri}.")
    else:
        with step("resource") as seen:
            if summary.resource_uri != resource:
                raise Fault("RESOURCE", f"this is {summary.resource_uri}, not {resource}")
            seen.detail = resource


def _check_inputs(found: Examination, summary: Summary, bundles: dict[str, Bundle]) -> None:
    """The summary rests on exactly the attestations and files that lie here."""
    listed = {item.name: f"sha256:{item.digest.sha256}" for item in summary.inputs}
    there = {name: bundle.payload_digest for name, bundle in bundles.items() if name != "vsa"}
    faults = [Fault("MISSING_ATTESTATION", f"{name} is not there") for name in sorted(listed.keys() - there.keys())]
    extra = sorted(there.keys() - listed.keys())
    faults += (Fault("INPUT_MISMATCH", f"the decision does not rest on {name}") for name in extra)
    changed = sorted(name for name in listed.keys() & there.keys() if listed[name] != there[name])
    faults += (Fault("INPUT_MISMATCH", f"{name} says something else than the decision rests on") for name in changed)
    suites = [layout.AUDIT + suite for suite in found.trust.require.suites]
    absent = [name for name in suites if not any(n == name or n.startswith(f"{name}-") for n in listed)]
    faults += (Fault("MISSING_ATTESTATION", f"{name} is required") for name in absent)
    beside = {item.name: f"sha256:{item.digest.sha256}" for item in summary.release.beside}
    present = [file for file in found.beside.files if not file.name.endswith(layout.SUFFIX)]
    faults += differences(beside, present)
    if faults:
        found.transcript.failed("inputs", faults)
    else:
        found.transcript.held("inputs", f"{len(listed)} attestations and {len(beside)} records")


def _check_statements(found: Examination, summary: Summary) -> None:
    """What every statement says fits the signed files and the decision."""
    resources, step = found.resources, found.transcript.step
    if resources is None:
        return
    beside: dict[str, Digest] = {file.name: file.digest for file in found.beside.files}
    for name, attested in sorted(found.attested.items()):
        if name == "oms":
            continue
        with step(f"statement {name}") as seen:
            check_subjects(attested.statement, resources)
            if name.startswith(layout.AUDIT):
                check_test(attested.statement, summary, beside)
                seen.detail = str(attested.statement.predicate["result"])
            if name == "provenance":
                parent = check_provenance(attested, summary, found.trust.require.parents)
                seen.detail = f"made from the parent {parent[:23]}..."
    if not found.trust.require.parents:
        found.transcript.note("Any parent was accepted: the trust root names none.")
    with step("records") as seen:
        decision = check_records(summary, found.contents, resources)
        seen.detail = f"decision {decision.digest[:23]}..., {len(decision.judgements)} judgements"


def summary_in(bundle: Bundle) -> Summary:
    """The summary in a bundle, whoever signed it.  Raises ``Fault``."""
    return Summary.parse(Statement.parse(bundle.payload, VSA_TYPE).predicate)


def release_in(files: Path, attestations: Path) -> Release:
    """The release record that a sealed folder makes; says nothing of whether it is valid.

    Raises:
        InvalidInput: the folder holds no readable summary.
        Unavailable: the disk can't be read.
    """
    contents: dict[str, bytes] = {}
    beside = read_folder(attestations, contents.__setitem__, MAX_BYTES)
    summary = summary_in(Bundle.parse(contents.get("vsa" + layout.SUFFIX, b"")))
    return _release(summary, read_folder(files), beside)


def _release(summary: Summary, files: Folder, beside: Folder) -> Release:
    release = summary.release
    return Release(
        model=release.model,
        version=release.version,
        candidate=release.candidate,
        decision=release.decision,
        approvals=tuple(consent.record for consent in release.approvals),
        files=files.files,
        attestations=tuple(file for file in beside.files if file.name.endswith(layout.SUFFIX)),
        at=release.sealed,
    )
