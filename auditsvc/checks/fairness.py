"""Group fairness: differences between the groups of one column in selection, true positive and false positive rate.

The definitions are those of fairlearn's ``MetricFrame``: each rate is of one class against the rest; demographic parity
compares selection rates between groups, equalised odds the other two.  With two classes the second is the positive one;
with more, each class is evaluated and the worst is reported.

A difference between the best and the worst of many small groups is large by chance.  So each pair of groups gets
an interval (Newcombe's, from Wilson's); the upper end of the largest difference holds without correction, its lower
end is corrected for the number of pairs.  Groups with fewer images than ``min_images`` are reported, not compared.

Rows are counted once, into cells of (group, target, answer).  Drawing rows with replacement is exactly a multinomial
draw of cell counts, so the cost of a resample depends on the number of cells, not of rows.

References: M. Hardt et al. (2016), "Equality of Opportunity in Supervised Learning", arXiv:1610.02413;
R. G. Newcombe (1998), doi:10.1002/(SICI)1097-0258(19980430)17:8<873::AID-SIM779>3.0.CO;2-I; H. Weerts et al. (2023),
"Fairlearn", JMLR 24 (257).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from auditsvc.datasets.dataset import Slices
from auditsvc.evaluation import CLEAN, Check, EvalContext
from auditsvc.evaluation.intervals import Interval
from auditsvc.evaluation.paired import Predictions, Sample, levels, measured
from auditsvc.records import CLEAN_CONDITION, OVERALL, Condition, Measured, Metric, Reading, Unmeasured

Kind = Literal["selection", "tpr", "fpr"]
KINDS: tuple[Kind, ...] = ("selection", "tpr", "fpr")

RateNumbers = NDArray[np.float64]


@dataclass(frozen=True)
class Rates:
    """One rate of one class on every slice; ``sample`` are the images that it is a share of, 1 where they count."""

    sample: Sample

    @property
    def images(self) -> RateNumbers:
        """``(S,)``: how many images the rate is a share of."""
        return self.sample.images

    def interval(self, alpha: float) -> Interval:
        """The rate of every slice, over images or their clusters; meaningless where there is no image."""
        return levels(self.sample, alpha)


@dataclass(frozen=True)
class Gap:
    """The largest difference (or least ratio) between a group and any other, with its ends.

    ``images`` are those of the group that the rate is of, for several groups those of the smallest; 0 where no two
    groups could be compared.  ``pair`` are the two groups.  ``too_small`` names the groups that have fewer images than
    the minimum, with their number: they count in the value and in the end that shows a difference, and the other end is
    then that of the scale, so that what they hide can't pass.
    """

    value: float
    low: float
    high: float
    images: int
    pair: tuple[str, ...] = ()
    too_small: tuple[str, ...] = ()


def rates_of(kind: Kind, answers: Predictions, positive: int, slices: Slices) -> Rates:
    """The selection, true positive or false positive rate of one class against the rest."""
    is_it, said_it = answers["target"] == positive, answers["answer"] == positive
    among = {"selection": np.ones(len(is_it), bool), "tpr": is_it, "fpr": ~is_it}[kind]
    chosen = np.flatnonzero(among)
    return Rates(Sample(said_it[chosen].astype(np.int8), slices, chosen))


def _places(slices: Slices, columns: Sequence[str]) -> Iterator[range]:
    """For each column of two groups or more the index range of its slices among all names."""
    start = 1
    for column in slices.columns:
        if column.column in columns and len(column.labels) > 1:
            yield range(start, start + len(column.labels))
        start += len(column.labels)


def gaps(
    rates: Sequence[Rates], slices: Slices, columns: Sequence[str], alpha: float, min_images: int
) -> dict[str, Gap]:
    """For each slice its largest difference from another of its column, over all classes; ``overall`` the worst."""
    return _extremes(rates, slices, columns, alpha, min_images, ratio=False)


def ratios(
    rates: Sequence[Rates], slices: Slices, columns: Sequence[str], alpha: float, min_images: int
) -> dict[str, Gap]:
    """For each slice its least ratio with another of its column, over all classes; ``overall`` the worst."""
    return _extremes(rates, slices, columns, alpha, min_images, ratio=True)


def _extremes(
    rates: Sequence[Rates], slices: Slices, columns: Sequence[str], alpha: float, min_images: int, *, ratio: bool
) -> dict[str, Gap]:
    found: dict[str, list[Gap]] = {}
    compared = tuple(_places(slices, columns))
    for places in compared:
        for one in rates:
            there = [place for place in places if one.images[place] > 0]
            pairs = max(len(there) * (len(there) - 1) * len(rates) * len(compared), 1)
            known = dict(_compared(one, there, slices.names, alpha / pairs, alpha, ratio=ratio))
            small = tuple(f"{slices.names[place]} ({int(one.images[place])} images)"
                          for place in places if one.images[place] < min_images)  # fmt: skip
            for place in places:
                gap = known.get(place, Gap(float(ratio), 0.0, 1.0, 0))
                if small:
                    gap = replace(gap, too_small=small, low=0.0 if ratio else gap.low, high=gap.high if ratio else 1.0)
                found.setdefault(slices.names[place], []).append(gap)
    worst = {name: worst_of(every, ratio=ratio) for name, every in found.items()}
    return ({"overall": worst_of(list(worst.values()), ratio=ratio)} | worst) if worst else {}


def worst_of(every: list[Gap], *, ratio: bool = False) -> Gap:
    """The worst of several; each end is the worst of its own kind.  Of one that could not be compared both ends are."""
    pick = min if ratio else max
    there = [gap for gap in every if gap.images > 0] or every
    chosen = pick(there, key=lambda gap: gap.value)
    low, high = (
        pick(getattr(gap, part) for gap in (there if (part == "high") == ratio else every)) for part in ("low", "high")
    )
    small = tuple(dict.fromkeys(name for gap in every for name in gap.too_small))
    return Gap(chosen.value, low, high, min(gap.images for gap in there), chosen.pair, small)


def _compared(
    rates: Rates, places: list[int], names: Sequence[str], corrected: float, alpha: float, *, ratio: bool
) -> Iterator[tuple[int, Gap]]:
    """Each group with every other: the ends that hold as they are, and those corrected for the pairs."""
    if len(places) < 2:
        return
    loose, strict = rates.interval(alpha), rates.interval(corrected)
    p = loose.value[places]
    ends = [(part.low[places], part.high[places]) for part in (loose, strict)]
    make = _ratio_of if ratio else _difference_of
    value = make(p, p, p, p, p, p)[0]
    (_, outer_low, outer_high), (_, inner_low, inner_high) = (make(p, low, high, p, low, high) for low, high in ends)
    low, high = (outer_low, inner_high) if ratio else (inner_low, outer_high)
    pick = np.min if ratio else np.max
    own = np.eye(len(places), dtype=bool)
    blank = np.inf if ratio else -np.inf
    for row, place in enumerate(places):
        numbers = [float(pick(np.where(own[row], blank, part[row]))) for part in (value, low, high)]
        other = (np.argmin if ratio else np.argmax)(np.where(own[row], blank, value[row]))
        pair = (names[place], names[places[int(other)]])
        images = int(rates.images[place])
        yield place, Gap(numbers[0], min(numbers[1], numbers[0]), max(numbers[2], numbers[0]), images, pair)


def _difference_of(p: Any, low_p: Any, high_p: Any, q: Any, low_q: Any, high_q: Any) -> tuple[RateNumbers, ...]:
    """``|p_i - q_j|`` of every pair with Newcombe's bounds: ``(G, G)`` each."""
    signed = p[:, None] - q[None]
    below = np.sqrt((p - low_p)[:, None] ** 2 + (high_q - q)[None] ** 2)
    above = np.sqrt((high_p - p)[:, None] ** 2 + (q - low_q)[None] ** 2)
    low, high = signed - below, signed + above
    return np.abs(signed), np.maximum(np.maximum(low, -high), 0.0), np.maximum(np.abs(low), np.abs(high)).clip(0, 1)


