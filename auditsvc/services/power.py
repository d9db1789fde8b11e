"""Sample-size planning: whether a data set is large enough for a policy, before any compute is spent.

``min_n`` is the number of images below which nothing could meet a rule, not even a candidate that changes no answer and
makes no mistake.  ``n_for_power`` is the number that meets it with the given power, if the share ``changing`` of the
images changes its answer and as many are won as lost.  Metrics that a check does not declare as plannable have no
formula.  Checks that try only a part of the images state that in their own parameters; the plan counts all images.

Reference: J.-P. Liu et al. (2002), doi:10.1002/sim.1012.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from statistics import NormalDist
from typing import Literal

import numpy as np

from auditsvc.checks import check_named
from auditsvc.datasets import Dataset, Slices
from auditsvc.datasets.image_properties import properties_of
from auditsvc.datasets.slicing import ReslicedDataset, apply_slicing, class_column
from auditsvc.records import OVERALL, Metric, Policy, Rule, Slicing, Value, matches, metric_of
from auditsvc.records.messages import reach_of_loss

State = Literal["enough", "doubtful", "too few", "no formula"]


class SlicePower(Value):
    """One rule on one slice: the images there are, and the images that it takes."""

    rule: str
    slice: str
    severity: str
    images: int
    min_images: int
    min_n: int | None
    n_for_power: int | None
    state: State

    @property
    def needed(self) -> int:
        """The least number of images: that of the formula, or the one below which the rule judges no slice."""
        return max(self.min_images, self.min_n or 1)

    @property
    def cannot_approve(self) -> bool:
        """Whether the policy can't approve anything because of this line."""
        return self.state == "too few" and self.severity == "block"


def with_policy_slices(policy: Policy, dataset: Dataset) -> Dataset:
    """The data set with the slices that the policy asks for; itself, if it asks for none.

    Raises:
        InvalidInput: a column, slice or property that is not there.
    """
    if policy.slicing is None:
        return dataset
    return sliced_by(policy.slicing, dataset)


def sliced_by(slicing: Slicing, dataset: Dataset) -> Dataset:
    """The data set with these slices added to its own.  Raises as ``with_policy_slices``."""
    slices = dataset.slices
    if slicing.classes:
        slices = Slices(slices.images, (*slices.columns, class_column(dataset)), slices.clusters)
    return ReslicedDataset(dataset, apply_slicing(slices, slicing, properties_of(dataset, slicing.image)))


def slice_sizes(dataset: Dataset) -> dict[str, int]:
    """How many images each slice has."""
    counts = dataset.slices.sums(np.ones(dataset.ref.images))
    return {name: int(count) for name, count in zip(dataset.slices.names, counts, strict=True)}


def plan(
    policy: Policy, sizes: Mapping[str, int], *, changing: float = 0.05, power: float = 0.8
) -> tuple[SlicePower, ...]:
    """Every rule on every slice that it judges; ``sizes`` are the images of each slice, ``overall`` among them."""
    return tuple(line for rule in policy.rules for line in _planned(policy, rule, sizes, changing, power))


def _planned(
    policy: Policy, rule: Rule, sizes: Mapping[str, int], changing: float, power: float
) -> Iterator[SlicePower]:
    metric = _metric(policy, rule)
    min_n, n_for_power = _min_n(rule, metric, policy.level), _n_for_power(rule, metric, policy.level, changing, power)
    chosen = {name: sizes.get(name, 0) for name in rule.chosen(sizes)}
    judged = any(images >= rule.min_images for images in chosen.values())
    for name, images in chosen.items():
        small = images < rule.min_images
        excused = small and judged and name != OVERALL and rule.below_minimum == "warn"
        yield SlicePower(
            rule=rule.rule,
            slice=name,
            severity="warn" if excused else rule.severity,
            images=images,
            min_images=rule.min_images,
            min_n=min_n,
            n_for_power=n_for_power,
            state="too few" if small else _state(images, min_n, n_for_power),
        )


def _metric(policy: Policy, rule: Rule) -> Metric:
    """The first metric that the rule judges."""
    metrics = check_named(rule.check, policy.checks[rule.check]).metrics()
    return next((metric for metric in metrics if matches(rule.metric, metric.id)), metric_of(rule.metric))


def _state(images: int, min_n: int | None, n_for_power: int | None) -> State:
    if min_n is None or n_for_power is None:
        return "no formula"
    if images < min_n:
        return "too few"
    return "enough" if images >= n_for_power else "doubtful"


def _min_n(rule: Rule, metric: Metric, alpha: float) -> int | None:
    """The number of images below which the interval of a perfect result is still wider than the limit."""
    z = NormalDist().inv_cdf(1 - alpha)
    if not metric.plannable or not 0 < rule.limit < 1:
        return None
    if metric.better == "lower" and rule.at_most is not None:
        return math.ceil(z * z * (1 - rule.at_most) / rule.at_most)
    if metric.better == "higher" and rule.at_least is not None:
        return math.ceil(z * z * rule.at_least / (1 - rule.at_least))
    return None


def _n_for_power(rule: Rule, metric: Metric, alpha: float, changing: float, power: float) -> int | None:
    """The number of images that meets the rule with this power; of a share, if the truth is half-way between the limit
    and the perfect result."""
    limit, normal = rule.limit, NormalDist()
    if _min_n(rule, metric, alpha) is None:
        return None
    if metric.role == "loss":
        return math.ceil((reach_of_loss(changing, 0.0, limit, alpha, power) / limit) ** 2)
    truth = limit / 2 if metric.better == "lower" else (1 + limit) / 2
    reach = normal.inv_cdf(1 - alpha) * math.sqrt(limit * (1 - limit))
    reach += normal.inv_cdf(power) * math.sqrt(truth * (1 - truth))
    return math.ceil((reach / (truth - limit)) ** 2)


def undersized_slices(policy: Policy, dataset: Dataset) -> tuple[str, ...]:
    """Why this policy can't approve anything on this data set, whatever is measured; empty if it could."""
    return tuple(
        f"rule {line.rule} on {line.slice}: {line.images} images, at least {line.needed} are needed"
        for line in plan(policy, slice_sizes(dataset))
        if line.cannot_approve
    )
