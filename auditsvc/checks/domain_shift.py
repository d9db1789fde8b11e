"""Robustness to a small domain shift: another camera, codec, preprocessing or weather.

Known changes are applied to the audit's own images: resolution and resizing, JPEG, lens and hand, sensor noise,
colour matrix, bit depth, haze, mist and rain.  In addition, ``other`` can name one slice as the other domain
(``camera=B``, or ``domain=other`` where the data set's description names an ``other_domain``).  The check then
compares the loss there with the loss on the rest, and measures the distance between the two in the parent's outputs,
to verify that they are different domains.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from auditsvc.errors import InvalidInput
from auditsvc.evaluation import CLEAN, EvalContext
from auditsvc.evaluation.metrics.mmd import image_features, mean_discrepancy
from auditsvc.evaluation.metrics.severity_curve import Axis, SweptCheck, axis_of
from auditsvc.evaluation.perturbations import camera
from auditsvc.records import OVERALL, Family, Measured, Metric, Reading, Unmeasured

Share = Annotated[float, Field(gt=0, lt=1)]
Quality = Annotated[int, Field(ge=1, le=100)]

LEAST = 20
"""Images that each side needs for a distance."""

_OTHER = (
    Metric(id="mmd.other", kind="quantity", better="lower",
           title="squared maximum mean discrepancy of the other domain from the rest"),
    Metric(id="mmd_p_value.other", kind="p_value", better="higher",
           title="p-value of a discrepancy as large, where the domains are alike"),
    Metric(id="drop.other", kind="difference", unit="points", better="lower", role="loss",
           title="loss against the parent in the other domain"),
)  # fmt: skip

_FAMILIES = {
    one.name: one
    for one in (
        Family(name="resolution", title="Lower resolution", axis="share of the width that is kept",
               words="{} % of the resolution", neutral=1.0, percent=True),
        Family(name="jpeg", title="JPEG compression", axis="JPEG quality", words="JPEG quality {}", neutral=None),
        Family(name="blur", title="Defocus", axis="radius of the blur as a share of the width",
               words="defocus over {} % of the width", percent=True),
        Family(name="shake", title="Motion blur", axis="length of the motion as a share of the width",
               words="motion blur over {} % of the width", percent=True),
        Family(name="grain", title="Sensor noise", axis="full-well capacity in electrons",
               words="sensor noise at a full well of {} electrons", neutral=None),
        Family(name="matrix", title="Another colour matrix", axis="strength of the colour matrix",
               words="colour matrix of strength {}"),
        Family(name="bits", title="Fewer bits", axis="bits per channel", words="{} bits per channel", neutral=8.0),
        Family(name="haze", title="Haze", axis="optical depth", words="haze of optical depth {}"),
        Family(name="mist", title="Mist on the lens", axis="amount", words="mist of amount {}"),
        Family(name="rain", title="Rain", axis="share of the image covered",
               words="rain on {} % of the image", percent=True),
    )
}  # fmt: skip


class DomainShift(SweptCheck):
    """Change camera, codec, pipeline or weather, and compare candidate with parent.

    Emits ``score.C``, ``parent.C`` and ``drop.C`` for every condition ``C``: ``resolution@SHARE``, ``jpeg@Q``,
    ``blur@SHARE``, ``shake@SHARE`` (of the width), ``grain@E`` (electrons of white), ``matrix@X``, ``bits@B``,
    ``haze@D`` (optical depth), ``mist@A``, ``rain@SHARE``.  With ``other``, on ``overall``: ``mmd.other`` (how far
    that slice is from the rest, as the parent sees it; 0 is no distance), ``mmd_p_value.other`` (the chance of one as
    large by accident) and ``drop.other`` on that slice alone.  ``curve``, ``floor``, ``errors_apart`` as elsewhere.
    """

    id = "domain_shift"
    version = 1
    topics = frozenset({"robust.shift"})

    resolutions: tuple[Share, ...] = (0.75, 0.5)
    kernel: camera.Kernel = "bilinear"
    qualities: tuple[Quality, ...] = (80, 50, 20)
    blurs: tuple[Share, ...] = (0.01,)
    shakes: tuple[Share, ...] = (0.04,)
    full_wells: tuple[Annotated[float, Field(ge=50, le=200_000)], ...] = (1000.0,)
    matrices: tuple[Annotated[float, Field(gt=0, le=8)], ...] = (1.0,)
    bits: tuple[Annotated[int, Field(ge=1, le=7)], ...] = (5,)
    hazes: tuple[Annotated[float, Field(gt=0, le=8)], ...] = (1.0,)
    mists: tuple[Annotated[float, Field(gt=0, le=4)], ...] = ()
    rains: tuple[Share, ...] = (0.05,)
    other: str = ""

    def metrics(self) -> tuple[Metric, ...]:
        """The conditions' metrics, the curves', and those of the other domain."""
        return (*super().metrics(), *(_OTHER if self.other else ()))

    def measure(self, case: EvalContext) -> Iterator[Reading]:
        """Compare once for each condition, then measure the other domain."""
        yield from super().measure(case)
        if self.other:
            yield from self._other(case)

    def axes(self) -> tuple[Axis, ...]:
        """Every kind of change with its strengths."""
        resample = partial(camera.resample, kernel=self.kernel)
        return (
            _axis("resolution", self.resolutions, resample, "share", lambda share: 1 - share),
            _axis("jpeg", self.qualities, camera.compress, "quality", lambda quality: 100 - quality),
            _axis("blur", self.blurs, camera.defocus, "share"),
            _axis("shake", self.shakes, camera.shake, "share"),
            _axis("grain", self.full_wells, camera.grain, "full_well", lambda well: 1e3 / well),
            _axis("matrix", self.matrices, camera.recolour, "strength"),
            _axis("bits", self.bits, camera.reduce, "bits", lambda bits: 8 - bits),
            _axis("haze", self.hazes, camera.haze, "depth"),
            _axis("mist", self.mists, camera.mist, "amount"),
            _axis("rain", self.rains, camera.rain, "share"),
        )

    def _other(self, case: EvalContext) -> Iterator[Reading]:
        """The other domain: how far it is, and what the candidate loses there."""
        inside = _members(case, self.other)
        for reading in case.readings(case.pair(CLEAN)):
            if reading.metric == f"drop.{CLEAN}" and reading.slice == self.other:
                yield Reading(metric=_OTHER[2].id, slice=OVERALL, outcome=reading.outcome)
        counts = _counted(inside, case.dataset.slices.clusters)
        if min(counts) < LEAST:
            reason = f"a distance needs {LEAST} images (or clusters) a side; there are {counts[0]} and {counts[1]}"
            outcomes: tuple[Measured | Unmeasured, ...] = (Unmeasured(reason=reason, images=len(inside)),) * 2
        else:
            seen = _descriptions(case)
            of = case.dataset.slices.clusters
            clusters = (None, None) if of is None else (of[~inside], of[inside])
            found = mean_discrepancy(seen[~inside], seen[inside], case.alpha, case.seed, clusters)
            chance = found.chance
            outcomes = (
                Measured(value=found.value, low=found.low, high=found.high, images=found.images),
                Measured(value=chance, low=chance, high=chance, images=found.images),
            )
        for metric, outcome in zip(_OTHER[:2], outcomes, strict=True):
            yield Reading(metric=metric.id, slice=OVERALL, outcome=outcome)


def _axis(
    name: str,
    strengths: Sequence[float],
    disturb: Callable[..., Tensor],
    parameter: str,
    severity: Callable[[float], float] = float,
) -> Axis:
    makers = {value: (severity(value), partial(disturb, **{parameter: value})) for value in strengths}
    return axis_of(_FAMILIES[name], makers)


def _members(case: EvalContext, name: str) -> NDArray[np.bool_]:
    """Which images are in the slice of this name."""
    for column in case.dataset.slices.columns:
        if name in column.names:
            return np.asarray(column.codes == column.names.index(name))
    known = ", ".join(case.dataset.slices.names[1:]) or "none"
    raise InvalidInput(f"the data set has no slice {name!r} to take as the other domain; it has {known}")


def _counted(inside: NDArray[np.bool_], clusters: NDArray[np.int64] | None) -> tuple[int, int]:
    """The images, or clusters, inside and outside."""
    of = np.arange(len(inside)) if clusters is None else clusters
    return len(np.unique(of[inside])), len(np.unique(of[~inside]))


def _descriptions(case: EvalContext) -> Tensor:
    """``(N, D)``: the parent's outputs for every image."""
    with torch.inference_mode():
        return torch.cat([image_features(case.parent(batch.images)).cpu() for batch in case.batches(None)])
