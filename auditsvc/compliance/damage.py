"""What pruning broke: answers that changed, counted and shown."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from typing import get_args

from auditsvc.compliance.inputs import GalleryItem
from auditsvc.compliance.parts import FlipCount, Picture
from auditsvc.compliance.words import condition_order, condition_words
from auditsvc.records import OVERALL, Digest, Evidence, Measured
from auditsvc.records.evidence import Change


def flip_counts(runs: Mapping[Digest, Evidence]) -> tuple[FlipCount, ...]:
    """How many answers changed under each condition, from the readings: every image counts, shown or not."""
    churn = next(_overall(runs, "churn"), None)
    made: dict[str, FlipCount] = {}
    for digest, metric, found in _overall(runs, "drop."):
        condition = metric.removeprefix("drop.")
        if found.lost is None or found.won is None or condition in made:
            continue
        other = None
        if churn and condition == "clean":
            other = max(round(churn[2].value * churn[2].images) - found.lost - found.won, 0)
        made[condition] = FlipCount(
            condition=condition,
            title=condition_words(condition),
            images=found.images,
            broke=found.lost,
            mended=found.won,
            other=other,
            evidence=digest,
        )
    return tuple(sorted(made.values(), key=lambda count: condition_order(count.condition)))


def _overall(runs: Mapping[Digest, Evidence], start: str) -> Iterator[tuple[Digest, str, Measured]]:
    """Every number over all images whose metric starts like this, with its evidence."""
    for digest, run in runs.items():
        for reading in run.readings:
            outcome = reading.outcome
            if reading.slice == OVERALL and reading.metric.startswith(start) and isinstance(outcome, Measured):
                yield digest, reading.metric, outcome


_ORDER: tuple[Change, ...] = get_args(Change)


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
        change=item.change,
        alt=f"Test image {item.image} ({groups}; {title}): truth {item.target}, "
        f"parent said {item.parent}, candidate said {item.candidate}",
    )
