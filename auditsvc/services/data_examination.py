"""What ``data check`` says of images and labels without any model, alone and against other data sets.

The check of the same name measures for a verdict, with the parent's answers; here labels are compared with those of the
images that look alike, by a classifier that learned from other images of the set.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from auditsvc.datasets import Dataset
from auditsvc.datasets.copies import Fingerprints, fingerprints, image_groups, near_pairs
from auditsvc.datasets.image_dataset import ImageDataset
from auditsvc.datasets.representation import Representation, Target, representation
from auditsvc.datasets.slicing import subjects_of
from auditsvc.evaluation import wilson
from auditsvc.evaluation.metrics.label_noise import out_of_fold, suspects
from auditsvc.records import Value

ALPHA = 0.05
TRUSTED = 0.9
"""The share of labels that the classifier has to agree with: else it says nothing about the others."""
ODD_SIZE = 4.0
"""How many times larger or smaller than usual a side of an odd-sized image is."""


class Suspect(Value):
    """One image to review, and why: a fault, the image that it is a copy of, or the class that it seems to show."""

    image: str
    fault: str
    why: str = ""


class Quality(Value):
    """Counts with the images behind them; every share has its interval, each end a one-sided bound at ``ALPHA``."""

    images: int
    counts: dict[str, int]
    shares: dict[str, tuple[float, float, float]]
    classes: dict[str, int] = {}
    shared: dict[str, dict[str, int]] = {}
    """For each other data set, how many images and subjects are in both."""
    suspects: tuple[Suspect, ...] = ()
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """The counts in words."""
        found = [
            f"{name}: {count} of {self.images} images, {100 * value:.1f} % ({100 * low:.1f} to {100 * high:.1f})"
            for name, count in self.counts.items()
            for value, low, high in [self.shares[name]]
        ]
        if self.classes:
            found.append("classes: " + ", ".join(f"{name} {count}" for name, count in self.classes.items()))
        for name, both in self.shared.items():
            found.append(f"also in {name}: " + ", ".join(f"{count} {what}" for what, count in both.items()))
        return [*found, *self.notes]

    def table(self) -> str:
        """The images to review as CSV."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("image", "fault", "why"))
        writer.writerows((one.image, one.fault, one.why) for one in self.suspects)
        return stream.getvalue()


@dataclass
class _Findings:
    dataset: Dataset
    counts: dict[str, int]
    suspects: list[Suspect]
    notes: list[str]

    def add(
        self, fault: str, places: Sequence[int] | NDArray[np.int64], why: Callable[[int], str] = lambda _: ""
    ) -> None:
        self.counts[fault] = len(places)
        self.suspects += [
            Suspect(image=self.dataset.name_of(int(one)), fault=fault, why=why(int(one))) for one in places
        ]


def examine(
    dataset: Dataset,
    others: Mapping[str, Dataset] | None = None,
    target: Target | None = None,
    tick: Callable[[int], None] = lambda _images: None,
) -> tuple[Quality, Representation | None]:
    """Copies, images that show nothing, odd sizes, classes and doubtful labels; what is in the ``others`` too; and the
    distance from a target.

    Raises:
        InvalidDataset: an image that can't be read.
        InvalidInput: a target that does not fit.
    """
    found = _Findings(dataset, {}, [], [])
    seen, images = fingerprints(dataset, tick), dataset.ref.images
    groups, _ = image_groups(seen.digests, seen.thumbnails)
    _, first, place, counts = np.unique(groups, return_index=True, return_inverse=True, return_counts=True)
    found.add("copies", np.flatnonzero(counts[place] > 1), lambda one: dataset.name_of(int(first[place[one]])))
    for fault, places in seen.unusable.items():
        found.add(fault, places)
    found.add("odd size", _odd_sizes(dataset))
    classes = _labels(dataset, seen, found)
    shared = {name: _shared(found, seen, name, other) for name, other in (others or {}).items()}
    ends = {name: wilson(count, images, ALPHA) for name, count in found.counts.items()}
    quality = Quality(
        images=images,
        counts=found.counts,
        shares={name: (found.counts[name] / images, float(one.low), float(one.high)) for name, one in ends.items()},
        classes=classes,
        shared=shared,
        suspects=tuple(found.suspects),
        notes=tuple(found.notes),
    )
    return quality, representation(target, dataset.slices, ALPHA) if target else None


def _odd_sizes(dataset: Dataset) -> NDArray[np.int64]:
    headers = dataset.images.headers if isinstance(dataset, ImageDataset) else ()
    if not headers:
        return np.zeros(0, np.int64)
    sides = np.array([one.shape for one in headers], float)
    ratio = sides / np.median(sides, axis=0)
    return np.flatnonzero((np.maximum(ratio, 1 / ratio) > ODD_SIZE).any(1))


def _labels(dataset: Dataset, seen: Fingerprints, found: _Findings) -> dict[str, int]:
    """Images of each class, and labels that a classifier of the thumbnails contradicts."""
    if dataset.ref.task != "classification":
        return {}
    labels = np.array([int(dataset.target_of(number)) for number in range(dataset.ref.images)])
    pixels = seen.thumbnails.reshape(len(labels), -1).astype(np.float64)
    pixels -= pixels.mean(1, keepdims=True)
    pixels /= np.linalg.norm(pixels, axis=1, keepdims=True).clip(1e-6)
    said = out_of_fold(pixels, labels, len(dataset.classes))
    wrong, agreed = np.flatnonzero(suspects(said, labels)), float((said.argmax(1) == labels).mean())
    if agreed < TRUSTED:
        found.notes.append(
            f"labels were not judged: what learned from the other images agrees with {100 * agreed:.0f} % of them, "
            f"{100 * TRUSTED:.0f} % are needed; an audit judges them by the parent's answers (the check data_quality)"
        )
    else:
        found.add("doubtful label", wrong, lambda one: dataset.classes[int(said[one].argmax())])
    counts = np.bincount(labels, minlength=len(dataset.classes)).tolist()
    return dict(zip(dataset.classes, counts, strict=True))


def _shared(found: _Findings, seen: Fingerprints, name: str, other: Dataset) -> dict[str, int]:
    theirs = fingerprints(other)
    equal = np.flatnonzero(np.isin(seen.digests, theirs.digests))
    near, there = near_pairs(seen.thumbnails, theirs.thumbnails)
    both = np.union1d(equal, near)
    like = dict(zip(near.tolist(), there.tolist(), strict=True))
    found.suspects += [
        Suspect(image=found.dataset.name_of(int(one)), fault=f"also in {name}",
                why=other.name_of(like[int(one)]) if int(one) in like else "")
        for one in both
    ]  # fmt: skip
    shared = {"images": len(both)}
    ours, subjects = subjects_of(found.dataset), subjects_of(other)
    if ours is None or subjects is None:
        found.notes.append(f"subjects in {name} too: not known, because not both declare a `cluster`")
        return shared
    return shared | {"subjects": len(set(ours) & set(subjects))}
