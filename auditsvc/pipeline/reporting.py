"""Write the report of one decision: gather its records, compose, render, put the file in place."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from auditsvc.compliance import GalleryItem, ReportInputs, compose, render_html
from auditsvc.errors import Unavailable
from auditsvc.measuring import Dataset
from auditsvc.ports import Ports
from auditsvc.records import (
    Approval,
    Candidate,
    Decision,
    Evidence,
    Flip,
    Parent,
    Policy,
    Release,
    Submission,
    Verification,
    Waiver,
)

GALLERY = 24
"""Pictures in a report; all flips are counted in the evidence."""


def write_report(
    candidate: Candidate,
    decision: Decision,
    dataset: Dataset,
    ports: Ports,
    verification: Verification | None = None,
    where: Mapping[str, str] | None = None,
) -> Path:
    """The HTML report of one decision, in ``reports/MODEL/VERSION/report.html`` of the ports' folder."""
    submission = ports.ledger.find(Submission, candidate.digest)[0]
    evidence = tuple(ports.ledger.get(Evidence, digest) for digest in decision.evidence)
    releases = ports.ledger.find(Release, decision.digest)
    inputs = ReportInputs(
        model=submission.model,
        version=submission.version,
        candidate=candidate,
        parent=ports.ledger.get(Parent, candidate.parent),
        policy=ports.ledger.get(Policy, decision.policy),
        decision=decision,
        evidence=evidence,
        approvals=ports.ledger.find(Approval, decision.digest),
        waivers=tuple(ports.ledger.get(Waiver, digest) for digest in decision.waivers),
        release=releases[-1] if releases else None,
        submitter=submission.submitter,
        gallery=_gallery(evidence, dataset),
        verification=verification,
        where=where or {},
    )
    page = render_html(compose(inputs, at=ports.clock.now()))
    return _written(ports.folder / "reports" / submission.model / submission.version / "report.html", page)


def _gallery(evidence: tuple[Evidence, ...], dataset: Dataset) -> tuple[GalleryItem, ...]:
    """The first flips of every check, clean ones before disturbed ones, each image once."""
    flips: dict[str, Flip] = {}
    for flip in sorted((flip for item in evidence for flip in item.flips), key=lambda flip: flip.condition != "clean"):
        flips.setdefault(flip.image, flip)
    return tuple(
        GalleryItem(
            image=flip.image,
            data=dataset.thumbnail(dataset.index_of(flip.image)),
            parent=flip.parent,
            candidate=flip.candidate,
            target=flip.target,
            slices=flip.slices,
            condition=flip.condition,
        )
        for flip in list(flips.values())[:GALLERY]
    )


def _written(path: Path, text: str) -> Path:
    """The file, whole or not at all."""
    partial = path.with_suffix(".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text, "utf-8")
        partial.replace(path)
    except OSError as error:
        raise Unavailable(f"the report {path} can't be written: {error.strerror}") from error
    return path
