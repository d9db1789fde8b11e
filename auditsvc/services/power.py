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
from dataclasses import replace
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from auditsvc.checks import check_named
from auditsvc.datasets import Dataset, SliceColumn, Slices
from auditsvc.datasets.image_properties import properties_of
from auditsvc.datasets.slicing import ReslicedDataset, apply_slicing, class_column
from auditsvc.evaluation import Check, wilson
from auditsvc.evaluation.paired import Sample, levels, losses
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
    if metric.role == "loss" and rule.at_most is not None:  # the rule of three, as in ``evaluation.paired.losses``
        return math.ceil(math.log(alpha) / math.log1p(-rule.at_most))
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


RUNS = 200
"""Simulated audits: a chance of 80 % is known to about 5 points either way."""


class Chance(Value):
    """How likely a policy approves a candidate that loses nothing, with the ends of its interval (one-sided 5 %).

    ``weakest`` are the slices on which most simulated audits could not show a rule, with their share.  ``more`` are the
    images to add by slice, and ``with_more`` the chance with them.  ``assumed`` are rules that no simulation covers.
    """

    chance: float
    low: float
    high: float
    runs: int
    changing: float
    weakest: tuple[tuple[str, float], ...] = ()
    more: dict[str, int] = {}
    with_more: float | None = None
    assumed: tuple[str, ...] = ()


def chance_of_approval(
    policy: Policy, slices: Slices, *, changing: float = 0.05, power: float = 0.8, runs: int = RUNS, seed: int = 0
) -> Chance:
    """The chance that the whole policy approves a first candidate that changes answers and loses none on balance.

    In every run, under every condition, a share ``changing`` of the images changes its answer, half of them to right
    and half to wrong, independently of other conditions; graded scores, which change by less, do better than that.  A
    score that a rule bounds is half-way between the limit and 1.  The intervals are those of the audit, clusters too.
    """
    rng = np.random.default_rng(seed)
    held, assumed = _simulated(policy, slices, changing, runs, rng)
    approved = np.logical_and.reduce([np.ones(runs, bool), *held.values()])
    ends = wilson(approved.sum(), runs, 0.05)
    failing = {name: 1 - np.logical_and.reduce([all_held for (_, one), all_held in held.items() if one == name]).mean()
               for _, name in held}  # fmt: skip
    weakest = sorted(((name, float(share)) for name, share in failing.items() if share), key=lambda one: -one[1])
    found = Chance(chance=float(approved.mean()), low=float(ends.low), high=float(ends.high), runs=runs,
                   changing=changing, weakest=tuple(weakest[:5]), assumed=assumed)  # fmt: skip
    more = {} if found.chance >= power else _missing(policy, slices, held, changing, power)
    for _ in range(3 if more else 0):
        tried, _assumed = _simulated(policy, _with_more(slices, more, rng), changing, runs, rng)
        reached = float(np.logical_and.reduce(list(tried.values())).mean())
        found = found.model_copy(update={"more": more, "with_more": reached})
        if reached >= power:
            break
        more = {name: math.ceil(1.3 * count) for name, count in more.items()}
    return found


Held = dict[tuple[str, str], NDArray[np.bool_]]
"""For each blocking rule and slice whether it was shown to hold, in every run."""


def _simulated(
    policy: Policy, slices: Slices, changing: float, runs: int, rng: np.random.Generator
) -> tuple[Held, tuple[str, ...]]:
    sizes = dict(zip(slices.names, slices.sums(np.ones(slices.images)).astype(int).tolist(), strict=True))
    lines = [line for line in plan(policy, sizes) if line.severity == "block"]
    rules, held, assumed = {rule.rule: rule for rule in policy.rules}, Held(), []
    for rule in policy.rules:
        names = [line.slice for line in lines if line.rule == rule.rule]
        check = check_named(rule.check, policy.checks[rule.check])
        metrics = [metric for metric in check.metrics() if matches(rule.metric, metric.id)]
        measured = [one for one in metrics if one.condition and one.role in ("loss", "score") and one.plannable]
        if names and (len(measured) < len(metrics) or rule.of):
            assumed.append(rule.rule)
            continue
        for metric in measured if names else ():
            tried = min(slices.images, _limit_of(check, metric) or slices.images)
            places = np.sort(rng.permutation(slices.images)[:tried])
            shown = _shown(rules[rule.rule], metric, _repeated(slices, places, runs), policy.level, changing, rng)
            ends = _by_slice(shown, slices, runs)
            for line in lines:
                if line.rule == rule.rule:
                    holds = ends[line.slice] if line.state != "too few" else np.zeros(runs, bool)
                    held[rule.rule, line.slice] = held.get((rule.rule, line.slice), np.ones(runs, bool)) & holds
    return held, tuple(assumed)


