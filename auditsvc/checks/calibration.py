"""Calibration: expected calibration error, selective risk and reliability curve of candidate and parent.

A pruned network often keeps its answers but becomes overconfident.  The calibration error is the root mean squared
distance between confidence and accuracy over bins of equal size, debiased (a perfectly calibrated model has a binned
error of 5 points on 200 images).  The selective risk is the error rate among the most confident answers; the area under
the risk-coverage curve is its mean over every coverage, and smaller is better.  The reliability curve gives the
accuracy of each confidence bin for both models.

Intervals come from the bootstrap, by cluster where there are clusters; candidate and parent are resampled together, so
their difference is paired.  The change of the calibration error is bounded on the squared errors.

References: A. Kumar, P. Liang and T. Ma (2019), "Verified Uncertainty Calibration", arXiv:1909.10155 (the debiased
estimator); C. Guo et al. (2017), arXiv:1706.04599; Y. Geifman and R. El-Yaniv (2017), arXiv:1705.08500; Y. Geifman,
G. Uziel and R. El-Yaniv (2019), "Bias-Reduced Uncertainty Estimation", arXiv:1805.08206 (the area); B. Efron and
R. J. Tibshirani (1993), "An Introduction to the Bootstrap", chapter 10 (bias).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from auditsvc.datasets.dataset import SliceColumn, Slices
from auditsvc.evaluation import Check, EvalContext
from auditsvc.evaluation.intervals import Interval, Statistic, bca, bootstrap_weights
from auditsvc.evaluation.paired import FEWEST_CLUSTERS, Sample, levels, measured
from auditsvc.models import Model
from auditsvc.records import CLEAN_CONDITION, OVERALL, Condition, Measured, Metric, Reading, Unmeasured
from auditsvc.records.metric import MetricKind

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Binned:
    """Images in bins of about equal size by confidence: ``members`` (N, bins), ``confidence`` and ``right`` (N,)."""

    members: Numbers
    confidence: Numbers
    right: Numbers
    effect: float = 1.0
    """The design effect of the distances, where images are clustered: what chance alone gives grows with it."""

    @classmethod
    def of(cls, confidence: Numbers, right: Numbers, bins: int, clusters: NDArray[np.int64] | None = None) -> Binned:
        """Bins by the quantiles of the confidences; equal confidences share a bin."""
        edges = np.unique(np.quantile(confidence, np.arange(1, bins) / bins))
        places = np.searchsorted(edges, confidence, side="right")
        effect = (
            Sample(right - confidence, Slices(len(confidence), (), clusters), None).design_effects()[0]
            if clusters is not None
            else 1
        )
        return cls((places[:, None] == np.arange(len(edges) + 1)).astype(np.float64), confidence, right, float(effect))

    def squared_error(self, weights: Numbers) -> Numbers:
        """``(B,)``: the mean squared distance of accuracy from confidence, less its expectation by chance.

        Can be negative: an estimate of zero without bias must be.
        """
        count = weights @ self.members
        there = np.maximum(count, 1e-12)
        accuracy = weights @ (self.members * self.right[:, None]) / there
        distance = weights @ (self.members * (self.right - self.confidence)[:, None]) / there
        chance = np.where(count > 1, self.effect * accuracy * (1 - accuracy) / np.maximum(count - 1, 1), 0.0)
        return np.asarray(((distance**2 - chance) * count).sum(axis=1) / count.sum(axis=1))

    def reliability(self, clusters: NDArray[np.int64] | None, alpha: float) -> list[tuple[float, Measured]]:
        """Mean confidence and accuracy of each bin that has an image: the reliability curve."""
        column = SliceColumn(
            "bin", tuple(map(str, range(self.members.shape[1]))), self.members.argmax(axis=1).astype("i4")
        )
        sample = Sample(self.right.astype(np.int8), Slices(len(self.confidence), (column,), clusters), None)
        mean = sample.sums(self.confidence) / np.maximum(sample.images, 1)
        found = zip(mean[1:], measured(levels(sample, alpha), sample)[1:], strict=True)
        return [(float(said), outcome) for said, outcome in found if isinstance(outcome, Measured)]


def _root(squared: Numbers) -> Numbers:
    return np.sqrt(np.maximum(squared, 0))


def error_interval(weights: Numbers, alpha: float, model: Binned) -> Interval:
    """The calibration error of one model: the root of its squared error and of that one's ends."""
    value, drawn = _squared(weights, model)
    low, high = (float(end) for end in np.quantile(drawn, (alpha, 1 - alpha)))
    return Interval(*(_root(np.array(end)) for end in (value, min(low, value), max(high, value))))


