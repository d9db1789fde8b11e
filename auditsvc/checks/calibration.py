"""Does the model know when it is unsure, still, after pruning?

A pruned network often keeps its answers and loses its doubt: a confidence of 99 % that is right nine times in
ten misleads everything that reads it.  The calibration error here is the root of the mean squared distance
between confidence and accuracy over bins of equal size, less what chance alone adds (a perfectly calibrated model
has a binned error of 5 points on 200 images).

Intervals come from the bootstrap, by cluster where there are clusters, with the bias that resampling adds taken
out; candidate and parent are resampled together, so their difference is a paired one.

References: A. Kumar, P. Liang and T. Ma (2019), "Verified Uncertainty Calibration", arXiv:1909.10155 (the debiased
estimator); C. Guo et al. (2017), arXiv:1706.04599.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from auditsvc.measuring import Case, Check, Interval
from auditsvc.measuring.calibration import Binned, error_interval
from auditsvc.measuring.resampling import Statistic, bca, bootstrap_weights
from auditsvc.models import Model
from auditsvc.records import Measured, Reading, Unmeasured

_METRICS = ("calibration_error", "parent_calibration_error", "calibration_change", "confidence_change")

Numbers = NDArray[np.float64]


class Calibration(Check):
    """Compare the confidence (largest softmax output) of both models with how often they are right.

    Emits on every slice of at least ``min_images`` images ``calibration_error`` and ``parent_calibration_error``
    in 0..1, ``calibration_change`` (candidate less parent, positive is worse) and ``confidence_change``.
    """

    id = "calibration"
    version = 1

    bins: Annotated[int, Field(ge=2, le=100)] = 15
    draws: Annotated[int, Field(ge=200, le=20000)] = 1000
    min_images: Annotated[int, Field(ge=50)] = 100

    def conditions(self) -> tuple[str, ...]:
        """One: the images untouched."""
        return ("clean",)

    def metrics(self) -> tuple[str, ...]:
        """Two errors, two changes."""
        return _METRICS

    def measure(self, case: Case) -> Iterator[Reading]:
        """One pass of both models; then everything is counted."""
        candidate, parent = _told(case)
        rng = np.random.default_rng(case.seed)
        slices = case.dataset.slices
        numbers = np.arange(slices.images)
        places = [numbers, *(np.flatnonzero(column.codes == code) for column in slices.columns
                             for code in range(len(column.labels)))]  # fmt: skip
        for name, inside in zip(slices.names, places, strict=True):
            clusters = None if slices.clusters is None else slices.clusters[inside]
            yield from self._on(name, candidate[:, inside], parent[:, inside], clusters, case.alpha, rng)

    def _on(
        self,
        name: str,
        candidate: Numbers,
        parent: Numbers,
        clusters: NDArray[np.int64] | None,
        alpha: float,
        rng: np.random.Generator,
    ) -> Iterator[Reading]:
        """The four readings of one slice."""
        images = candidate.shape[1]
        if images < self.min_images:
            reason = f"{images} images; calibration is measured on at least {self.min_images}"
            yield from (
                Reading(metric=m, slice=name, outcome=Unmeasured(reason=reason, images=images)) for m in _METRICS
            )
            return
        weights = bootstrap_weights(images, clusters, self.draws, rng)
        own, dense = (Binned.of(told[0], told[1], self.bins) for told in (candidate, parent))
        found = (
            error_interval(weights, alpha, own),
            error_interval(weights, alpha, dense),
            error_interval(weights, alpha, own, dense),
            bca(_mean_of(candidate[0] - parent[0]), weights, clusters, alpha),
        )
        for metric, interval in zip(_METRICS, found, strict=True):
            yield Reading(metric=metric, slice=name, outcome=_outcome(interval, images))


def _mean_of(values: Numbers) -> Statistic:
    return lambda weights: np.asarray(weights @ values / weights.sum(axis=1))


def _outcome(found: Interval, images: int) -> Measured:
    return Measured(value=float(found.value), low=float(found.low), high=float(found.high), images=images)


def _told(case: Case) -> tuple[Numbers, Numbers]:
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
