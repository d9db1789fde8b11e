"""How much energy does one image take where the candidate runs?

Only a counter of this machine (RAPL) or a meter's log that came with a device's measurement gives a number: power under
load less power at rest, over at least 60 s of each.  Everything else is unmeasured, with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator

from auditsvc.errors import InvalidInput, Unavailable
from auditsvc.evaluation import Check, EvalContext, Run
from auditsvc.records import OVERALL, Measured, Metric, Reading, Unmeasured

_METRIC = Metric(id="joules_per_image", kind="quantity", unit="J", better="lower",
                 title="energy for one image, above that at rest")  # fmt: skip


class Energy(Check):
    """Measure the energy for one image in ``run``, on ``overall``; two minutes where there is a counter."""

    id = "energy"
    version = 1
    topics = frozenset({"env.energy"})

    run: Run = "onnxruntime/float32"

    def metrics(self) -> tuple[Metric, ...]:
        """One."""
        return (_METRIC,)

    @property
    def runs_named(self) -> tuple[str, ...]:
        """The one run."""
        return (self.run,)

    def measure(self, case: EvalContext) -> Iterator[Reading]:
        """One measurement."""
        outcome: Measured | Unmeasured
        try:
            if case.measure_power is None:
                raise InvalidInput("no files were given to run")
            power = case.measure_power(self.run)
            value, low, high = power.joules(case.alpha)
            outcome = Measured(value=value, low=low, high=high, images=power.images)
        except (InvalidInput, Unavailable) as error:
            outcome = Unmeasured(reason=str(error))
        yield Reading(metric=_METRIC.id, slice=OVERALL, outcome=outcome)
