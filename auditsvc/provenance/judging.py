"""What statements about one release must say, so that they fit together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from auditsvc.errors import InvalidInput
from auditsvc.provenance import layout
from auditsvc.provenance.attested import Attested
from auditsvc.provenance.manifest import root_digest
from auditsvc.provenance.oms import bare
from auditsvc.provenance.statements import EXTERNAL, WHOLE, Statement
from auditsvc.provenance.strict import Fault, fields_of, list_of
from auditsvc.provenance.summary import Summary
from auditsvc.records import Candidate, Decision, Digest


def check_subjects(statement: Statement, resources: Mapping[str, str]) -> None:
    """The statement is about exactly these files, by name and digest, and about all of them as one.

    Raises:
        Fault: ``SUBJECT_MISMATCH``.
    """
    files = {name: f"sha256:{digest}" for name, digest in statement.subject if not name.startswith(WHOLE)}
    wholes = [digest for name, digest in statement.subject if name.startswith(WHOLE)]
    root = root_digest([bare(resources[name]) for name in sorted(resources)])
    if files != dict(resources) or wholes != [root]:
        raise Fault("SUBJECT_MISMATCH", "the statement is about other files than the signed model")


def check_test(statement: Statement, summary: Summary, beside: Mapping[str, Digest]) -> None:
    """The result of a check allows the release, was judged by the same policy, and its readings lie here.

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
        raise Fault("INPUT_MISMATCH", "the check was judged under another policy")
    report = found.get("report", {})
    if report.get("digest") != {"sha256": bare(beside.get(str(report.get("downloadLocation")), ""))}:
        raise Fault("INPUT_MISMATCH", "the readings that the result rests on are not those that lie beside it")


def _configuration(value: Any) -> dict[str, dict[str, Any]]:
    items = list_of(value, "configuration", "TEST_RESULT")
    if not all(isinstance(item, dict) and isinstance(item.get("name"), str) for item in items):
        raise Fault("TEST_RESULT", "every part of the configuration needs a name")
    return {item["name"]: item for item in items}


def check_provenance(attested: Attested, summary: Summary, parents: Sequence[Digest]) -> str:
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
    """The candidate, the policy and the decision lie beside the summary, and say what it says.

    ``contents`` are files whose digests were held against the summary already.

    Raises:
        Fault: ``DECISION``.
    """
    release = summary.release
    wanted = {
        layout.CANDIDATE: release.candidate,
        layout.DECISION: release.decision,
        layout.POLICY: f"sha256:{summary.policy.digest.sha256}",
    }
    listed = {item.name: f"sha256:{item.digest.sha256}" for item in summary.release.beside}
    for name, digest in wanted.items():
        if listed.get(name) != digest:
            raise Fault("DECISION", f"{name} is not the record that the summary names")
    try:
        candidate = Candidate.parse(contents[layout.CANDIDATE])
        decision = Decision.parse(contents[layout.DECISION])
    except (InvalidInput, KeyError) as error:
        raise Fault("DECISION", f"the records beside the summary cannot be read: {error}") from error
    evidence = {digest for name, digest in listed.items() if name.startswith(f"{layout.EVIDENCE}/")}
    if {file.name: file.digest for file in candidate.files} != dict(resources):
        raise Fault("DECISION", "the candidate has other files than the signed model")
    if decision.candidate != release.candidate or decision.policy != wanted[layout.POLICY]:
        raise Fault("DECISION", "the decision is about another candidate or policy")
    if set(decision.evidence) != evidence:
        raise Fault("DECISION", "the decision rests on other evidence than lies here")
    if (decision.outcome == "approved") != (summary.result == "PASSED"):
        raise Fault("DECISION", f"the decision is {decision.outcome}, the summary says {summary.result}")
    return decision
