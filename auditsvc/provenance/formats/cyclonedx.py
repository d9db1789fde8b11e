"""The bill of materials of a release: CycloneDX with a model card, for tools that read nothing else.

The readings stand in the model card per slice, with their intervals; the parent that was pruned stands
under ``pedigree.ancestors``.  Written as plain JSON: the Python library of CycloneDX drops model cards.

Reference: OWASP / Ecma International (2024), "CycloneDX Bill of Materials", ECMA-424 (version 1.6).
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from typing import Any

from auditsvc.provenance.formats.oms import strip_prefix
from auditsvc.records import Candidate, Decision, Evidence, FileEntry, Measured, Parent

BOM_VERSION = "1.6"
_TASKS = {
    "classification": "image classification",
    "detection": "object detection",
    "segmentation": "image segmentation",
    "ocr": "text recognition",
    "tracking": "object tracking",
}


def bill_of_materials(
    candidate: Candidate, version: str, parent: Parent, evidence: Sequence[Evidence], decision: Decision
) -> dict[str, Any]:
    """The CycloneDX document as JSON data; the same records give the same document."""
    serial = uuid.uuid5(uuid.NAMESPACE_URL, f"auditsvc:{candidate.digest}:{decision.digest}")
    return {
        "bomFormat": "CycloneDX",
        "specVersion": BOM_VERSION,
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        "metadata": {
            "timestamp": decision.at.isoformat().replace("+00:00", "Z"),
            "component": _model(candidate, version, parent, evidence, decision),
        },
        "components": [_file(file) for file in candidate.files],
        "dependencies": [
            {"ref": f"model:{candidate.digest}", "dependsOn": [f"file:{file.name}" for file in candidate.files]}
        ],
    }


def _model(
    candidate: Candidate, version: str, parent: Parent, evidence: Sequence[Evidence], decision: Decision
) -> dict[str, Any]:
    return {
        "type": "machine-learning-model",
        "bom-ref": f"model:{candidate.digest}",
        "name": candidate.model,
        "version": version,
        "licenses": [{"license": {"name": parent.licence}}],
        "pedigree": {"ancestors": [_ancestor(parent)], "notes": _recipe(candidate)},
        "modelCard": {
            "modelParameters": {
                "approach": {"type": "supervised"},
                "task": _TASKS[candidate.task],
                "architectureFamily": "convolutional neural network",
                "modelArchitecture": candidate.architecture,
                "datasets": _datasets(evidence),
            },
            "quantitativeAnalysis": {"performanceMetrics": list(_metrics(evidence))},
            "considerations": {
                "useCases": [parent.intended_use],
                "technicalLimitations": [f"Not for: {parent.not_for}", *_limits(decision)],
                "fairnessAssessments": list(_slices_at_risk(decision)),
            },
        },
        "properties": [
            {"name": f"auditsvc:card:{name}", "value": repr(value)} for name, value in sorted(candidate.card.items())
        ],
    }


def _ancestor(parent: Parent) -> dict[str, Any]:
    return {
        "type": "machine-learning-model",
        "bom-ref": f"model:{parent.digest}",
        "name": parent.model,
        "description": f"the parent that was pruned, from {parent.source}",
        "licenses": [{"license": {"name": parent.licence}}],
        "components": [_file(file, "parent/") for file in parent.files],
    }


def _file(file: FileEntry, prefix: str = "") -> dict[str, Any]:
    return {
        "type": "file",
        "bom-ref": f"file:{prefix}{file.name}",
        "name": file.name,
        "hashes": [{"alg": "SHA-256", "content": strip_prefix(file.digest)}],
    }


def _recipe(candidate: Candidate) -> str:
    recipe = candidate.recipe
    if recipe is None:
        return "Pruned elsewhere; how is not known."
    targets = ", ".join(f"{name} {value!r}" for name, value in sorted(recipe.targets.items()))
    return f"Pruned by {recipe.method} ({targets}), seed {recipe.seed}."


def _datasets(evidence: Sequence[Evidence]) -> list[dict[str, Any]]:
    known = {item.dataset.digest: item.dataset for item in evidence}
    return [
        {
            "type": "dataset",
            "name": known[digest].name,
            "contents": {"properties": [{"name": "digest", "value": digest}]},
            "description": f"{known[digest].images} images, {known[digest].licence}, from {known[digest].source}",
        }
        for digest in sorted(known)
    ]


def _metrics(evidence: Iterable[Evidence]) -> Iterable[dict[str, Any]]:
    """Each measured reading; one that could not be measured is no metric, and is left out here."""
    for item in evidence:
        for reading in item.readings:
            outcome = reading.outcome
            if isinstance(outcome, Measured):
                yield {
                    "type": f"{item.key.check}/{reading.metric}",
                    "value": repr(outcome.value),
                    "slice": reading.slice,
                    "confidenceInterval": {"lowerBound": repr(outcome.low), "upperBound": repr(outcome.high)},
                }


def _limits(decision: Decision) -> list[str]:
    unknown = sorted({f"{j.rule} on {j.slice} is not known" for j in decision.judgements if j.verdict == "unknown"})
    return unknown[:100]


def _slices_at_risk(decision: Decision) -> Iterable[dict[str, Any]]:
    for judgement in decision.findings:
        if judgement.slice != "overall":
            yield {"groupAtRisk": judgement.slice, "harms": judgement.words}
