"""Membership inference: can the training images be distinguished from others by the models' answers?

Needs a data set of which one slice trained the models and the rest did not.  Each image is scored by the margin of its
label, the logit of the label less the log-sum of the others: the scale of the likelihood-ratio attack without shadow
models.  The attack is tried on parent, candidate, and both together (Fisher's discriminant of both margins and their
distance, fitted on one half and tried on the other), because holding both versions can leak more than either.

A classifier of the images alone would also separate samples of two distributions, so the pixels are compared first:
where they differ, nothing is measured.  The scores are a lower bound; a stronger attack may find more.

Reference: N. Carlini et al. (2022), "Membership Inference Attacks From First Principles", arXiv:2112.03570; "CompLeak",
arXiv:2507.16872 (both versions); E. DeLong et al. (1988), doi:10.2307/2531595; N. Obuchowski (1997),
doi:10.2307/2533958 (clusters).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from scipy import stats
from torch import Tensor
from torch.nn import functional

from auditsvc.evaluation import Check, EvalContext, wilson
from auditsvc.evaluation.intervals import unseen
from auditsvc.evaluation.metrics.mmd import mean_discrepancy
from auditsvc.records import OVERALL, Measured, Metric, Reading, TaskName, Unmeasured

Numbers = NDArray[np.float64]

LEAST, LEAST_FOR_TPR = 50, 300
"""Images that each side needs for the area, and for the rate at one false positive in a hundred."""
FALSE_POSITIVES = 0.01
UNLIKELY = 0.001
"""Samples whose pixels differ at this p-value are not of one distribution."""

_WHO = {"parent": "the parent", "candidate": "the candidate", "both": "parent and candidate together"}


class Membership(Check):
    """Distinguish members from others by the margin of the label.

    Emits on ``overall`` for ``W`` of ``parent``, ``candidate`` and ``both``: ``auc.W`` (0.5 is guessing), ``tpr.W``
    (share of members found at one false positive in a hundred), and ``auc_change.W`` against the parent for the latter
    two.  ``members`` names the slice of the images that trained the models.
    """

    id = "membership"
    version = 1
    tasks = frozenset[TaskName]({"classification"})
    topics = frozenset({"privacy.membership"})

    members: Annotated[str, Field(min_length=3)] = "membership=member"

    def metrics(self) -> tuple[Metric, ...]:
        """Area and rate for each of three attackers, and two changes."""
        made = []
        for who, words in _WHO.items():
            made += [
                Metric(id=f"auc.{who}", kind="ratio", better="lower",
                       title=f"membership inference from {words}: area under the ROC curve"),
                Metric(id=f"tpr.{who}", kind="proportion", unit="%", better="lower",
                       title=f"training images found from {words} at 1 % false positives"),
            ]  # fmt: skip
            if who != "parent":
                made.append(Metric(id=f"auc_change.{who}", kind="difference", better="lower", role="change",
                                   title=f"area under the ROC curve from {words}, beyond the parent's"))  # fmt: skip
        return tuple(made)

    def cost(self) -> float:
        """One pass."""
        return 1.0

    def measure(self, case: EvalContext) -> Iterator[Reading]:
        """Score every image by both models, compare the samples, then the scores."""
        found = self._samples(case)
        if isinstance(found, str):
            yield from self.unmeasured(found)
            return
        placed = {who: _Placed.of(found.scores[who], found.inside) for who in _WHO}
        for who in _WHO:
            yield Reading(metric=f"auc.{who}", slice=OVERALL, outcome=area(placed[who], found.clusters, case.alpha))
            yield Reading(metric=f"tpr.{who}", slice=OVERALL, outcome=found.rate(who, case.alpha))
        for who in ("candidate", "both"):
            more = placed[who].less(placed["parent"])
            yield Reading(
                metric=f"auc_change.{who}", slice=OVERALL, outcome=area(more, found.clusters, case.alpha, -1.0)
            )

    def _samples(self, case: EvalContext) -> _Samples | str:
        """The scores by both models; why there are none, where the samples are missing, small or differ."""
        column = next((one for one in case.dataset.slices.columns if self.members in one.names), None)
        if column is None:
            return f"the data set has no slice {self.members}: which images trained the models is not known"
        inside = np.asarray(column.codes == column.names.index(self.members))
        counts = int(inside.sum()), int((~inside).sum())
        if min(counts) < LEAST:
            return f"{LEAST} members and as many others are needed; there are {counts[0]} and {counts[1]}"
        parts: list[tuple[Tensor, ...]] = []
        with torch.inference_mode():
            for batch in case.batches(None):
                seen = functional.adaptive_avg_pool2d(batch.images, 8).flatten(1)
                scores = (margins(model(batch.images), batch.targets) for model in (case.parent, case.candidate))
                parts.append((seen.cpu(), *(one.cpu().double() for one in scores)))
        pixels, before, after = (torch.cat(one) for one in zip(*parts, strict=True))
        of = case.dataset.slices.clusters
        split = (None, None) if of is None else (of[~inside], of[inside])
        shift = mean_discrepancy(pixels[~inside], pixels[inside], case.alpha, case.seed, split)
        if shift.chance < UNLIKELY:
            return (
                f"members and others differ in their pixels (p = {shift.chance:.1g}), so this would not be membership"
            )
        clusters = np.arange(len(inside)) if of is None else of
        known = {"parent": before.numpy(), "candidate": after.numpy()}
        known["both"] = combined(known["parent"], known["candidate"], inside, clusters, case.seed)
        return _Samples(inside, clusters, known, independent=of is None)


def margins(logits: Tensor, targets: Tensor) -> Tensor:
    """``(N,)``: the logit of the label less the log-sum of the others: the log-odds of the label, never clamped."""
    own = logits.gather(1, targets[:, None].long())[:, 0]
    rest = logits.scatter(1, targets[:, None].long(), -torch.inf)
    margin: Tensor = own - rest.logsumexp(1)
    return margin


def combined(
    parent: Numbers, candidate: Numbers, inside: NDArray[np.bool_], clusters: NDArray[np.int64], seed: int
) -> Numbers:
    """``(N,)``: one score of both margins and their distance, each half scored by what the other half taught."""
    features = np.stack((parent, candidate, np.abs(parent - candidate)), axis=1)
    known = np.unique(clusters)
    half = np.isin(clusters, np.random.default_rng(seed).permutation(known)[: len(known) // 2])
    scores = np.zeros(len(parent))
    for taught in (half, ~half):
        one, other = features[taught & inside], features[taught & ~inside]
        if min(len(one), len(other)) < 2:
            return parent + candidate
        spread = np.cov(one.T) + np.cov(other.T)
        weights = np.linalg.solve(spread + 1e-6 * np.trace(spread) * np.eye(3), one.mean(0) - other.mean(0))
        taught_scores = other @ weights
        scores[~taught] = (features[~taught] @ weights - taught_scores.mean()) / max(taught_scores.std(), 1e-12)
    return scores


@dataclass(frozen=True)
class _Placed:
    """An area under the curve, or a difference of two, with what each image adds to its error, ``(N,)``."""

    value: float
    off: Numbers
    fewest: int
    """Images of the smaller sample."""

    @classmethod
    def of(cls, scores: Numbers, inside: NDArray[np.bool_]) -> _Placed:
        """Placements by ranks; ties count one half."""
        ranks = stats.rankdata(scores)
        members, others = int(inside.sum()), int((~inside).sum())
        placed = np.empty(len(scores))
        placed[inside] = (ranks[inside] - stats.rankdata(scores[inside])) / others
        placed[~inside] = 1 - (ranks[~inside] - stats.rankdata(scores[~inside])) / members
        value = float(placed[inside].mean())
        return cls(value, (placed - value) / np.where(inside, members, others), min(members, others))

    def less(self, other: _Placed) -> _Placed:
        """The difference of two areas on the same images."""
        return _Placed(self.value - other.value, self.off - other.off, self.fewest)


def area(placed: _Placed, clusters: NDArray[np.int64], alpha: float, floor: float = 0.0) -> Measured:
    """The area with DeLong's interval, over clusters (Obuchowski), never narrower than what so many images show."""
    total = np.bincount(np.unique(clusters, return_inverse=True)[1], weights=placed.off)
    units = len(total)
    reach = stats.t.isf(alpha, units - 1) * float(np.sqrt(units / (units - 1) * (total**2).sum()))
    reach = max(reach, float(unseen(np.array(placed.fewest), alpha)))
    low, high = max(placed.value - reach, floor), min(placed.value + reach, 1.0)
    return Measured(value=placed.value, low=low, high=high, images=len(placed.off))


