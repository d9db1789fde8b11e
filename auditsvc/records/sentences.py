"""Judgements as sentences that somebody can act on: what was found, what was wanted, what would decide it."""

from __future__ import annotations

import math
from statistics import NormalDist

from auditsvc.records.evidence import Measured, Unmeasured
from auditsvc.records.policy import Rule

POWER = 0.8
"""The chance with which the images that an unknown asks for would decide it."""


_MOST_IMAGES = 1e9


def sentence_of(rule: Rule, metric: str, slice_name: str, outcome: Measured | Unmeasured, needed: int | None) -> str:
    """One judgement in words; ``needed`` is the number of images that would decide an unknown, if any would."""
    place = f"{rule.check}/{metric} on {slice_name}"
    bound = "at least" if rule.at_least is not None else "at most"
    unit = " points" if metric.startswith("drop.") else " %" if _is_share(metric) else ""
    wanted = f"{bound} {_number(metric, rule.limit)}{unit} wanted"
    if isinstance(outcome, Unmeasured):
        return f"{place}: not known, {outcome.reason}; {wanted}"
    value, low, high = (_number(metric, number) for number in (outcome.value, outcome.low, outcome.high))
    ends = f"({low} to {high}; {outcome.images} images)" if low != high else f"({outcome.images} images)"
    more = "" if needed is None else f"; about {needed} images would decide it"
    return f"{place}: {value}{unit} {ends}; {wanted}{more}"


def images_to_decide(rule: Rule, metric: str, outcome: Measured, alpha: float) -> int | None:
    """How many images would decide an unknown with power 0.8, if the estimate and its spread stay as they are.

    None where the estimate lies so near the limit that nobody has so many.  The variance of one image is that
    of a paired difference where the images lost and won are known, of a proportion for a share, and else the
    one that the interval's width tells.

    Reference: J.-P. Liu et al. (2002), doi:10.1002/sim.1012 (the paired case).
    """
    gap = abs(rule.limit - outcome.value)
    z_alpha = NormalDist().inv_cdf(1 - alpha)
    z = z_alpha + NormalDist().inv_cdf(POWER)
    if outcome.lost is not None and outcome.won is not None:
        share = max(outcome.lost + outcome.won, 1) / outcome.images
        variance = share - outcome.value**2 if share > outcome.value**2 else share
    elif _is_share(metric) and 0 < outcome.value < 1:
        variance = outcome.value * (1 - outcome.value)
    else:
        reach = max(outcome.high - outcome.value, outcome.value - outcome.low)
        variance = outcome.images * (reach / z_alpha) ** 2
    if z * z * variance >= _MOST_IMAGES * gap * gap:
        return None
    return max(math.ceil(z * z * variance / (gap * gap)), outcome.images + 1)


_SHARES = frozenset(
    ("score", "parent", "flips", "bits", "lost", "won", "churn", "missed", "alarm", "parent_missed", "parent_alarm")
)


def _number(metric: str, value: float) -> str:
    if metric.startswith("drop."):
        return f"{100 * value:+.1f}"
    return f"{100 * value:.1f}" if _is_share(metric) else f"{value:.4g}"


def _is_share(metric: str) -> bool:
    return metric.partition(".")[0] in _SHARES
