"""Robustness to common corruptions: noise, blur, weather and digital artefacts.

The corruptions of ImageNet-C, with the authors' parameters and severities.  A pruned network often keeps its clean
accuracy and loses accuracy under corruption.

Reference: D. Hendrycks and T. Dietterich (2019), "Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations", arXiv:1903.12261; L. Liebenwein et al. (2021), "Lost in Pruning", arXiv:2103.03014.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Annotated

from pydantic import Field

from auditsvc.evaluation import CLEAN, Check, EvalContext
from auditsvc.evaluation.metrics.corruption_error import ERROR_RATIOS, error_ratios, summed
from auditsvc.evaluation.metrics.severity_curve import Curve, curve_metrics, curve_readings
from auditsvc.evaluation.paired import error_metrics
from auditsvc.evaluation.perturbations.corruptions import JUDGED, Corruption, TableName, corrupt
from auditsvc.records import Condition, Family, Metric, Reading

Severity = Annotated[int, Field(ge=1, le=5)]


class Corruptions(Check):
    """Corrupt every image and compare candidate with parent.

    Emits ``score.N@S``, ``parent.`` and ``drop.`` for every corruption ``N`` and severity ``S`` of 1 to 5, and over all
    of them ``mce`` and ``relative_mce`` (the parent's is 1).  ``table`` ``auto`` takes the CIFAR parameters for images
    under 64 pixels, else the ImageNet ones.  With ``curve`` also ``area.N``, ``area_loss.N`` and
    ``failure_severity.N``, the severity at which the score falls below ``floor``.
    """

    id = "corruption"
    version = 1
    topics = frozenset({"robust.corruption"})

    corruptions: Annotated[tuple[Corruption, ...], Field(min_length=1)] = JUDGED
    severities: Annotated[tuple[Severity, ...], Field(min_length=1)] = (1, 2, 3, 4, 5)
    table: TableName = "auto"
    curve: bool = False
    floor: Annotated[float, Field(ge=0, le=1)] = 0.5
    errors_apart: bool = False

    def families(self) -> tuple[Family, ...]:
        """One for each corruption."""
        return tuple(_family(name) for name in self.corruptions)

    def conditions(self) -> tuple[Condition, ...]:
        """One for each corruption and severity: ``fog@3``."""
        return tuple(one.condition(severity) for one in self.families() for severity in sorted(self.severities))

    def metrics(self) -> tuple[Metric, ...]:
        """The conditions' metrics, the curves', and the two ratios."""
        apart = error_metrics(self.conditions()) if self.errors_apart else ()
        curves = [metric for one in self.families() if self.curve for metric in curve_metrics(one.name, one.title)]
        return (*super().metrics(), *apart, *curves, *ERROR_RATIOS)

    def measure(self, case: EvalContext) -> Iterator[Reading]:
        """Compare once for each corruption and severity."""
        severities, errors = sorted(self.severities), []
        for name in self.corruptions:
            pairs = []
            for severity in severities:
                disturb = partial(corrupt, name=name, severity=severity, table=self.table)
                pairs.append(case.pair(f"{name}@{severity}", disturb))
                yield from case.readings(pairs[-1], errors_apart=self.errors_apart)
            errors.append(summed(pairs))
            if self.curve:
                yield from curve_readings(case, Curve(name, tuple(map(float, severities)), pairs, self.floor))
        yield from error_ratios(errors, case.pair(CLEAN), len(severities), case.dataset.slices, case.alpha)


def _family(name: Corruption) -> Family:
    """A corruption by its severity, 1 to 5; 0 is the image as it is."""
    words = name.replace("_", " ")
    return Family(name=name, title=words.capitalize(), axis="severity, 1 to 5", words=f"{words} of severity {{}}")
