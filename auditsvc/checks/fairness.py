"""Group fairness: differences between the groups of one column in selection, true positive and false positive rate.

The definitions are fairlearn's: each rate is of one class against the rest; demographic parity compares selection
rates between groups, equalised odds the other two.  With two classes the second is the positive one; with more, each
class is evaluated and the worst is reported.

A difference between the best and the worst of many small groups is large by chance.  So each pair of groups gets
an interval (Newcombe's, from Wilson's); the upper end of the largest difference holds without correction, its lower
end is corrected for the number of pairs.  Groups with fewer images than ``min_images`` are reported, not compared.

References: M. Hardt et al. (2016), "Equality of Opportunity in Supervised Learning", arXiv:1610.02413;
R. G. Newcombe (1998), doi:10.1002/(SICI)1097-0258(19980430)17:8<873::AID-SIM779>3.0.CO;2-I.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from auditsvc.evaluation import CLEAN, Check, EvalContext, Predictions
from auditsvc.evaluation.metrics.group_rates import KINDS, Gap, Kind, Rates, gaps, rates_of, ratios, worst_of
from auditsvc.evaluation.paired import measured
from auditsvc.records import CLEAN_CONDITION, OVERALL, Condition, Measured, Metric, Reading, Unmeasured

_RATES: dict[Kind, str] = {"selection": "selection_rate", "tpr": "tpr", "fpr": "fpr"}
_GAPS: dict[Kind, str] = {
    "selection": "demographic_parity_difference", "tpr": "tpr_difference", "fpr": "fpr_difference",
}  # fmt: skip
_ODDS, _PARITY = "equalized_odds_difference", "demographic_parity_ratio"


def _gap(name: str, title: str) -> Metric:
    return Metric(id=name, kind="difference", unit="points", better="lower", title=title)


def _rate(name: str, title: str, better: Literal["lower", "higher"]) -> Metric:
    return Metric(id=name, kind="proportion", unit="%", better=better, title=title)


_METRICS = (
    _gap("demographic_parity_difference", "largest difference in selection rate between groups"),
    _gap("tpr_difference", "largest difference in true positive rate between groups"),
    _gap("fpr_difference", "largest difference in false positive rate between groups"),
    _gap(_ODDS, "equalized odds difference between groups"),
    Metric(id=_PARITY, kind="ratio", better="higher", title="demographic parity ratio (least over greatest rate)"),
    _rate("selection_rate", "selection rate", "higher"),
    _rate("tpr", "true positive rate", "higher"),
    _rate("fpr", "false positive rate", "lower"),
)


class Fairness(Check):
    """Compare the groups of every column, or of the ``columns`` that are named.

    Emits ``demographic_parity_difference``, ``tpr_difference``, ``fpr_difference``, ``equalized_odds_difference`` (the
    larger of the last two) and ``demographic_parity_ratio`` (least over greatest selection rate), and the same
    with ``parent_`` before it.  On a slice it is the largest difference to any other group of its column; on
    ``overall`` it is the worst column's, which is fairlearn's number.  With two classes also the rates themselves,
    ``selection_rate``, ``tpr`` and ``fpr``, each of the images that it is a share of.
    """

    id = "fairness"
    version = 1
    needs = "answers"
    tasks = frozenset({"classification"})
    topics = frozenset({"fairness.slices"})

    columns: tuple[str, ...] = ()
    min_images: Annotated[int, Field(ge=2)] = 30

    def conditions(self) -> tuple[Condition, ...]:
        """One: the images untouched."""
        return (CLEAN_CONDITION,)

    def metrics(self) -> tuple[Metric, ...]:
        """Eight for the candidate, eight for the parent."""
        return (*_METRICS, *(one.model_copy(update={"id": f"parent_{one.id}", "title": f"{one.title}, of the parent"})
                             for one in _METRICS))  # fmt: skip

    def measure(self, case: EvalContext) -> Iterator[Reading]:
        """One pass, shared with every other check of the unmodified images."""
        pair = case.pair(CLEAN)
        yield from self._of("", pair.candidate, case)
        yield from self._of("parent_", pair.parent, case)

    def _of(self, prefix: str, answers: Predictions, case: EvalContext) -> Iterator[Reading]:
        """The readings of one model."""
        slices, classes = case.dataset.slices, len(case.dataset.classes)
        positives = (1,) if classes == 2 else tuple(range(classes))
        rates = {kind: [rates_of(kind, answers, one, slices) for one in positives] for kind in KINDS}
        found: dict[str, dict[str, Gap]] = {_GAPS[kind]: self._gaps(rates[kind], case) for kind in KINDS}
        found[_ODDS] = {
            name: worst_of([gap, found["fpr_difference"][name]]) for name, gap in found["tpr_difference"].items()
        }
        found[_PARITY] = ratios(rates["selection"], slices, self._columns(case), case.alpha, self.min_images)
        for metric, by_slice in found.items():
            for name in slices.names:
                yield Reading(metric=prefix + metric, slice=name, outcome=self._outcome(by_slice.get(name), name))

        for kind in KINDS:
            yield from _rates(prefix + _RATES[kind], rates[kind], slices.names, case.alpha)

    def _columns(self, case: EvalContext) -> tuple[str, ...]:
        return self.columns or tuple(column.column for column in case.dataset.slices.columns)

    def _gaps(self, rates: list[Rates], case: EvalContext) -> dict[str, Gap]:
        return gaps(rates, case.dataset.slices, self._columns(case), case.alpha, self.min_images)

    def _outcome(self, gap: Gap | None, name: str) -> Measured | Unmeasured:
        """A gap and whose it is; groups that are too small are named, and nothing passes while there are any."""
        if gap is None:
            where = (
                "no column with two groups is compared" if name == OVERALL else "this slice's column is not compared"
            )
            return Unmeasured(reason=where)
        small = _named(gap.too_small)
        if gap.images == 0:
            return Unmeasured(reason=f"no two groups have images to compare; below {self.min_images} images: {small}")
        pair = " and ".join(gap.pair)
        which = f"{pair}; below {self.min_images} images: {small}" if small else pair
        return Measured(value=gap.value, low=gap.low, high=gap.high, images=gap.images, which=which[:200])


def _named(groups: tuple[str, ...]) -> str:
    return ", ".join(groups[:3]) + (f" and {len(groups) - 3} more" if len(groups) > 3 else "")


def _rates(metric: str, rates: list[Rates], names: tuple[str, ...], alpha: float) -> Iterator[Reading]:
    """The rate of every slice; of several classes there is no one rate."""
    found = measured(
        rates[0].interval(alpha), rates[0].sample, "no image of this slice is one that the rate is a share of"
    )
    for name, outcome in zip(names, found, strict=True):
        if len(rates) > 1:
            reason = "with more than two classes each has a rate of its own"
            outcome = Unmeasured(reason=reason, images=outcome.images)
        yield Reading(metric=metric, slice=name, outcome=outcome)
