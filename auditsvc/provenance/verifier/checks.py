"""Consistency of a release: files, summary, inputs, statements and decision agree, and nothing was revoked."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

from auditsvc.errors import InvalidInput
from auditsvc.provenance.formats import release_layout
from auditsvc.provenance.formats.manifest import differences, resources_of, root_digest, strip_prefix
from auditsvc.provenance.formats.predicates import EXTERNAL, WHOLE, Statement, Summary
from auditsvc.provenance.formats.strict_json import Fault, fields_of, list_of, parse_json
from auditsvc.provenance.verifier.verification_context import LoadedAttestation, VerificationContext, release_of
from auditsvc.records import Candidate, Decision, Digest, Policy, ReleaseTerms


def check_subjects(statement: Statement, resources: Mapping[str, str]) -> None:
    """The statement is about exactly these files, by name and digest, and about all of them as one.

    Raises:
        Fault: ``SUBJECT_MISMATCH``.
    """
    files = {name: f"sha256:{digest}" for name, digest in statement.subject if not name.startswith(WHOLE)}
    wholes = [digest for name, digest in statement.subject if name.startswith(WHOLE)]
    root = root_digest([strip_prefix(resources[name]) for name in sorted(resources)])
    if files != dict(resources) or wholes != [root]:
        raise Fault("SUBJECT_MISMATCH", "the statement is about other files than the signed model")


def check_test(statement: Statement, summary: Summary, records: Mapping[str, Digest]) -> None:
    """The result of a check allows the release, under the same policy, and its evidence is in the folder.

    Raises:
        Fault: ``TEST_RESULT`` for a malformed result, ``INPUT_MISMATCH`` for one that does not fit.
    """
    names = {"result", "configuration", "passedTests", "warnedTests", "failedTests"}
    value = fields_of(statement.predicate, "the test result", "TEST_RESULT", names)
    list_of(value["passedTests"], "passedTests", "TEST_RESULT")
    warned = list_of(value["warnedTests"], "warnedTests", "TEST_RESULT")
    failed = list_of(value["failedTests"], "failedTests", "TEST_RESULT")
    if value["result"] != ("FAILED" if failed else "WARNED" if warned else "PASSED"):
        raise Fault("TEST_RESULT", "the result does not follow from the tests")
    if failed:
        raise Fault("INPUT_MISMATCH", f"the decision is for release, but {len(failed)} tests failed")
    found = _configuration(value["configuration"])
    if found.get("policy", {}).get("digest") != {"sha256": summary.policy.digest.sha256}:
        raise Fault("INPUT_MISMATCH", "the check was evaluated under another policy")
    report = found.get("report", {})
    if report.get("digest") != {"sha256": strip_prefix(records.get(str(report.get("downloadLocation")), ""))}:
        raise Fault("INPUT_MISMATCH", "the evidence in the folder is not the evidence of this result")


def _configuration(value: Any) -> dict[str, dict[str, Any]]:
    items = list_of(value, "configuration", "TEST_RESULT")
    if not all(isinstance(item, dict) and isinstance(item.get("name"), str) for item in items):
        raise Fault("TEST_RESULT", "every part of the configuration needs a name")
    return {item["name"]: item for item in items}


def check_provenance(attested: LoadedAttestation, summary: Summary, parents: Sequence[Digest]) -> str:
    """How the model was made is something that this builder may say, and the parent is accepted.

    Gives the parent's digest.

    Raises:
        Fault: ``PROVENANCE``.
    """
    predicate = fields_of(
        attested.statement.predicate, "the provenance", "PROVENANCE", {"buildDefinition", "runDetails"}
    )
    names = {"buildType", "externalParameters", "resolvedDependencies"}
    build = fields_of(
        predicate["buildDefinition"], "buildDefinition", "PROVENANCE", names, frozenset({"internalParameters"})
    )
    details = fields_of(
        predicate["runDetails"], "runDetails", "PROVENANCE", {"builder"}, frozenset({"metadata", "byproducts"})
    )
    builder = fields_of(details["builder"], "builder", "PROVENANCE", {"id"}, frozenset({"version"}))["id"]
    if builder not in attested.key.ids:
        raise Fault("PROVENANCE", f"the key may not speak for the builder {str(builder)[:100]}")
    allowed = EXTERNAL.get(build["buildType"]) if isinstance(build["buildType"], str) else None
    if allowed is None:
        raise Fault("PROVENANCE", f"unknown build type {str(build['buildType'])[:100]}")
    fields_of(build["externalParameters"], "externalParameters", "PROVENANCE", {"parent"}, allowed)
    return _parent(build["resolvedDependencies"], summary, parents)


def _parent(dependencies: Any, summary: Summary, parents: Sequence[Digest]) -> str:
    found = [
        item.get("digest")
        for item in list_of(dependencies, "resolvedDependencies", "PROVENANCE")
        if isinstance(item, dict) and item.get("name") == "parent"
    ]
    if len(found) != 1 or not isinstance(found[0], dict) or not isinstance(found[0].get("sha256"), str):
        raise Fault("PROVENANCE", "the provenance must name exactly one parent by its SHA-256")
    parent = f"sha256:{found[0]['sha256']}"
    if parent == summary.release.candidate:
        raise Fault("PROVENANCE", "the model is its own parent")
    if parents and parent not in parents:
        raise Fault("PROVENANCE", f"the parent {parent[:20]}... is not one that you accept")
    return parent


def check_records(summary: Summary, contents: Mapping[str, bytes], resources: Mapping[str, str]) -> Decision:
    """The candidate, policy and decision records are in the folder and agree with the summary.

    ``contents`` are files whose digests were compared with the summary already.

    Raises:
        Fault: ``DECISION``.
    """
    release = summary.release
    wanted = {
        release_layout.CANDIDATE: release.candidate,
        release_layout.DECISION: release.decision,
        release_layout.POLICY: f"sha256:{summary.policy.digest.sha256}",
    }
    listed = {item.name: f"sha256:{item.digest.sha256}" for item in summary.release.files}
    for name, digest in wanted.items():
        if listed.get(name) != digest:
            raise Fault("DECISION", f"{name} is not the record that the summary names")
    try:
        candidate = Candidate.parse(contents[release_layout.CANDIDATE])
        decision = Decision.parse(contents[release_layout.DECISION])
    except (InvalidInput, KeyError) as error:
        raise Fault("DECISION", f"the records can't be read: {error}") from error
    evidence = {digest for name, digest in listed.items() if name.startswith(f"{release_layout.EVIDENCE}/")}
    if {file.name: file.digest for file in candidate.files} != dict(resources):
        raise Fault("DECISION", "the candidate has other files than the signed model")
    if decision.candidate != release.candidate or decision.policy != wanted[release_layout.POLICY]:
        raise Fault("DECISION", "the decision is about another candidate or policy")
    if set(decision.evidence) != evidence:
        raise Fault("DECISION", "the decision is based on other evidence than is in the folder")
    if (decision.outcome == "approved") != (summary.result == "PASSED"):
        raise Fault("DECISION", f"the decision is {decision.outcome}, the summary says {summary.result}")
    return decision


def note_age(found: VerificationContext, decision: Decision, contents: Mapping[str, bytes]) -> None:
    """Note a decision that is older than its own policy counts evidence for."""
    try:
        most = Policy.parse(contents[release_layout.POLICY]).max_age_days
    except (InvalidInput, KeyError):
        return  # a policy of another version of auditsvc; its digest was compared
    age = (found.at - decision.at).days
    if age > most:
        found.report.note(f"The decision is {age} days old; its policy counts evidence for {most} days.")


def check_files(found: VerificationContext) -> None:
    """The folder contains exactly the files that were signed."""
    report = found.report
    if "oms" in found.attested:
        statement = found.attested["oms"].statement
        with report.step("manifest") as seen:
            found.resources = resources_of(statement.subject, statement.predicate)
            seen.detail = f"{len(found.resources)} files signed"
    wrong = list(found.files.faults)
    if found.resources is not None:
        message = {fault.detail.split(" ")[0] for fault in wrong}
        more = differences(found.resources, found.files.files)
        wrong += (fault for fault in more if fault.step_code != "MISSING" or fault.detail.split(" ")[0] not in message)
    if wrong:
        report.failed("files", wrong)
    else:
        size = sum(file.size for file in found.files.files)
        report.held("files", f"{len(found.files.files)} files, {size} bytes")


def check_decision(found: VerificationContext, summary: Summary, resource: str | None) -> None:
    """The decision was to approve, with enough approvals, for the requested model version."""
    step, require = found.report.step, found.trust.require
    with step("decision") as seen:
        summary.check_passed()
        seen.detail = f"passed at {summary.time_verified.isoformat()}"
    with step("approvals") as seen:
        summary.check_approvals()
        seen.detail = ", ".join(sorted({entry.approver for entry in summary.release.approvals}))
    with step("time") as seen:
        seen.detail = summary.check_time(found.at)
    with step("verifier") as seen:
        if summary.verifier.id not in found.attested["vsa"].key.ids:
            raise Fault("VERIFIER", f"the key may not speak for {summary.verifier.id[:100]}")
        seen.detail = summary.verifier.id
    with step("policy") as seen:
        policy = f"sha256:{summary.policy.digest.sha256}"
        if require.policies and policy not in require.policies:
            raise Fault("POLICY", f"{summary.policy.uri} ({policy[:20]}...) is not a policy that you accept")
        seen.detail = f"{summary.policy.uri} ({policy})"
    if not require.policies:
        found.report.note(f"Any policy was accepted: the decision is under {policy}.")
    if resource is None:
        found.report.note(f"No model was asked for: this is {summary.resource_uri}.")
        return
    with step("resource") as seen:
        if summary.resource_uri != resource:
            raise Fault("RESOURCE", f"this is {summary.resource_uri}, not {resource}")
        seen.detail = resource


def check_inputs(found: VerificationContext, summary: Summary) -> None:
    """The summary lists exactly the attestations and records in the folder."""
    listed = {item.name: f"sha256:{item.digest.sha256}" for item in summary.inputs}
    there = {name: bundle.payload_digest for name, bundle in found.bundles.items() if name != "vsa"}
    broken = {
        name.removesuffix(release_layout.SUFFIX) for name in found.contents if name.endswith(release_layout.SUFFIX)
    } - there.keys()
    absent = sorted(listed.keys() - there.keys() - broken)
    faults = [Fault("MISSING_ATTESTATION", f"{name}{release_layout.SUFFIX} is not there") for name in absent]
    extra = sorted(there.keys() - listed.keys())
    faults += (Fault("INPUT_MISMATCH", f"the decision is not based on {name}") for name in extra)
    changed = sorted(name for name in listed.keys() & there.keys() if listed[name] != there[name])
    faults += (
        Fault("INPUT_MISMATCH", f"{name} differs from the one that the decision is based on") for name in changed
    )
    for suite in (release_layout.AUDIT + suite for suite in found.trust.require.suites):
        if not any(name == suite or name.startswith(f"{suite}-") for name in listed):
            faults.append(Fault("MISSING_ATTESTATION", f"{suite} is required"))
    present = [file for file in found.attestations.files if not file.name.endswith(release_layout.SUFFIX)]
    faults += differences(found.listed(), present)
    if faults:
        found.report.failed("inputs", faults)
    else:
        found.report.held("inputs", f"{len(listed)} attestations and {len(present)} records")


def check_statements(found: VerificationContext, summary: Summary) -> None:
    """What every statement says fits the signed files and the decision."""
    resources, step = found.resources, found.report.step
    if resources is None:
        return
    records: dict[str, Digest] = {file.name: file.digest for file in found.attestations.files}
    for name, attested in sorted(found.attested.items()):
        if name == "oms":
            continue
        with step(f"statement {name}") as seen:
            check_subjects(attested.statement, resources)
            if name.startswith(release_layout.AUDIT):
                check_test(attested.statement, summary, records)
                seen.detail = str(attested.statement.predicate["result"])
            if name == "provenance":
                parent = check_provenance(attested, summary, found.trust.require.parents)
                seen.detail = f"made from the parent {parent[:23]}..."
    if not found.trust.require.parents:
        found.report.note("Any parent was accepted: the trust root names none.")
    contents, decision = found.vouched_contents(), None
    with step("records") as seen:
        decision = check_records(summary, contents, resources)
        seen.detail = f"decision {decision.digest[:23]}..., {len(decision.judgements)} judgements"
    if decision is not None:
        note_age(found, decision, contents)
    check_data(found, contents)
    if decision and summary.release.terms is None and decision.terms is None:
        found.report.note("No terms bound the decision: the auditor also chose the policy and the data.")
    elif decision:
        with step("terms") as seen:
            terms = check_terms(summary, decision, contents)
            seen.detail = f"{terms.digest}, {terms.set_by}"


def check_data(found: VerificationContext, contents: Mapping[str, bytes]) -> None:
    """The evidence is of data sets, and of as many images, as the reader requires."""
    require, images = found.trust.require, dict[str, tuple[str, int]]()
    with found.report.step("data") as seen:
        for name in sorted(contents):
            if name.startswith(f"{release_layout.EVIDENCE}/"):
                digest, title, count = _audited(contents[name])
                images[digest] = title, max(count, images.get(digest, ("", 0))[1])
        shown = ", ".join(f"{title}: {count} images ({digest})" for digest, (title, count) in images.items())
        other = [digest for digest in images if require.datasets and digest not in require.datasets]
        if other or (require.datasets and not images):
            raise Fault("DATA", f"{shown or 'no evidence'}: not a data set that you accept")
        if few := [title for title, count in images.values() if count < require.min_images]:
            raise Fault("DATA", f"{', '.join(few)}: fewer than {require.min_images} images; it was judged on {shown}")
        if require.min_images and not images:
            raise Fault("DATA", f"no evidence of any image; you require {require.min_images}")
        seen.detail = shown or "no evidence"
    if not require.datasets:
        found.report.note("Any data set was accepted: no requirement names one.")
    if not require.min_images:
        found.report.note("Any number of images was accepted: no requirement sets a minimum.")


def _audited(record: bytes) -> tuple[str, str, int]:
    """Digest, name and number of images of the data set in an evidence record.  Raises ``Fault`` (``DATA``)."""
    try:
        value = parse_json(record)
        key, data = value["key"], value["dataset"]
        return str(data["digest"]), str(data["name"]), int(key.get("stage") or data["images"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Fault("DATA", "an evidence record does not name its data set") from error


def check_terms(summary: Summary, decision: Decision, contents: Mapping[str, bytes]) -> ReleaseTerms:
    """The terms are in the folder, and decision, policy, data, parent and approvals keep them.

    Raises:
        Fault: ``TERMS``.
    """
    release, listed = summary.release, {item.name: f"sha256:{item.digest.sha256}" for item in summary.release.files}
    if decision.terms != release.terms or listed.get(release_layout.TERMS) != release.terms:
        raise Fault("TERMS", f"{release_layout.TERMS} is not the record that the decision names")
    try:
        terms = ReleaseTerms.parse(contents[release_layout.TERMS])
        candidate = Candidate.parse(contents[release_layout.CANDIDATE])
    except (InvalidInput, KeyError) as error:
        raise Fault("TERMS", f"the records can't be read: {error}") from error
    wrong = list(terms.objections(candidate, decision.policy, (one.digest for one in decision.data or ())))
    if int(release.approvals_needed) < terms.approvals and summary.result == "PASSED":
        wrong.append(f"{release.approvals_needed} approvals were needed; the terms ask for {terms.approvals}")
    if release.data != decision.data:
        wrong.append("the summary names other data than the decision")
    if wrong:
        raise Fault("TERMS", "; ".join(wrong))
    return terms


def check_revocations(found: VerificationContext) -> None:
    """Nothing in the release is on the revocation list, and the list is fresh enough."""
    revocations, require = found.trust.revocations, found.trust.require
    if revocations is None:
        found.report.note("No list of revocations was given: a revocation would not be noticed.")
    else:
        with found.report.step("revocations") as seen:
            for revoked in revocations.about(_subjects(found)):
                message = f"revoked at {revoked.at.isoformat()}: {revoked.reason}"
                found.report.failed("revocations", [Fault("REVOKED", message)])
            seen.detail = f"{len(revocations.revocations)} known at {revocations.issued.isoformat()}"
    hours = require.max_metadata_age_hours
    if hours is not None:
        with found.report.step("freshness") as seen:
            if revocations is None:
                raise Fault("STALE_TRUST", "the trust root asks for a list of revocations, and there is none")
            age = found.at - revocations.issued
            if age > datetime.timedelta(hours=hours, minutes=5):
                raise Fault("STALE_TRUST", f"the list of revocations is {age} old; at most {hours} hours are accepted")
            seen.detail = f"{age} old"


def _subjects(found: VerificationContext) -> set[str]:
    """Every digest by which this release can be revoked."""
    subjects = {bundle.payload_digest for bundle in found.bundles.values()}
    subjects |= {file.digest for file in found.files.files}
    if found.summary:
        release = release_of(found.summary, found.files, found.attestations)
        subjects |= {release.digest, release.decision, release.candidate}
    attested = found.attested.get("provenance")
    if attested and isinstance(attested.statement.predicate, dict):
        build = attested.statement.predicate.get("buildDefinition")
        dependencies = build.get("resolvedDependencies") if isinstance(build, dict) else None
        for item in dependencies if isinstance(dependencies, list) else []:
            digest = item.get("digest") if isinstance(item, dict) else None
            if isinstance(digest, dict):
                subjects |= {f"sha256:{value}" for value in digest.values() if isinstance(value, str)}
    return subjects
