"""Which losses stand out, ranked by how sure they are and not by how large they look.

The largest estimate among many groups is usually that of a small group that had bad luck.  So every loss of every group
under every condition is tested, the list is cut where one in ten of it would be chance, and what is on it is ranked by
the smaller end of its interval: what the group loses at the least.  It says where to look; what blocks is the policy's.

Reference: Y. Benjamini and Y. Hochberg (1995), "Controlling the False Discovery Rate",
doi:10.1111/j.2517-6161.1995.tb02031.x.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from auditsvc.compliance.figures import Number
from auditsvc.compliance.inputs import Readings, figure_of
from auditsvc.compliance.views import HarmRow, Triage
from auditsvc.compliance.words import condition_words
from auditsvc.records import OVERALL, Digest, Evidence, Reading

CHANCE = 0.1
"""The share of chance findings on the list."""


_Tested = tuple[float, Reading, Digest, float]


def triage(runs: Mapping[Digest, Evidence], readings: Readings, most: int = 20) -> Triage:
    """The groups whose losses stand out from all that were measured; at most ``most`` of them."""
    tested = sorted(_tested(runs), key=lambda one: (one[0], one[1].metric, one[1].slice))
    adjusted = discovery_rates([p for p, *_ in tested])
    found: dict[str, list[tuple[Number, str, float]]] = {}
    for (_, reading, digest, alpha), rate in zip(tested, adjusted, strict=True):
        loss = figure_of(reading.metric, reading.outcome, digest, alpha)
        if rate <= CHANCE and isinstance(loss, Number):
            found.setdefault(reading.slice, []).append((loss, reading.metric.removeprefix("drop."), rate))
    rows = [_row(name, losses, readings) for name, losses in found.items()]
    rows.sort(key=lambda row: (-row.loss.low, row.slice))
    total = sum(len(losses) for losses in found.values())
    return Triage(rows=tuple(rows[:most]), found=total, looked_at=len(tested), chance=CHANCE)


def _tested(runs: Mapping[Digest, Evidence]) -> Iterable[_Tested]:
    """Every loss of a group that has a p-value, once."""
    found: dict[tuple[str, str], _Tested] = {}
    for digest, run in runs.items():
        for reading in run.readings:
            p = getattr(reading.outcome, "p", None)
            if reading.slice != OVERALL and reading.metric.startswith("drop.") and p is not None:
                found.setdefault((reading.metric, reading.slice), (p, reading, digest, run.key.alpha))
    return found.values()


def _row(name: str, losses: Sequence[tuple[Number, str, float]], readings: Readings) -> HarmRow:
    loss, condition, rate = max(losses, key=lambda one: (one[0].low, one[1]))
    return HarmRow(
        slice=name,
        condition=condition,
        title=condition_words(condition),
        loss=loss,
        clean=readings.get("drop.clean", name),
        conditions=len(losses),
        adjusted=rate,
    )


def discovery_rates(ordered: Sequence[float]) -> list[float]:
    """Benjamini and Hochberg's adjusted p-values of p-values in rising order."""
    rates: list[float] = []
    least = 1.0
    for rank in range(len(ordered), 0, -1):
        least = min(least, ordered[rank - 1] * len(ordered) / rank)
        rates.append(least)
    return rates[::-1]
