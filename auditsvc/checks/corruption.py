"""Robustness to common corruptions: noise, blur, weather and digital artefacts.

The corruptions of ImageNet-C, with the authors' parameters and severities.  A pruned network often keeps its clean
accuracy and loses accuracy under corruption.

The published mean corruption error divides by AlexNet's errors, which exist for ImageNet alone; here the parent is the
baseline, so 1 means no worse than the parent.  The relative error first subtracts each model's own clean error.
Intervals are Student's, on the linearised ratio (the delta method): each image, or cluster of images, counts once, with
all of its conditions.  The ratio is undefined if the parent has no errors under some corruption.

Reference: D. Hendrycks and T. Dietterich (2019), "Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations", arXiv:1903.12261, section 4.3; L. Liebenwein et al. (2021), "Lost in Pruning", arXiv:2103.03014.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from auditsvc.datasets.dataset import Slices
from auditsvc.evaluation import CLEAN, Check, EvalContext
from auditsvc.evaluation.intervals import student, unseen
from auditsvc.evaluation.metrics.severity_curve import Curve, curve_metrics, curve_readings
from auditsvc.evaluation.paired import FEWEST_CLUSTERS, Pair, error_metrics
from auditsvc.evaluation.perturbations.corruptions import JUDGED, Corruption, TableName, corrupt
from auditsvc.records import OVERALL, Condition, Family, Measured, Metric, Reading, Unmeasured

ERROR_RATIOS = (
    Metric(id="mce", kind="ratio", better="lower", title="mean corruption error (the parent's is 1)"),
    Metric(id="relative_mce", kind="ratio", better="lower", title="relative mean corruption error (the parent's is 1)"),
)
"""What ``error_ratios`` emits."""

Errors = NDArray[np.float64]


def summed(pairs: Sequence[Pair]) -> tuple[Errors, Errors]:
    """Each image's error, candidate's and parent's, over the severities of one corruption, ``(N,)`` each."""
    return (
        np.sum([1.0 - pair.candidate["score"] for pair in pairs], axis=0, dtype=np.float64),
        np.sum([1.0 - pair.parent["score"] for pair in pairs], axis=0, dtype=np.float64),
    )


def error_ratios(
    errors: Sequence[tuple[Errors, Errors]], clean: Pair, severities: int, slices: Slices, alpha: float
) -> Iterator[Reading]:
    """``mce`` and ``relative_mce`` on every slice; ``errors`` has the sums of each corruption."""
    before = tuple(severities * (1.0 - answers["score"]) for answers in (clean.candidate, clean.parent))
    for metric, off in (("mce", (0.0, 0.0)), ("relative_mce", before)):
        for slice_name, inside in _members(slices):
            parts = [(mine - off[0], theirs - off[1]) for mine, theirs in errors]
            chosen = [(mine[inside], theirs[inside]) for mine, theirs in parts]
            clusters = None if slices.clusters is None else slices.clusters[inside]
            yield Reading(metric=metric, slice=slice_name, outcome=_ratio(chosen, clusters, alpha))