def change_interval(weights: Numbers, alpha: float, model: Binned, other: Binned) -> Interval:
    """How much larger one model's calibration error is than another's, on the same resamples.

    The root of an estimate that is cut at 0 is biased, so the *squared* errors, which are not, are subtracted and
    bounded; the ends become a difference of roots at the end of the other model's error that is the worst for them.
    """
    value, drawn = _squared(weights, model)
    base, base_drawn = _squared(weights, other)
    each = (alpha / 2, 1 - alpha / 2)  # two bounds make one end
    less, more = (float(end) for end in np.quantile(drawn - base_drawn, each))
    small, large = (max(float(end), 0.0) for end in np.quantile(base_drawn, each))
    change = float(_root(np.array(value)) - _root(np.array(base)))
    low = _added(less, large if less > 0 else max(small, -less))
    high = _added(more, small if more > 0 else large)
    return Interval(np.array(change), np.array(min(low, change)), np.array(max(high, change)))


def _added(squared: float, base: float) -> float:
    """What a squared error adds to the error whose square is ``base``."""
    return float(_root(np.array(base + squared)) - _root(np.array(base)))


def _squared(weights: Numbers, model: Binned) -> tuple[float, Numbers]:
    """The squared error, and its resamples less what resampling adds of its own."""
    squared = float(model.squared_error(np.ones((1, weights.shape[1])))[0])
    drawn = model.squared_error(weights)
    return squared, drawn - drawn.mean() + squared


def selective_risk(confidence: Numbers, right: Numbers) -> Statistic:
    """The area as a function of weights: ``confidence`` (N,) confidences, ``right`` (N,) of 0/1.

    Answers of one confidence are kept or put aside together.
    """
    order = np.argsort(-confidence, kind="stable")
    wrong = 1 - right[order]
    ends = np.flatnonzero(np.append(np.diff(confidence[order]) != 0, True))

    def area(weights: Numbers) -> Numbers:
        sorted_weights = weights[:, order]
        kept = np.cumsum(sorted_weights, axis=1)[:, ends]
        missed = np.cumsum(sorted_weights * wrong, axis=1)[:, ends]
        step = np.diff(kept, axis=1, prepend=0.0)
        risk = missed / np.maximum(kept, 1e-12)
        return np.asarray((risk * step).sum(axis=1) / kept[:, -1])

    return area


def selective_change(candidate: tuple[Numbers, Numbers], parent: tuple[Numbers, Numbers]) -> Statistic:
    """How much larger the candidate's area is than the parent's, on the same weights."""
    one, other = selective_risk(*candidate), selective_risk(*parent)
    return lambda weights: one(weights) - other(weights)


_METRICS = (
    Metric(id="calibration_error", kind="ratio", unit="%", better="lower",
           title="calibration error: how far confidence is from accuracy"),
    Metric(id="parent_calibration_error", kind="ratio", unit="%", better="lower",
           title="calibration error of the parent"),
    Metric(id="calibration_change", kind="difference", unit="points", better="lower", role="change",
           title="calibration error above the parent's"),
    Metric(id="confidence_change", kind="difference", unit="points", better="lower", role="change",
           title="mean confidence above the parent's"),
    Metric(id="selective_risk", kind="ratio", unit="%", better="lower",
           title="selective risk: the error rate among the most confident answers, over every coverage"),
    Metric(id="parent_selective_risk", kind="ratio", unit="%", better="lower", title="selective risk of the parent"),
    Metric(id="selective_change", kind="difference", unit="points", better="lower", role="change",
           title="selective risk above the parent's"),
)  # fmt: skip
_CURVE = ("confidence", "accuracy", "parent_confidence", "parent_accuracy")


