"""Judgements as sentences that somebody can act on: what was found, what was wanted, what would decide it."""

from __future__ import annotations

import math
import sys
from statistics import NormalDist

from auditsvc.records.evidence import Measured, Unmeasured
from auditsvc.records.policy import Rule

POWER = 0.8
"""The chance with which the images that an unknown asks for would decide it."""


_TOO_MANY = 20
"""So many times the images at hand are too many to ask anybody for."""


def finding_message(
    rule: Rule, metric: str, slice_name: str, outcome: Measured | Unmeasured, needed: int | None
) -> str:
    """One judgement in words; ``needed`` is the number of images that would decide an unknown, if any would."""
    place = f"{rule.check}/{metric} on {slice_name}{' less the incumbent' if rule.of else ''}"
    bound = "at least" if rule.at_least is not None else "at most"
    told = "drop." if rule.of and (_is_share(metric) or _is_change(metric) or _is_distance(metric)) else metric
    unit = _unit(told)
    wanted = f"{bound} {_number(told, rule.limit)}{unit} wanted"
    if isinstance(outcome, Unmeasured):
        return f"{place}: not known, {outcome.reason}; {wanted}"
    value, low, high = (_number(told, number) for number in (outcome.value, outcome.low, outcome.high))
    ends = f"({low} to {high}; {outcome.images} images)" if low != high else f"({outcome.images} images)"
    whose = f" for {outcome.which}" if outcome.which else ""
    return f"{place}: {value}{unit}{whose} {ends}; {wanted}{_deciding(needed, outcome.images)}"


def _deciding(needed: int | None, images: int) -> str:
    """What would decide an unknown, or that nothing at hand would."""
    if needed is None:
        return ""
    if needed > _TOO_MANY * images:
        return "; too near the limit for any number of images at hand"
    return f"; about {needed} images would decide it"


def images_to_decide(rule: Rule, metric: str, outcome: Measured, alpha: float) -> int:
    """How many images would decide an unknown with power 0.8, if the estimate and its spread stay as they are.

    ``sys.maxsize`` where the estimate lies on the limit itself.  The variance of one image is that
    of a paired difference where the images lost and won are known, of a proportion for a share, and else the
    one that the interval's width tells.
    """
    z_alpha, z_power = NormalDist().inv_cdf(1 - alpha), NormalDist().inv_cdf(POWER)
    gap = abs(rule.limit - outcome.value)
    if outcome.lost is not None and outcome.won is not None and not _is_graded(outcome, outcome.lost - outcome.won):
        changing = max(outcome.lost + outcome.won, 1) / outcome.images
        reach = reach_of_loss(changing, outcome.value, rule.limit, alpha, POWER)
    elif rule.of is None and metric.partition(".")[0] in _PROPORTIONS and 0 < outcome.value < 1:
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

    Reference: T. Tango (1998), as in ``measuring.statistics``; J.-P. Liu et al. (2002), doi:10.1002/sim.1012.
    """
    won = max(changing - loss, 0.0) / 2
    linear = -changing + (2 - loss) * limit
    rarer = (math.sqrt(max(linear * linear + 8 * won * limit * (1 - limit), 0.0)) - linear) / 4
    on_the_limit = max(2 * rarer + limit * (1 - limit), 0.0)
    z_alpha, z_power = NormalDist().inv_cdf(1 - alpha), NormalDist().inv_cdf(power)
    return z_alpha * math.sqrt(on_the_limit) + z_power * math.sqrt(max(changing - loss * loss, 0.0))


_PROPORTIONS = frozenset(
    ("score", "parent", "flips", "bits", "lost", "won", "churn", "missed", "alarm", "parent_missed", "parent_alarm",
     "right", "parent_right", "selection", "tpr", "fpr", "parent_selection", "parent_tpr", "parent_fpr")
)  # fmt: skip
"""What stands before the dot of metrics that count some images among others."""

_SHARES = _PROPORTIONS | {
    "calibration_error", "parent_calibration_error", "selective_risk", "parent_selective_risk", "told", "parent_told",
    "area", "parent_area", "recall", "precision", "iou", "cer", "exact", "parent_recall", "parent_precision",
    "parent_iou", "parent_cer", "parent_exact",
}  # fmt: skip
"""Fractions of 1 of any kind, told in per cent."""

_CHANGES = frozenset(
    ("drop", "rise", "area_loss", "calibration_change", "selective_change", "confidence_change", "accuracy_cost")
)
"""Differences of fractions that have a direction, told in points with a sign."""


def _number(metric: str, value: float) -> str:
    if _is_change(metric):
        return f"{100 * value:+.1f}"
    return f"{100 * value:.1f}" if _is_share(metric) or _is_distance(metric) else f"{value:.4g}"


def _unit(metric: str) -> str:
    return " points" if _is_change(metric) or _is_distance(metric) else " %" if _is_share(metric) else ""


def _is_share(metric: str) -> bool:
    return metric.partition(".")[0] in _SHARES


def _is_change(metric: str) -> bool:
    return metric.partition(".")[0] in _CHANGES


def _is_distance(metric: str) -> bool:
    """How far two groups lie apart, without a direction."""
    return metric.endswith("_difference")