def _members(slices: Slices) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Each slice and which images are in it."""
    yield OVERALL, np.ones(slices.images, bool)
    for column in slices.columns:
        for code, name in enumerate(column.names):
            yield name, column.codes == code


def _ratio(
    parts: Sequence[tuple[Errors, Errors]], clusters: NDArray[np.int64] | None, alpha: float
) -> Measured | Unmeasured:
    """The mean over corruptions of the ratio of sums, with its interval."""
    images = len(parts[0][0])
    if images < 2:
        return Unmeasured(reason="a ratio needs two images at least", images=images)
    totals = [(float(mine.sum()), float(theirs.sum())) for mine, theirs in parts]
    if any(theirs <= 0 for _, theirs in totals):
        return Unmeasured(reason="the parent makes no error under one of the corruptions", images=images)
    ratios = [mine / theirs for mine, theirs in totals]
    value = float(np.mean(ratios))
    influence = np.zeros(images)
    for (mine, theirs), (_, total), ratio in zip(parts, totals, ratios, strict=True):
        influence += (mine - ratio * theirs) * images / total / len(parts)
    inverse = np.arange(images) if clusters is None else np.unique(clusters, return_inverse=True)[1]
    linear = np.bincount(inverse, weights=influence)
    units = len(linear)
    if units < min(images, FEWEST_CLUSTERS):
        return Unmeasured(reason=f"{units} clusters; an interval needs at least {FEWEST_CLUSTERS}", images=images)
    if not linear.any():
        most = max(float(theirs.max()) for _, theirs in parts)
        reach = float(unseen(np.array(units), alpha)) * images * most * float(np.mean([1 / t for _, t in totals]))
        return Measured(value=value, low=value - reach, high=value + reach, images=images)
    found = student(linear.sum() * units / images, (linear**2).sum() * (units / images) ** 2, units, alpha,
                    -np.inf, np.inf)  # fmt: skip
    reach = max(float(found.high), -float(found.low))
    if not np.isfinite(reach):
        return Unmeasured(reason="all images behave alike, so nothing is known of the spread", images=images)
    return Measured(value=value, low=value - reach, high=value + reach, images=images)


Severity = Annotated[int, Field(ge=1, le=5)]


class Corruptions(Check):
    """Corrupt every image and compare candidate with parent.

    Emits ``score.N@S``, ``parent.`` and ``drop.`` for every corruption ``N`` and severity ``S`` of 1 to 5, and over all
    of them ``mce`` and ``relative_mce`` (the parent's is 1).  ``table`` ``auto`` takes the CIFAR parameters for images
    under 64 pixels, else the ImageNet ones.  With ``curve`` also ``area.N``, ``area_loss.N`` and
    ``failure_severity.N``, the severity at which the score falls below ``floor``.
    """

    id = "corruption"
    version = 1
    topics = frozenset({"robust.corruption"})

    corruptions: Annotated[tuple[Corruption, ...], Field(min_length=1)] = JUDGED
    severities: Annotated[tuple[Severity, ...], Field(min_length=1)] = (1, 2, 3, 4, 5)
    table: TableName = "auto"
    curve: bool = False
    floor: Annotated[float, Field(ge=0, le=1)] = 0.5
    errors_apart: bool = False

    def families(self) -> tuple[Family, ...]:
        """One for each corruption."""
        return tuple(_family(name) for name in self.corruptions)

    def conditions(self) -> tuple[Condition, ...]:
        """One for each corruption and severity: ``fog@3``."""
        return tuple(one.condition(severity) for one in self.families() for severity in sorted(self.severities))

    def metrics(self) -> tuple[Metric, ...]:
        """The conditions' metrics, the curves', and the two ratios."""
        apart = error_metrics(self.conditions()) if self.errors_apart else ()
        curves = [metric for one in self.families() if self.curve for metric in curve_metrics(one.name, one.title)]
        return (*super().metrics(), *apart, *curves, *ERROR_RATIOS)

    def measure(self, case: EvalContext) -> Iterator[Reading]:
        """Compare once for each corruption and severity."""
        severities, errors = sorted(self.severities), []
        for name in self.corruptions:
            pairs = []
            for severity in severities:
                disturb = partial(corrupt, name=name, severity=severity, table=self.table)
                pairs.append(case.pair(f"{name}@{severity}", disturb))
                yield from case.readings(pairs[-1], errors_apart=self.errors_apart)
            errors.append(summed(pairs))
            if self.curve:
                yield from curve_readings(case, Curve(name, tuple(map(float, severities)), pairs, self.floor))
        yield from error_ratios(errors, case.pair(CLEAN), len(severities), case.dataset.slices, case.alpha)


def _family(name: Corruption) -> Family:
    """A corruption by its severity, 1 to 5; 0 is the image as it is."""
    words = name.replace("_", " ")
    return Family(name=name, title=words.capitalize(), axis="severity, 1 to 5", words=f"{words} of severity {{}}")