class Calibration(Check):
    """Compare the confidence (largest softmax output) of both models with how often they are right.

    Emits on every slice of at least ``min_images`` images ``calibration_error`` and ``parent_calibration_error``
    in 0..1, ``calibration_change`` (candidate less parent, positive is worse) and ``confidence_change``; and
    ``selective_risk``, ``parent_selective_risk`` and ``selective_change``.  On ``overall`` also the reliability curve:
    ``confidence.bin@K`` and ``accuracy.bin@K`` of the K-th bin, least confident first, and the parent's.
    """

    id = "calibration"
    version = 1
    needs = "scores"
    tasks = frozenset({"classification"})
    topics = frozenset({"perf.calibration"})

    bins: Annotated[int, Field(ge=2, le=100)] = 15
    draws: Annotated[int, Field(ge=200, le=20000)] = 1000
    min_images: Annotated[int, Field(ge=50)] = 100

    def conditions(self) -> tuple[Condition, ...]:
        """One: the images untouched."""
        return (CLEAN_CONDITION,)

    def metrics(self) -> tuple[Metric, ...]:
        """Errors, risks and their changes; the curve."""
        return (*_METRICS, *(_bin(kind, number) for kind in _CURVE for number in range(1, self.bins + 1)))

    def measure(self, case: EvalContext) -> Iterator[Reading]:
        """One pass of both models; then everything is counted."""
        candidate, parent = _confidences(case)
        rng = np.random.default_rng(case.seed)
        slices = case.dataset.slices
        numbers = np.arange(slices.images)
        places = [numbers, *(np.flatnonzero(column.codes == code) for column in slices.columns
                             for code in range(len(column.labels)))]  # fmt: skip
        for name, inside in zip(slices.names, places, strict=True):
            clusters = None if slices.clusters is None else slices.clusters[inside]
            yield from self._on(name, candidate[:, inside], parent[:, inside], clusters, case.alpha, rng)
        yield from self._curve("", candidate, slices.clusters, case.alpha)
        yield from self._curve("parent_", parent, slices.clusters, case.alpha)

    def _curve(self, whose: str, own: Numbers, clusters: NDArray[np.int64] | None, alpha: float) -> Iterator[Reading]:
        """The reliability curve of one model over all images."""
        curve = Binned.of(own[0], own[1], self.bins).reliability(clusters, alpha)
        for number in range(self.bins):
            said, found = (f"{whose}{kind}.bin@{number + 1}" for kind in _CURVE[:2])
            if number >= len(curve):
                none = Unmeasured(reason="no image is in this bin: many have the same confidence")
                yield from (Reading(metric=metric, slice=OVERALL, outcome=none) for metric in (said, found))
                continue
            exact, accuracy = curve[number]
            mean = Measured(value=exact, low=exact, high=exact, images=accuracy.images)
            yield Reading(metric=said, slice=OVERALL, outcome=mean)
            yield Reading(metric=found, slice=OVERALL, outcome=accuracy)

    def _on(
        self,
        name: str,
        candidate: Numbers,
        parent: Numbers,
        clusters: NDArray[np.int64] | None,
        alpha: float,
        rng: np.random.Generator,
    ) -> Iterator[Reading]:
        """The readings of one slice."""
        images = candidate.shape[1]
        units = images if clusters is None else len(np.unique(clusters))
        if images < self.min_images or units < FEWEST_CLUSTERS:
            few = f"{images} images" if images < self.min_images else f"{units} clusters"
            reason = (
                f"{few}; calibration is measured on at least {self.min_images} images in {FEWEST_CLUSTERS} clusters"
            )
            yield from (
                Reading(metric=one.id, slice=name, outcome=Unmeasured(reason=reason, images=images)) for one in _METRICS
            )
            return
        weights = bootstrap_weights(images, clusters, self.draws, rng)
        own, dense = (Binned.of(own[0], own[1], self.bins, clusters) for own in (candidate, parent))
        found = (
            error_interval(weights, alpha, own),
            error_interval(weights, alpha, dense),
            change_interval(weights, alpha, own, dense),
            bca(_mean_of(candidate[0] - parent[0]), weights, clusters, alpha),
            bca(selective_risk(candidate[0], candidate[1]), weights, clusters, alpha),
            bca(selective_risk(parent[0], parent[1]), weights, clusters, alpha),
            bca(selective_change((candidate[0], candidate[1]), (parent[0], parent[1])), weights, clusters, alpha),
        )
        for metric, interval in zip(_METRICS, found, strict=True):
            yield Reading(metric=metric.id, slice=name, outcome=_outcome(interval, images))


def _bin(kind: str, number: int) -> Metric:
    """One point of the reliability curve: mean confidence (exact) or accuracy (a share of images) of one bin."""
    whose, _, what = kind.rpartition("_")
    title = f"{'accuracy' if what == 'right' else 'mean confidence'}{' of the parent' if whose else ''}, bin {number}"
    kind_of: MetricKind = "proportion" if what == "accuracy" else "ratio"
    return Metric(id=f"{kind}.bin@{number}", kind=kind_of, unit="%", better="higher", title=title)


def _mean_of(values: Numbers) -> Statistic:
    return lambda weights: np.asarray(weights @ values / weights.sum(axis=1))


def _outcome(found: Interval, images: int) -> Measured:
    return Measured(value=float(found.value), low=float(found.low), high=float(found.high), images=images)


def _confidences(case: EvalContext) -> tuple[Numbers, Numbers]:
    """For each model ``(2, N)``: its confidence, and 1 where it is right."""
    found: tuple[list[Numbers], list[Numbers]] = ([], [])
    with torch.inference_mode():
        for batch in case.batches(None):
            for model, parts in zip((case.candidate, case.parent), found, strict=True):
                parts.append(_confidence(model, batch.images, batch.targets))
    return np.concatenate(found[0], axis=1), np.concatenate(found[1], axis=1)


def _confidence(model: Model, images: torch.Tensor, targets: torch.Tensor) -> Numbers:
    """An output that is no number is no confidence, and wrong."""
    outputs = model(images)
    share, answer = torch.nan_to_num(outputs.double().softmax(dim=1), nan=0.0).max(dim=1)
    right = (answer == targets) & torch.isfinite(outputs).all(dim=1)
    return np.stack([share.cpu().numpy(), right.double().cpu().numpy()])
