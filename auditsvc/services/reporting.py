"""Write the report of one decision: load its records, build the report, render it, and store the files.

A report is dated by the newest record that it is based on, not by the clock, so it can be made again from the ledger,
byte for byte.

Its images are those whose answer changed, and one image under each condition; its siblings are the other candidates of
the parent.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from auditsvc.checks import check_named
from auditsvc.compliance.assessment.assessment_context import GalleryItem, ReportInputs, Sibling
from auditsvc.compliance.assessment.framework import load_frameworks
from auditsvc.compliance.render import render_files
from auditsvc.compliance.render.tables import PICTURES, pictures
from auditsvc.compliance.report.build import build_report
from auditsvc.compliance.report.report_model import Report
from auditsvc.datasets import Dataset
from auditsvc.datasets.images import as_png
from auditsvc.datasets.scaling import one_size, scaled_for
from auditsvc.evaluation import Disturbance, image_seeds
from auditsvc.ports import Context, Ledger
from auditsvc.provenance.formats.release_layout import write_whole
from auditsvc.records import (
    Candidate,
    Decision,
    Evidence,
    Flip,
    Policy,
    Release,
    Submission,
    Timing,
    Verification,
)
from auditsvc.records.evidence import Change, DiscoveredSlices, Exemplars
from auditsvc.resources import resource_dir
from auditsvc.services.decisions import is_clean, report_folder
from auditsvc.services.holdout import images_not_recorded
from auditsvc.services.model_store import stored_card
from auditsvc.services.statements import assessment_context
from auditsvc.services.terms import decision_records

GALLERY, BROKEN = 24, 16
"""Pictures in a report, and how many of them at the most show the same kind of change; all flips are counted."""

_SHOWN_FIRST: dict[Change, int] = {
    "right to wrong": 0, "worse": 0, "wrong to right": 1, "better": 1, "wrong to other wrong": 2, "otherwise": 2,
}  # fmt: skip

WIDE = 160
"""Pixels of the longer side of an example."""


def gallery(evidence: Iterable[Evidence], dataset: Dataset) -> tuple[GalleryItem, ...]:
    """Images whose answer changed: untouched ones first, broken ones before others, each image once."""
    flips: dict[str, Flip] = {}
    for flip in sorted((flip for item in evidence for flip in item.flips), key=_interest):
        flips.setdefault(flip.image, flip)
    kinds: dict[tuple[bool, bool, int], int] = {}
    chosen = []
    for flip in flips.values():
        kind = _interest(flip)
        kinds[kind] = kinds.get(kind, 0) + 1
        if kinds[kind] <= (BROKEN if kind[-1] == 0 else GALLERY - BROKEN):
            chosen.append(flip)
    return tuple(_shown(flip, dataset) for flip in chosen[:GALLERY])


def _interest(flip: Flip) -> tuple[bool, bool, int]:
    """What sorts first is shown first: found changes, untouched images, then what broke, what was mended, the rest."""
    return not flip.picture, flip.condition != "clean", _SHOWN_FIRST[flip.change]


def _shown(flip: Flip, dataset: Dataset) -> GalleryItem:
    return GalleryItem(
        image=flip.image,
        data=base64.b64decode(flip.picture) if flip.picture else dataset.thumbnail(dataset.index_of(flip.image)),
        parent=flip.parent,
        candidate=flip.candidate,
        target=flip.target,
        slices=flip.slices,
        condition=flip.condition,
        change=flip.change,
    )


def examples(policy: Policy, dataset: Dataset, image: str) -> dict[str, bytes]:
    """One image under every condition that the policy's checks can show, as PNG by condition.

    Drawn with the policy's seed, so it is the very image that the models saw.
    """
    index = dataset.index_of(image)
    batch = next(iter(dataset.batches(1, np.array([index]))))
    found = {}
    for name, disturb in _disturbances(policy).items():
        with torch.inference_mode():
            seen = disturb(batch.images, image_seeds(policy.seed, name, batch.indices))
        found[name] = _png(seen[0])
    return found


def _disturbances(policy: Policy) -> Mapping[str, Disturbance]:
    made: dict[str, Disturbance] = {}
    for name, spec in policy.checks.items():
        made |= check_named(name, spec).disturbances()
    return made


def _png(image: torch.Tensor) -> bytes:
    """``(C, H, W)`` in 0..1 as a small PNG."""
    return as_png((image.clamp(0, 1) * 255).round().to(torch.uint8).movedim(0, -1).numpy(), WIDE)


def siblings(candidate: Candidate, decision: Decision, ledger: Ledger) -> Iterator[Sibling]:
    """Every other candidate of this parent that was judged by the time of this decision, on the same images."""
    datasets = {ledger.get(Evidence, digest).key.dataset for digest in decision.evidence}
    for other in ledger.find(Candidate, candidate.parent):
        judged = [one for one in ledger.find(Decision, other.digest) if one.at <= decision.at]
        known = ledger.find(Submission, other.digest)
        if other.digest == candidate.digest or not judged or not known:
            continue
        clean = (ledger.get(Evidence, digest) for digest in judged[-1].evidence)
        evidence = next((item for item in clean if item.key.dataset in datasets and is_clean(item)), None)
        if evidence is not None:
            yield Sibling(known[0].version, other, judged[-1].outcome, evidence)


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
    context = assessment_context(ctx, inputs)
    frameworks = load_frameworks(resource_dir("policies"))
    before = _previous(ctx, inputs)
    report = build_report(inputs, at=context.at, context=context, frameworks=frameworks, previous=before)
    folder = report_folder(ctx.folder, decision.digest, inputs.model, inputs.version)
    files = {folder / name: data for name, data in render_files(report, formats).items()}
    for path, data in {folder / PICTURES: pictures(inputs.gallery), **files}.items():
        write_whole(path, data)
    return tuple(files)


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
    found = decision_records(ReportInputs, ledger, submission.model, submission.version, candidate, decision)
    releases = ledger.find(Release, decision.digest)
    shown = gallery(found.evidence, dataset)
    searched, used = ledger.find(DiscoveredSlices, candidate.digest), {run.key.dataset for run in found.evidence}
    alike = ledger.find(Exemplars, candidate.digest)
    exampled = shown[0].image if shown else dataset.name_of(0)
    seen = dataset if one_size(dataset) else scaled_for(dataset, stored_card(ctx, candidate.files))
    return replace(
        found,
        release=releases[-1] if releases else None,
        gallery=shown,
        siblings=tuple(siblings(candidate, decision, ledger)),
        examples=examples(found.policy, seen, exampled),
        exampled=exampled,
        exemplars=next((one for one in alike[::-1] if one.dataset in used and one.at <= decision.at), None),
        suggestions=next((one for one in searched[::-1] if one.dataset in used and one.at <= decision.at), None),
        timing=next((one for one in ledger.find(Timing, candidate.digest)[::-1] if one.at <= decision.at), None),
        verification=verification,
        where=where,
        not_recorded=images_not_recorded(ledger, candidate),
    )


def _previous(ctx: Context, inputs: ReportInputs) -> Report | None:
    """The report of the release that stood before this decision, for comparison; None for a first one."""
    ledger = ctx.ledger
    for earlier in reversed(ledger.find(Release, inputs.model)):
        if earlier.at > inputs.decision.at or earlier.candidate == inputs.candidate.digest:
            continue
        candidate, decision = ledger.get(Candidate, earlier.candidate), ledger.get(Decision, earlier.decision)
        found = decision_records(ReportInputs, ledger, earlier.model, earlier.version, candidate, decision)
        return build_report(replace(found, release=earlier), at=earlier.at)
    return None
