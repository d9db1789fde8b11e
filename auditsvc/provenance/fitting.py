"""Does it all fit: the files, the summary, what it rests on, what every statement says, what was recalled."""

from __future__ import annotations

import datetime

from auditsvc.provenance import layout
from auditsvc.provenance.examination import Examination, release_of
from auditsvc.provenance.judging import check_provenance, check_records, check_subjects, check_test
from auditsvc.provenance.manifest import differences
from auditsvc.provenance.oms import resources_of
from auditsvc.provenance.strict import Fault
from auditsvc.provenance.summary import Summary
from auditsvc.records import Digest


def check_files(found: Examination) -> None:
    """The folder holds exactly the files that were signed."""
    transcript = found.transcript
    if "oms" in found.attested:
        statement = found.attested["oms"].statement
        with transcript.step("manifest") as seen:
            found.resources = resources_of(statement.subject, statement.predicate)
            seen.detail = f"{len(found.resources)} files signed"
    wrong = list(found.files.faults)
    if found.resources is not None:
        told = {fault.detail.split(" ")[0] for fault in wrong}
        more = differences(found.resources, found.files.files)
        wrong += (fault for fault in more if fault.step_code != "MISSING" or fault.detail.split(" ")[0] not in told)
    if wrong:
        transcript.failed("files", wrong)
    else:
        size = sum(file.size for file in found.files.files)
        transcript.held("files", f"{len(found.files.files)} files, {size} bytes")


def check_decision(found: Examination, summary: Summary, resource: str | None) -> None:
    """The decision was for release, by those who may decide, for what the reader asked for."""
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
        return
    with step("resource") as seen:
        if summary.resource_uri != resource:
            raise Fault("RESOURCE", f"this is {summary.resource_uri}, not {resource}")
        seen.detail = resource


def check_inputs(found: Examination, summary: Summary) -> None:
    """The summary rests on exactly the attestations and files that lie here."""
    listed = {item.name: f"sha256:{item.digest.sha256}" for item in summary.inputs}
    there = {name: bundle.payload_digest for name, bundle in found.bundles.items() if name != "vsa"}
    broken = {
        name.removesuffix(layout.SUFFIX) for name in found.contents if name.endswith(layout.SUFFIX)
    } - there.keys()
    absent = sorted(listed.keys() - there.keys() - broken)
    faults = [Fault("MISSING_ATTESTATION", f"{name}{layout.SUFFIX} is not there") for name in absent]
    extra = sorted(there.keys() - listed.keys())
    faults += (Fault("INPUT_MISMATCH", f"the decision does not rest on {name}") for name in extra)
    changed = sorted(name for name in listed.keys() & there.keys() if listed[name] != there[name])
    faults += (Fault("INPUT_MISMATCH", f"{name} says something else than the decision rests on") for name in changed)
    for suite in (layout.AUDIT + suite for suite in found.trust.require.suites):
        if not any(name == suite or name.startswith(f"{suite}-") for name in listed):
            faults.append(Fault("MISSING_ATTESTATION", f"{suite} is required"))
    present = [file for file in found.beside.files if not file.name.endswith(layout.SUFFIX)]
    faults += differences(found.listed(), present)
    if faults:
        found.transcript.failed("inputs", faults)
    else:
        found.transcript.held("inputs", f"{len(listed)} attestations and {len(present)} records")


def check_statements(found: Examination, summary: Summary) -> None:
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
        decision = check_records(summary, found.vouched_contents(), resources)
        seen.detail = f"decision {decision.digest[:23]}..., {len(decision.judgements)} judgements"


def check_recalls(found: Examination) -> None:
    """Nothing here was recalled, as far as is known; and what is known is fresh enough."""
    recalls, require = found.trust.recalls, found.trust.require
    if recalls is None:
        found.transcript.note("No list of revocations was given: a recall would not be seen here.")
    else:
        with found.transcript.step("revocations") as seen:
            for recall in recalls.about(_subjects(found)):
                told = f"recalled at {recall.at.isoformat()}: {recall.reason}"
                found.transcript.failed("revocations", [Fault("REVOKED", told)])
            seen.detail = f"{len(recalls.recalls)} known at {recalls.issued.isoformat()}"
    hours = require.max_metadata_age_hours
    if hours is not None:
        with found.transcript.step("freshness") as seen:
            if recalls is None:
                raise Fault("STALE_TRUST", "the trust root asks for a list of revocations, and there is none")
            age = found.at - recalls.issued
            if age > datetime.timedelta(hours=hours, minutes=5):
                raise Fault("STALE_TRUST", f"the list of revocations is {age} old; at most {hours} hours are accepted")
            seen.detail = f"{age} old"


def _subjects(found: Examination) -> set[str]:
    """Every digest by which this release could have been recalled."""
    subjects = {bundle.payload_digest for bundle in found.bundles.values()}
    subjects |= {file.digest for file in found.files.files}
    if found.summary:
        release = release_of(found.summary, found.files, found.beside)
        subjects |= {release.digest, release.decision, release.candidate}
    attested = found.attested.get("provenance")
    if attested and isinstance(attested.statement.predicate, dict):
        build = attested.statement.predicate.get("buildDefinition")
        ingredients = build.get("resolvedDependencies") if isinstance(build, dict) else None
        for item in ingredients if isinstance(ingredients, list) else []:
            digest = item.get("digest") if isinstance(item, dict) else None
            if isinstance(digest, dict):
                subjects |= {f"sha256:{value}" for value in digest.values() if isinstance(value, str)}
    return subjects
