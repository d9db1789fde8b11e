"""What pruning broke: answers that changed, counted and shown."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Mapping

from auditsvc.compliance.inputs import GalleryItem
from auditsvc.compliance.parts import Change, FlipCount, Picture
from auditsvc.compliance.words import condition_order, condition_words
from auditsvc.records import Digest, Evidence, Flip


def change_of(parent: str, candidate: str, target: str) -> Change:
    """What happened to the answer."""
    if parent == target:
        return "right to wrong"
    return "wrong to right" if candidate == target else "wrong to other wrong"


def flip_counts(runs: Mapping[Digest, Evidence]) -> tuple[FlipCount, ...]:
    """How many answers changed under each condition of each run."""
    made = []
    for digest, run in runs.items():
        for condition in dict.fromkeys(flip.condition for flip in run.flips):
            found = Counter(_change(flip) for flip in run.flips if flip.condition == condition)
            made.append(
                FlipCount(
                    condition=condition,
                    title=condition_words(condition),
                    broke=found["right to wrong"],
                    mended=found["wrong to right"],
                    other=found["wrong to other wrong"],
                    evidence=digest,
                )
            )
    return tuple(sorted(made, key=lambda count: condition_order(count.condition)))


def _change(flip: Flip) -> Change:
    return change_of(flip.parent, flip.candidate, flip.target)


_ORDER: tuple[Change, ...] = ("right to wrong", "wrong to other wrong", "wrong to right")


def pictures(gallery: tuple[GalleryItem, ...]) -> tuple[Picture, ...]:
    """The gallery, what broke first."""
    made = [_picture(item) for item in gallery]
    return tuple(sorted(made, key=lambda picture: (_ORDER.index(picture.change), condition_order(picture.condition))))


def _picture(item: GalleryItem) -> Picture:
    title = condition_words(item.condition)
    groups = ", ".join(item.slices) or "no group"
    return Picture(
        image=item.image,
        media_type="image/jpeg" if item.data[:2] == b"\xff\xd8" else "image/png",
        data=base64.b64encode(item.data).decode("ascii"),
        parent=item.parent,
        candidate=item.candidate,
        target=item.target,
        slices=item.slices,
        condition=item.condition,
        title=title,
        change=change_of(item.parent, item.candidate, item.target),
        alt=f"Test image {item.image} ({groups}; {title}): truth {item.target}, "
        f"parent said {item.parent}, candidate said {item.candidate}",
    )
