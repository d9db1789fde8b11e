"""The groups with significant losses, ranked by certainty and not by size.

The largest estimate among many groups is usually that of a small group and due to chance.  So every loss of every group
under every condition is tested, the list is cut at a false discovery rate of 10 %, and it is sorted by the lower end of
the interval, which is the least that the group loses.  The list shows where to look; the rules of the policy decide.

Reference: Y. Benjamini and Y. Hochberg (1995), "Controlling the False Discovery Rate",
doi:10.1111/j.2517-6161.1995.tb02031.x.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from auditsvc.compliance.assessment.assessment_context import Readings, figure_of
from auditsvc.compliance.report.report_model import LossRow, Triage
from auditsvc.compliance.report.wording import Number
from auditsvc.records import OVERALL, Digest, Evidence, Reading

FALSE_DISCOVERY_RATE = 0.1
"""The false discovery rate of the list."""


_Tested = tuple[float, Reading, Digest, float]


def triage(runs: Mapping[Digest, Evidence], readings: Readings, most: int = 20) -> Triage:
    """The groups with significant losses among all that were measured; at most ``most`` of them."""
    tested = sorted(_tested(runs), key=lambda one: (one[0], one[1].metric, one[1].slice))
    adjusted = discovery_rates([p for p, *_ in tested])
    found: dict[str, list[tuple[Number, str, float]]] = {}
    for (_, reading, digest, alpha), rate in zip(tested, adjusted, strict=True):
        metric = runs[digest].metric(reading.metric)
        loss = figure_of(metric, reading.outcome, digest, alpha)
        if rate <= FALSE_DISCOVERY_RATE and isinstance(loss, Number):
            found.setdefault(reading.slice, []).append((loss, metric.condition or "", rate))
    rows = [_row(name, losses, readings) for name, losses in found.items()]
    rows.sort(key=lambda row: (-row.loss.low, row.slice))
    total = sum(len(losses) for losses in found.values())
    return Triage(
        rows=tuple(rows[:most]),
        significant=total,
        tested=len(tested),
        false_discovery_rate=FALSE_DISCOVERY_RATE,
        message=_triage_message(total, len(tested)),
    )


def _triage_message(significant: int, tested: int) -> str:
    if not tested:
        return ""
    if not significant:
        return f"None of {tested} losses (every group under every condition) is statistically significant."
    return (
        f"{significant} of {tested} losses (every group under every condition) are statistically significant at a "
        f"false discovery rate of {100 * FALSE_DISCOVERY_RATE:g}\u00a0%. Groups are sorted by the lower end of the "
        "interval. The list shows where to look; the rules of the policy decide."
    )


def _tested(runs: Mapping[Digest, Evidence]) -> Iterable[_Tested]:
    """Every loss of a group that has a p-value, once."""
    found: dict[tuple[str, str], _Tested] = {}
    for digest, run in runs.items():
        for reading in run.readings:
            p = getattr(reading.outcome, "p", None)
            metric = run.metric(reading.metric)
            if reading.slice != OVERALL and metric.role == "loss" and metric.condition and p is not None:
                found.setdefault((reading.metric, reading.slice), (p, reading, digest, run.key.alpha))
    return found.values()


def _row(name: str, losses: Sequence[tuple[Number, str, float]], readings: Readings) -> LossRow:
    loss, condition, rate = max(losses, key=lambda one: (one[0].low, one[1]))
    return LossRow(
        slice=name,
        condition=condition,
        title=readings.condition(condition).words,
        loss=loss,
        clean=readings.get("drop.clean", name),
        conditions=len(losses),
        adjusted_p=rate,
    )


def discovery_rates(ordered: Sequence[float]) -> list[float]:
    """Benjamini-Hochberg adjusted p-values of p-values in ascending order."""
    rates: list[float] = []
    least = 1.0
    for rank in range(len(ordered), 0, -1):
        least = min(least, ordered[rank - 1] * len(ordered) / rank)
        rates.append(least)
    return rates[::-1]
