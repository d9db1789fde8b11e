"""The bill of materials of a candidate: CycloneDX 1.6 with a model card (ML-BOM).

There is one document for each candidate and decision: the report's ``bom.cdx.json`` and the signed ``bom`` attestation
of the release are the same, with the same serial number.  The model card holds each reading by slice, with its
interval; the parent that was pruned is the ancestor in the pedigree.  Plain JSON data, because the Python library of
CycloneDX does not write model cards.

Reference: OWASP / Ecma International (2024), "CycloneDX Bill of Materials", ECMA-424 (version 1.6).
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from typing import Any

from auditsvc import __version__
from auditsvc.records.data_card import DataUse
from auditsvc.records.decision import Decision
from auditsvc.records.evidence import Evidence, Measured
from auditsvc.records.model import Candidate, FileEntry, Parent

SPEC_VERSION = "1.6"
_TASKS = {
    "classification": "image classification",
    "detection": "object detection",
    "segmentation": "image segmentation",
    "ocr": "text recognition",
    "tracking": "object tracking",
}


def bill_of_materials(
    candidate: Candidate,
    version: str,
    parent: Parent,
    evidence: Iterable[Evidence],
    decision: Decision,
    made_from: Sequence[DataUse] = (),
) -> dict[str, Any]:
    """The CycloneDX document as JSON data.

    ``evidence`` may hold more than the decision used; the rest is left out.  The same records give the same document.
    """
    runs = {run.digest: run for run in evidence}
    used = [runs[digest] for digest in decision.evidence if digest in runs]
    serial = uuid.uuid5(uuid.NAMESPACE_URL, f"auditsvc:{candidate.digest}:{decision.digest}")
    return {
        "$schema": f"http://cyclonedx.org/schema/bom-{SPEC_VERSION}.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": SPEC_VERSION,
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        "metadata": {
            "timestamp": decision.at.isoformat().replace("+00:00", "Z"),
            "tools": {"components": [{"type": "application", "name": "auditsvc", "version": __version__}]},
            "component": _model(candidate, version, parent, used, decision, made_from),
        },
        "components": [_file(file) for file in candidate.files],
        "dependencies": [{"ref": candidate.digest, "dependsOn": [f"file:{file.name}" for file in candidate.files]}],
    }


def _model(
    candidate: Candidate,
    version: str,
    parent: Parent,
    evidence: Sequence[Evidence],
    decision: Decision,
    made_from: Sequence[DataUse],
) -> dict[str, Any]:
    card = {f"card:{name}": repr(value) for name, value in sorted(candidate.card.items())}
    facts = {"decision": decision.outcome, "decision-record": decision.digest, "policy-record": decision.policy} | card
    return {
        "type": "machine-learning-model",
        "bom-ref": candidate.digest,
        "name": candidate.model,
        "version": version,
        "licenses": [{"license": {"name": parent.licence}}],
        "pedigree": {"ancestors": [_ancestor(parent)], "notes": _recipe(candidate)},
        "modelCard": {
            "modelParameters": {
                "approach": {"type": "supervised"},
                "task": _TASKS.get(candidate.task, candidate.task),
                "architectureFamily": "convolutional neural network",
                "modelArchitecture": candidate.architecture,
                "datasets": [*_datasets(evidence), *map(_used, made_from)],
            },
            "quantitativeAnalysis": {"performanceMetrics": list(_metrics(evidence))},
            "considerations": {
                "useCases": [parent.intended_use],
                "technicalLimitations": [f"Not for: {parent.not_for}", *_unknowns(decision)],
                "fairnessAssessments": list(_groups_at_risk(decision)),
            },
        },
        "properties": [{"name": f"auditsvc:{name}", "value": value} for name, value in facts.items()],
    }


def _ancestor(parent: Parent) -> dict[str, Any]:
    return {
        "type": "machine-learning-model",
        "bom-ref": parent.digest,
        "name": parent.model,
        "description": f"The parent before pruning, from {parent.source}",
        "licenses": [{"license": {"name": parent.licence}}],
        "components": [_file(file, "parent/") for file in parent.files],
    }


def _file(file: FileEntry, prefix: str = "") -> dict[str, Any]:
    return {
        "type": "file",
        "bom-ref": f"file:{prefix}{file.name}",
        "name": file.name,
        "hashes": [{"alg": "SHA-256", "content": file.digest.removeprefix("sha256:")}],
    }


def _recipe(candidate: Candidate) -> str:
    recipe = candidate.recipe
    if recipe is None:
        return "Pruned by another tool; the method is unknown."
    targets = ", ".join(f"{name} {value!r}" for name, value in sorted(recipe.targets.items()))
    return f"Pruned by {recipe.method} ({targets}), seed {recipe.seed}."


def _datasets(evidence: Sequence[Evidence]) -> list[dict[str, Any]]:
    datasets = {run.dataset.digest: run.dataset for run in evidence}
    return [
        {
            "type": "dataset",
            "name": dataset.name,
            "contents": {"properties": [{"name": "digest", "value": digest}]},
            "description": f"{dataset.images} images, {dataset.licence}, from {dataset.source}",
        }
        for digest, dataset in sorted(datasets.items())
    ]


def _used(use: DataUse) -> dict[str, Any]:
    """A data set that made the model, as its card describes it."""
    card = use.card
    found: dict[str, Any] = {
        "type": "dataset",
        "name": use.name,
        "contents": {"properties": [{"name": "digest", "value": use.dataset}, {"name": "use", "value": use.purpose}]},
        "description": f"{card.images} images, {card.licence}, from {card.source}" if card else "no card was written",
    }
    if card and card.personal:
        found["sensitiveData"] = [card.personal]
    if card and card.collection and card.collection.by:
        found["governance"] = {"custodians": [{"organization": {"name": card.collection.by}}]}
    return found


def _metrics(evidence: Iterable[Evidence]) -> Iterable[dict[str, Any]]:
    """Each measured reading; an unmeasured one is not a metric, and is left out."""
    for run in evidence:
        for reading in run.readings:
            outcome = reading.outcome
            if isinstance(outcome, Measured):
                yield {
                    "type": f"{run.key.check}/{reading.metric}",
                    "value": repr(outcome.value),
                    "slice": reading.slice,
                    "confidenceInterval": {"lowerBound": repr(outcome.low), "upperBound": repr(outcome.high)},
                }


def _unknowns(decision: Decision) -> list[str]:
    unknown = {f"{one.rule} on {one.slice} is unknown" for one in decision.judgements if one.verdict == "unknown"}
    return sorted(unknown)[:100]


def _groups_at_risk(decision: Decision) -> Iterable[dict[str, Any]]:
    for judgement in decision.findings:
        if judgement.slice != "overall":
            yield {"groupAtRisk": judgement.slice, "harms": judgement.words}