def _ratio_of(p: Any, low_p: Any, high_p: Any, q: Any, low_q: Any, high_q: Any) -> tuple[RateNumbers, ...]:
    """The lesser over the greater of every pair, with the ratio of the ends; 1 where both are zero."""

    def over(lesser: RateNumbers, greater: RateNumbers) -> RateNumbers:
        return np.where(greater > 0, lesser / np.where(greater > 0, greater, 1.0), 1.0)

    value = np.minimum(over(p[:, None], q[None]), over(q[None], p[:, None]))
    low = np.minimum(over(low_p[:, None], high_q[None]), over(low_q[None], high_p[:, None]))
    high = np.minimum(over(high_p[:, None], low_q[None]), over(high_q[None], low_p[:, None]))
    return value, low.clip(0, 1), high.clip(0, 1)


@dataclass(frozen=True)
class Cells:
    """Rows counted by group and event, ``(G, E)``: all that any rate of any group needs."""

    counts: NDArray[np.int64]

    @classmethod
    def of(cls, groups: NDArray[np.integer], events: NDArray[np.integer], shape: tuple[int, int]) -> Cells:
        """Count rows; ``groups`` and ``events`` are numbers below ``shape``."""
        places = groups.astype(np.int64) * shape[1] + events
        return cls(np.bincount(places, minlength=shape[0] * shape[1]).reshape(shape))

    def shares(self, hits: Sequence[int], among: Sequence[int]) -> RateNumbers:
        """For each group the share of ``hits`` among these events; NaN where there are none."""
        return _shares(self.counts, hits, among)

    def resampled(self, hits: Sequence[int], among: Sequence[int], draws: int, rng: np.random.Generator) -> RateNumbers:
        """``(draws, G)``: the rates in ``draws`` bootstrap samples of all rows, drawn as cell counts."""
        total = int(self.counts.sum())
        kept = np.empty((draws, len(self.counts)))
        step = max(1, 2**22 // self.counts.size)
        for start in range(0, draws, step):
            size = min(step, draws - start)
            drawn = rng.multinomial(total, self.counts.ravel() / total, size=size)
            kept[start : start + size] = _shares(drawn.reshape(size, *self.counts.shape), hits, among)
        return kept


def _shares(counts: NDArray[np.int64], hits: Sequence[int], among: Sequence[int]) -> RateNumbers:
    above, below = counts[..., list(hits)].sum(axis=-1), counts[..., list(among)].sum(axis=-1)
    shares: RateNumbers = np.divide(above, below, out=np.full(below.shape, np.nan), where=below > 0)
    return shares


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
