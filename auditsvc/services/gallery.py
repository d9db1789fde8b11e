"""The images of a report: images whose answer changed, one image under each condition, and the sibling candidates."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import torch
from PIL import Image

from auditsvc.checks import check_named
from auditsvc.compliance.assessment.assessment_context import GalleryItem, Sibling
from auditsvc.datasets import Dataset
from auditsvc.evaluation import Disturbance, image_seeds
from auditsvc.ports import Ledger
from auditsvc.records import Candidate, Decision, Evidence, Flip, Policy, Submission
from auditsvc.records.evidence import Change
from auditsvc.services.decisions import is_clean

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
    kinds: dict[tuple[bool, int], int] = {}
    chosen = []
    for flip in flips.values():
        kind = _interest(flip)
        kinds[kind] = kinds.get(kind, 0) + 1
        if kinds[kind] <= (BROKEN if kind[1] == 0 else GALLERY - BROKEN):
            chosen.append(flip)
    return tuple(_shown(flip, dataset) for flip in chosen[:GALLERY])


def _interest(flip: Flip) -> tuple[bool, int]:
    """What sorts first is shown first: untouched images, then what broke, what was mended, what is otherwise."""
    return flip.condition != "clean", _SHOWN_FIRST[flip.change]


def _shown(flip: Flip, dataset: Dataset) -> GalleryItem:
    return GalleryItem(
        image=flip.image,
        data=dataset.thumbnail(dataset.index_of(flip.image)),
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
    pixels = (image.clamp(0, 1) * 255).round().to(torch.uint8).movedim(0, -1).numpy()
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    picture.thumbnail((WIDE, WIDE))
    out = io.BytesIO()
    picture.save(out, format="PNG")
    return out.getvalue()


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
