"""Write the report of one decision: load its records, build the report, render it, and store the files.

A report is dated by the newest record that it is based on, not by the clock, so it can be made again from the ledger,
byte for byte.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from auditsvc.compliance.assessment.assessment_context import AssessmentContext, ReportInputs
from auditsvc.compliance.assessment.attestations import Answers, ChangePlan, ChangeVerdict, Document, Incident, Watch
from auditsvc.compliance.assessment.framework import load_frameworks, load_questionnaire
from auditsvc.compliance.render import render_files
from auditsvc.compliance.render.tables import PICTURES, pictures
from auditsvc.compliance.report.build import build_report
from auditsvc.compliance.report.report_model import Report
from auditsvc.datasets import Dataset
from auditsvc.errors import NotFound, Unavailable
from auditsvc.ports import Context, Log
from auditsvc.records import (
    Candidate,
    CheckFailed,
    Decision,
    Digest,
    Moment,
    Monitoring,
    Release,
    ReleaseTerms,
    Rollback,
    Submission,
    Timing,
    Verification,
)
from auditsvc.records.evidence import DiscoveredSlices, Exemplars
from auditsvc.resources import resource_dir
from auditsvc.services.decisions import decision_records, report_folder
from auditsvc.services.gallery import examples, gallery, siblings
from auditsvc.services.terms import earlier_decisions


def write_report(
    ctx: Context,
    candidate: Candidate,
    decision: Decision,
    dataset: Dataset,
    verification: Verification | None = None,
    where: Mapping[str, str] | None = None,
    formats: tuple[str, ...] = ("html",),
) -> tuple[Path, ...]:
    """The report of one decision, one file for each format, in ``reports/MODEL/VERSION/DECISION`` of the store.

    Raises:
        Unavailable: the folder can't be written, or a format needs a package that is not installed.
    """
    inputs = _inputs(ctx, candidate, decision, dataset, verification, where or {})
    context = _assessment_context(ctx, inputs)
    frameworks = load_frameworks(resource_dir("policies"))
    before = _previous(ctx, inputs)
    report = build_report(inputs, at=context.at, context=context, frameworks=frameworks, previous=before)
    folder = report_folder(ctx.folder, decision.digest, inputs.model, inputs.version)
    _written(folder / PICTURES, pictures(inputs.gallery))
    return tuple(_written(folder / name, data) for name, data in render_files(report, formats).items())


def _inputs(
    ctx: Context,
    candidate: Candidate,
    decision: Decision,
    dataset: Dataset,
    verification: Verification | None,
    where: Mapping[str, str],
) -> ReportInputs:
    ledger = ctx.ledger
    submission = ledger.find(Submission, candidate.digest)[0]
    found = decision_records(submission.model, submission.version, candidate, decision, ledger)
    releases = ledger.find(Release, decision.digest)
    shown = gallery(found.evidence, dataset)
    searched, used = ledger.find(DiscoveredSlices, candidate.digest), {run.key.dataset for run in found.evidence}
    alike = ledger.find(Exemplars, candidate.digest)
    exampled = shown[0].image if shown else dataset.name_of(0)
    return replace(
        found,
        release=releases[-1] if releases else None,
        submitter=submission.submitter,
        gallery=shown,
        siblings=tuple(siblings(candidate, decision, ledger)),
        examples=examples(found.policy, dataset, exampled),
        exampled=exampled,
        exemplars=next((one for one in alike[::-1] if one.dataset in used and one.at <= decision.at), None),
        suggestions=next((one for one in searched[::-1] if one.dataset in used and one.at <= decision.at), None),
        timing=next((one for one in ledger.find(Timing, candidate.digest)[::-1] if one.at <= decision.at), None),
        verification=verification,
        where=where,
        terms=ledger.get(ReleaseTerms, decision.terms) if decision.terms else None,
        earlier=earlier_decisions(ledger, decision),
    )


def _previous(ctx: Context, inputs: ReportInputs) -> Report | None:
    """The report of the release that stood before this decision, for comparison; None for a first one."""
    ledger = ctx.ledger
    for earlier in reversed(ledger.find(Release, inputs.model)):
        if earlier.at > inputs.decision.at or earlier.candidate == inputs.candidate.digest:
            continue
        candidate, decision = ledger.get(Candidate, earlier.candidate), ledger.get(Decision, earlier.decision)
        found = decision_records(earlier.model, earlier.version, candidate, decision, ledger)
        return build_report(replace(found, release=earlier), at=earlier.at)
    return None


def _assessment_context(ctx: Context, inputs: ReportInputs) -> AssessmentContext:
    """What people said about the model, and when the policy was first held."""
    ledger, model, candidate = ctx.ledger, inputs.model, inputs.candidate.digest
    found = AssessmentContext(
        inputs=inputs,
        questionnaire=load_questionnaire(resource_dir("policies")),
        at=max([inputs.decision.at, *(approval.at for approval in inputs.approvals)]),
        documents=ledger.find(Document, model),
        answers=ledger.find(Answers, model),
        plans=ledger.find(ChangePlan, model),
        verdicts=ledger.find(ChangeVerdict, candidate),
        failed=ledger.find(CheckFailed, candidate),
        policy_at=_logged_at(ctx.log, inputs.policy.digest),
        incidents=ledger.find(Incident, model),
        watches=ledger.find(Watch, model),
        rollbacks=ledger.find(Rollback, model),
        monitorings=ledger.find(Monitoring, candidate),
    )
    later = (found.documents, found.answers, found.plans, found.verdicts, found.incidents, found.watches)
    used = (*later, found.rollbacks, found.monitorings, (inputs.release,) if inputs.release else ())
    return replace(found, at=max(found.at, *(one.at for kind in used for one in kind), found.at))


def _logged_at(log: Log, digest: Digest) -> Moment | None:
    """When the log first held this record; None for one that was never logged."""
    try:
        event = json.loads(log.leaf(log.leaf_index(digest)))
    except NotFound:
        return None
    return datetime.fromisoformat(event["at"])


def _written(path: Path, data: bytes) -> Path:
    """The file, whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(data)
        partial.replace(path)
    except OSError as error:
        raise Unavailable(f"the report {path} can't be written: {error.strerror}") from error
    return path
