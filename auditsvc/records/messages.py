"""Judgements as messages: what was measured, which limit applies, and how many images would decide an unknown."""

from __future__ import annotations

import math
import sys
from statistics import NormalDist

from auditsvc.records.evidence import Measured, Unmeasured
from auditsvc.records.metric import Metric
from auditsvc.records.policy import Rule

POWER = 0.8
"""The probability with which the estimated number of further images would decide an unknown."""


_TOO_MANY = 20
"""An estimate above this multiple of the available images is reported as too near the limit."""


def finding_message(
    rule: Rule, metric: Metric, slice_name: str, outcome: Measured | Unmeasured, needed: int | None
) -> str:
    """One judgement in words; ``needed`` is the number of images that would decide an unknown, if any would."""
    place = f"{rule.check}/{metric.id} on {slice_name}{' less the incumbent' if rule.of else ''}"
    bound = "at least" if rule.at_least is not None else "at most"
    shown = metric.difference() if rule.of else metric
    unit = f" {shown.unit}" if shown.unit else ""
    wanted = f"{bound} {shown.text(rule.limit)}{unit} wanted"
    if isinstance(outcome, Unmeasured):
        return f"{place}: not known, {outcome.reason}; {wanted}"
    value, low, high = (shown.text(number) for number in (outcome.value, outcome.low, outcome.high))
    counted = f"{metric.counts or 'image'}s"
    seen = "exact" if metric.counts == "exact" else f"{outcome.images} {counted}"
    if outcome.clusters and outcome.clusters != outcome.images:
        seen += f" in {outcome.clusters} clusters"
    ends = f"({low} to {high}; {seen})" if low != high else f"({seen})"
    whose = f" for {outcome.which}" if outcome.which else ""
    return f"{place}: {value}{unit}{whose} {ends}; {wanted}{_deciding(needed, outcome.images, counted)}"


def _deciding(needed: int | None, images: int, counted: str) -> str:
    """What would decide an unknown, or that nothing at hand would."""
    if needed is None:
        return ""
    if needed > _TOO_MANY * images:
        return f"; too near the limit for any number of {counted} at hand"
    return f"; about {needed} {counted} would decide it"


def images_to_decide(rule: Rule, metric: Metric, outcome: Measured, alpha: float) -> int:
    """How many images would decide an unknown with power 0.8, if the estimate and its spread stay as they are.

    ``sys.maxsize`` where the estimate is equal to the limit.  The variance of one image is that
    of a paired difference where the images lost and won are known, of a proportion for a share, and else the
    one that the interval's width implies.
    """
    z_alpha, z_power = NormalDist().inv_cdf(1 - alpha), NormalDist().inv_cdf(POWER)
    gap = abs(rule.limit - outcome.value)
    if outcome.lost is not None and outcome.won is not None and not _is_graded(outcome, outcome.lost - outcome.won):
        changing = max(outcome.lost + outcome.won, 1) / outcome.images
        reach = reach_of_loss(changing, outcome.value, rule.limit, alpha, POWER)
    elif rule.of is None and metric.kind == "proportion" and 0 < outcome.value < 1:
        at_limit = min(max(rule.limit, 0.0), 1.0)
        reach = z_alpha * math.sqrt(at_limit * (1 - at_limit)) + z_power * math.sqrt(
            outcome.value * (1 - outcome.value)
        )
    else:
        width = max(outcome.high - outcome.value, outcome.value - outcome.low)
        reach = (z_alpha + z_power) * math.sqrt(outcome.images) * width / z_alpha
    if reach * reach >= sys.maxsize * gap * gap:
        return sys.maxsize
    return max(math.ceil((reach / gap) ** 2), outcome.images + 1)


def _is_graded(outcome: Measured, lost: int) -> bool:
    """Whether images lose other amounts than all or nothing, so that counting them does not give the loss."""
    return abs(outcome.value * outcome.images - lost) > 1e-6 * outcome.images


def reach_of_loss(changing: float, loss: float, limit: float, alpha: float, power: float) -> float:
    """The square root of the images that a paired loss needs, times its distance from the limit.

    ``changing`` is the share of images whose answer changes, ``loss`` the share lost on balance.  The spread is
    Tango's on the limit and the ordinary one at the truth.

    Reference: T. Tango (1998), as in ``evaluation.intervals``; J.-P. Liu et al. (2002), doi:10.1002/sim.1012.
    """
    won = max(changing - loss, 0.0) / 2
    linear = -changing + (2 - loss) * limit
    rarer = (math.sqrt(max(linear * linear + 8 * won * limit * (1 - limit), 0.0)) - linear) / 4
    on_the_limit = max(2 * rarer + limit * (1 - limit), 0.0)
    z_alpha, z_power = NormalDist().inv_cdf(1 - alpha), NormalDist().inv_cdf(power)
    return z_alpha * math.sqrt(on_the_limit) + z_power * math.sqrt(max(changing - loss * loss, 0.0))