@dataclass(frozen=True)
class _Samples:
    """Members and others with their scores."""

    inside: NDArray[np.bool_]
    clusters: NDArray[np.int64]
    scores: dict[str, Numbers]
    independent: bool

    def rate(self, who: str, alpha: float) -> Measured | Unmeasured:
        """The members found at 1 % false positives; its ends hold for the threshold and the rate together."""
        others = np.sort(self.scores[who][~self.inside])[::-1]
        if not self.independent or len(others) < LEAST_FOR_TPR:
            reason = f"a rate at 1 % false positives needs {LEAST_FOR_TPR} independent images that trained nothing"
            return Unmeasured(reason=reason, images=len(others))
        mine, total = self.scores[who][self.inside], int(self.inside.sum())
        ends = [int(end) for end in stats.binom.ppf((alpha / 2, 1 - alpha / 2), len(others), FALSE_POSITIVES)]

        def found_above(place: int) -> int:
            return 0 if place < 0 else int((mine > others[place]).sum())

        value = found_above(int(FALSE_POSITIVES * len(others))) / total
        low = float(wilson(found_above(ends[0] - 1), total, alpha / 2).low)
        high = float(wilson(found_above(ends[1] + 1), total, alpha / 2).high)
        return Measured(value=value, low=min(low, value), high=max(high, value), images=len(self.inside))
