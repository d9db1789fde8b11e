"""CycloneDX 1.6 ML-BOM: the candidate as a component with a model card, the parent as its ancestor."""

from __future__ import annotations

import uuid
from typing import Any

from auditsvc.compliance.report.figures import Number
from auditsvc.compliance.report.report_model import EvidenceRow, Report, SliceRow, SliceTable
from auditsvc.compliance.report.wording import MEASURE_WORDS
from auditsvc.records import canonical_json

SPEC_VERSION = "1.6"
_ROOT = uuid.UUID("0c1be4f1-5d0e-5f39-8d0b-6c1f5b8a7c11")
Json = dict[str, Any]


def render_bom(report: Report) -> bytes:
    """The bill of materials, canonical JSON; the same report gives the same bytes."""
    subject = report.subject
    serial = uuid.uuid5(_ROOT, f"{subject.candidate}|{report.decision.record}|{report.at.isoformat()}")
    return canonical_json(
        {
            "$schema": f"http://cyclonedx.org/schema/bom-{SPEC_VERSION}.schema.json",
            "bomFormat": "CycloneDX",
            "specVersion": SPEC_VERSION,
            "serialNumber": f"urn:uuid:{serial}",
            "version": 1,
            "metadata": {
                "timestamp": report.at.isoformat().replace("+00:00", "Z"),
                "tools": {
                    "components": [{"type": "application", "name": "auditsvc", "version": report.tool.split()[-1]}]
                },
                "component": _model(report),
            },
            "components": [_dataset(row) for row in _datasets(report).values()],
        }
    )


def _hash(digest: str) -> Json:
    return {"alg": "SHA-256", "content": digest.removeprefix("sha256:")}


def _model(report: Report) -> Json:
    subject, lineage = report.subject, report.lineage
    facts = {fact.label: fact.value for fact in lineage.parent}
    ancestor = {
        "type": "machine-learning-model",
        "bom-ref": subject.parent,
        "name": facts.get("Name", subject.model),
        "hashes": [_hash(subject.parent)],
        "description": facts.get("Source", ""),
        "licenses": [{"license": {"name": facts.get("Licence", "not stated")}}],
    }
    return {
        "type": "machine-learning-model",
        "bom-ref": subject.candidate,
        "name": subject.model,
        "version": subject.version,
        "hashes": [_hash(subject.candidate)],
        "description": f"A pruned {subject.task} model. {report.decision.headline}: {report.decision.explanation}",
        "pedigree": {"ancestors": [ancestor], "notes": "; ".join(f"{f.label}: {f.value}" for f in lineage.recipe)},
        "modelCard": _card(report),
        "properties": [
            {"name": "auditsvc:decision", "value": report.decision.outcome},
            {"name": "auditsvc:decision-record", "value": report.decision.record},
            {"name": "auditsvc:policy-record", "value": report.decision.policy_record},
        ],
    }


def _card(report: Report) -> Json:
    subject = report.subject
    return {
        "modelParameters": {
            "task": subject.task,
            "modelArchitecture": subject.architecture,
            "datasets": [{"ref": digest} for digest in _datasets(report)],
        },
        "quantitativeAnalysis": {"performanceMetrics": _metrics(report)},
        "considerations": {
            "useCases": [subject.intended_use],
            "technicalLimitations": [f"Not for: {subject.not_for}", *report.summary.not_tested],
            "fairnessAssessments": [
                {"groupAtRisk": row.slice, "harms": _harm(row)} for row in _groups(report) if _harm(row)
            ],
        },
    }


def _metrics(report: Report) -> list[Json]:
    kind = MEASURE_WORDS[report.subject.task]
    return [
        {
            "type": kind if table.condition == "clean" else f"{kind}, {table.title}",
            "value": repr(row.candidate.value),
            "slice": row.slice,
            "confidenceInterval": {"lowerBound": repr(row.candidate.low), "upperBound": repr(row.candidate.high)},
        }
        for table in report.slices
        for row in table.rows
        if isinstance(row.candidate, Number)
    ]


def _clean(report: Report) -> SliceTable | None:
    return next((table for table in report.slices if table.condition == "clean"), None)


def _groups(report: Report) -> tuple[SliceRow, ...]:
    clean = _clean(report)
    return tuple(row for row in clean.rows if row.slice != "overall") if clean else ()


def _harm(row: SliceRow) -> str:
    """A loss of this group that is no chance."""
    if not isinstance(row.loss, Number) or row.loss.low <= 0:
        return ""
    return f"loses {row.loss.value:.3f} against the parent ({row.loss.low:.3f} to {row.loss.high:.3f})"


def _datasets(report: Report) -> dict[str, EvidenceRow]:
    return {row.dataset_digest: row for row in report.evidence}


def _dataset(row: EvidenceRow) -> Json:
    return {
        "type": "data",
        "bom-ref": row.dataset_digest,
        "name": row.dataset,
        "hashes": [_hash(row.dataset_digest)],
        "description": row.dataset_source,
        "licenses": [{"license": {"name": row.dataset_licence}}],
        "data": [{"type": "dataset", "name": row.dataset}],
    }
