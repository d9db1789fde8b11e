"""Does the model still see when there is less light, or more, or light of another kind?

Exposure, lamps, shadows, glare and sensor noise are changed as they change in front of a camera: in linear light
and in physical units, then clipped where the sensor would clip.  Scaling the stored sRGB values instead would be
another disturbance, weaker in the shadows.

Exposure alone has no sensor noise, so it is the well-behaved half of low light; ``low_light_stops`` adds photons
that arrive one by one and a camera that amplifies them.

Reference: see ``auditsvc.evaluation.perturbations.illumination``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Annotated

from pydantic import Field
from torch import Tensor

from auditsvc.evaluation import Check, Disturbance, EvalContext
from auditsvc.evaluation.metrics.severity_curve import Axis, axis_of, swept, swept_disturbances, swept_metrics
from auditsvc.evaluation.perturbations import illumination
from auditsvc.records import Reading

Stops = Annotated[float, Field(ge=-8, le=8)]
Darker = Annotated[float, Field(ge=-12, lt=0)]
Depth = Annotated[float, Field(gt=0, le=8)]
Kelvin = Annotated[float, Field(ge=1700, le=25000)]


class Lighting(Check):
    """Change the light on every image and compare candidate with parent.

    Emits ``score.C``, ``parent.C`` and ``drop.C`` for every condition ``C``: ``exposure@SEV``, ``gamma@G``,
    ``kelvin@TK``, ``lowlight@SEV``, ``shadow@SEV``, ``uneven@SEV``, ``glare@Px`` (times white), ``backlight@SEV``,
    ``flicker@D``.  With ``curve`` also ``area``, ``area_loss`` and ``breaking`` of ``darker``, ``brighter``,
    ``lowlight`` and so on, over stops (or mired for ``warmer`` and ``colder``); ``floor`` is what must hold.
    """

    id = "lighting"
    version = 1

    exposure_stops: Annotated[tuple[Stops, ...], Field(min_length=1)] = (-2.0, -1.0, 1.0)
    gammas: tuple[Annotated[float, Field(gt=0, le=8)], ...] = ()
    kelvins: tuple[Kelvin, ...] = ()
    low_light_stops: tuple[Darker, ...] = ()
    full_well: Annotated[float, Field(ge=100, le=200_000)] = 5000.0
    read_noise: Annotated[float, Field(ge=0, le=100)] = 3.0
    regain: bool = True
    shadow_stops: tuple[Depth, ...] = ()
    penumbra: Annotated[float, Field(gt=0, le=1)] = 0.03
    uneven_stops: tuple[Depth, ...] = ()
    glare_peaks: tuple[Annotated[float, Field(gt=0, le=16)], ...] = ()
    glare_area: Annotated[float, Field(gt=0, lt=1)] = 0.05
    backlight_stops: tuple[Depth, ...] = ()
    veil: Annotated[float, Field(ge=0, lt=1)] = 0.02
    flicker_depths: tuple[Annotated[float, Field(gt=0, le=1)], ...] = ()
    flicker_periods: Annotated[float, Field(gt=0, le=1000)] = 4.0
    curve: bool = False
    floor: Annotated[float, Field(ge=0, le=1)] = 0.5
    errors_apart: bool = False

    def conditions(self) -> tuple[str, ...]:
        """One for each strength of each kind of light: ``exposure@-2EV``."""
        return tuple(chain.from_iterable(axis.names for axis in self._axes()))

    def metrics(self) -> tuple[str, ...]:
        """The conditions' metrics, and the curves'."""
        return swept_metrics(self._axes(), curve=self.curve, errors_apart=self.errors_apart)

    def measure(self, case: EvalContext) -> Iterator[Reading]:
        """Compare once for each condition."""
        for axis in self._axes():
            yield from swept(case, axis, self.floor, curve=self.curve, errors_apart=self.errors_apart)

    def disturbances(self) -> Mapping[str, Disturbance]:
        """Every condition that needs no search."""
        return swept_disturbances(self._axes())

    def _axes(self) -> tuple[Axis, ...]:
        """Every kind of light with its strengths, weakest first."""
        below, above = [s for s in self.exposure_stops if s <= 0], [s for s in self.exposure_stops if s > 0]
        warm, cold = (
            [k for k in self.kelvins if k < illumination.DAYLIGHT],
            [k for k in self.kelvins if k >= illumination.DAYLIGHT],
        )
        flat, steep = [g for g in self.gammas if g < 1], [g for g in self.gammas if g >= 1]
        dim = partial(illumination.dim, full_well=self.full_well, read_noise=self.read_noise, regain=self.regain)
        shadow, glare = (
            partial(illumination.shadow, penumbra=self.penumbra),
            partial(illumination.glare, area=self.glare_area),
        )
        behind = partial(illumination.backlight, veil=self.veil)
        lamp = partial(illumination.flicker, periods=self.flicker_periods)
        made = (
            _axis("darker", "exposure@{:+g}EV", below, illumination.expose, "stops"),
            _axis("brighter", "exposure@{:+g}EV", above, illumination.expose, "stops"),
            _axis("flatter", "gamma@{:g}", flat, illumination.bend, "gamma", math.log2),
            _axis("steeper", "gamma@{:g}", steep, illumination.bend, "gamma", math.log2),
            _axis("warmer", "kelvin@{:g}K", warm, illumination.tint, "kelvin", _mired),
            _axis("colder", "kelvin@{:g}K", cold, illumination.tint, "kelvin", _mired),
            _axis("lowlight", "lowlight@{:+g}EV", self.low_light_stops, dim, "stops"),
            _axis("shadow", "shadow@{:g}EV", self.shadow_stops, shadow, "stops"),
            _axis("uneven", "uneven@{:g}EV", self.uneven_stops, illumination.slope, "stops"),
            _axis("glare", "glare@{:g}x", self.glare_peaks, glare, "peak"),
            _axis("backlight", "backlight@{:g}EV", self.backlight_stops, behind, "stops"),
            _axis("flicker", "flicker@{:g}", self.flicker_depths, lamp, "depth"),
        )
        return tuple(axis for axis in made if axis.names)


def _axis(
    name: str,
    pattern: str,
    strengths: Sequence[float],
    disturb: Callable[..., Tensor],
    parameter: str,
    severity: Callable[[float], float] = float,
) -> Axis:
    """An axis whose strengths are one parameter of one disturbance; its severity is the size of that."""
    return axis_of(
        name, pattern, {value: (abs(severity(value)), partial(disturb, **{parameter: value})) for value in strengths}
    )


def _mired(kelvin: float) -> float:
    """How far a colour temperature is from daylight as the eye counts it: in reciprocal megakelvin."""
    return 1e6 / kelvin - 1e6 / illumination.DAYLIGHT