def _shown(
    rule: Rule, metric: Metric, slices: Slices, level: float, changing: float, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """``(S,)``: whether the rule is shown to hold on each slice of the repeated data set."""
    drawn = rng.random(slices.images, np.float32)
    if metric.role == "loss":
        change = (drawn < changing / 2).astype(np.int8) - (drawn > 1 - changing / 2)
        return np.asarray(losses(Sample(change, slices, None), level).high <= rule.limit)
    right = (drawn < (1 + rule.limit) / 2).astype(np.int8)
    return np.asarray(levels(Sample(right, slices, None), level).low >= rule.limit)


def _repeated(slices: Slices, places: NDArray[np.int64], runs: int) -> Slices:
    """These images once for each run, each run in slices and clusters of its own."""
    run = np.repeat(np.arange(runs), len(places)).astype(np.int32)
    columns = [SliceColumn("run", tuple(map(str, range(runs))), run)]
    for number, column in enumerate(slices.columns):
        codes, width = np.tile(column.codes[places], runs), len(column.labels)
        labels = tuple(map(str, range(runs * width)))
        columns.append(SliceColumn(str(number), labels, np.where(codes >= 0, run * width + codes, -1).astype(np.int32)))
    clusters = slices.clusters
    if clusters is not None:
        clusters = np.tile(clusters[places], runs) + run.astype(np.int64) * (int(clusters.max()) + 1)
    return Slices(len(run), tuple(columns), clusters)


def _by_slice(values: NDArray[np.bool_], slices: Slices, runs: int) -> dict[str, NDArray[np.bool_]]:
    """For each slice the values of every run, from those of the repeated data set."""
    found, start = {OVERALL: values[1 : runs + 1]}, runs + 1
    for column in slices.columns:
        width = len(column.labels)
        block = values[start : start + runs * width].reshape(runs, width)
        found |= {name: block[:, place] for place, name in enumerate(column.names)}
        start += runs * width
    return found


def _missing(policy: Policy, slices: Slices, held: Held, changing: float, power: float) -> dict[str, int]:
    """The images to add to each slice so that what fails now is shown with this power; those of ``overall`` last."""
    failing = {key for key, runs in held.items() if runs.mean() < power ** (1 / len(held))}
    each = power ** (1 / max(len({name for _, name in failing}), 1))
    sizes = dict(zip(slices.names, slices.sums(np.ones(slices.images)).astype(int).tolist(), strict=True))
    wanted: dict[str, int] = {}
    for line in plan(policy, sizes, changing=changing, power=each):
        rule = next(one for one in policy.rules if one.rule == line.rule)
        limited = _limit_of(check_named(rule.check, policy.checks[rule.check]), _metric(policy, rule))
        known = line.slice in sizes and line.n_for_power is not None
        if (line.rule, line.slice) in failing and known and limited is None:
            wanted[line.slice] = max(wanted.get(line.slice, 0), line.n_for_power or 0, line.min_images)
    more = {name: count - sizes[name] for name, count in wanted.items() if count > sizes[name] and name != OVERALL}
    rest = wanted.get(OVERALL, 0) - sizes[OVERALL] - sum(more.values())
    return more | ({OVERALL: rest} if rest > 0 else {})


def _limit_of(check: Check, metric: Metric) -> int | None:
    """How many images an attack tries at most; None for conditions under which all are tried."""
    return None if metric.condition in check.disturbances() else getattr(check, "images", None)


def _with_more(slices: Slices, more: Mapping[str, int], rng: np.random.Generator) -> Slices:
    """The data set with more images of these slices, like those that there are and independent of them."""
    members = {name: np.flatnonzero(column.codes == code) for column in slices.columns
               for code, name in enumerate(column.names)} | {OVERALL: np.arange(slices.images)}  # fmt: skip
    added = [rng.choice(members[name], count) for name, count in more.items() if len(members[name])]
    places = np.concatenate([np.arange(slices.images), *added])
    columns = tuple(replace(column, codes=column.codes[places]) for column in slices.columns)
    clusters = slices.clusters
    if clusters is not None:
        extra = int(clusters.max()) + 1 + np.arange(len(places) - slices.images)
        clusters = np.concatenate([clusters, extra])
    return Slices(len(places), columns, clusters)
