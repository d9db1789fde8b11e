"""Robustness to lighting: less light, more light, and light of another colour.

Exposure, colour temperature, shadows, glare and sensor noise are simulated in linear light and physical units, then
clipped as a sensor clips.  Scaling stored sRGB values would be a different disturbance, weaker in the shadows.
Exposure alone has no sensor noise; ``low_light_stops`` adds photon noise and amplification.

Reference: see ``auditsvc.evaluation.perturbations.illumination``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated

from pydantic import Field
from torch import Tensor

from auditsvc.evaluation.metrics.severity_curve import Axis, SweptCheck, axis_of
from auditsvc.evaluation.perturbations import illumination
from auditsvc.records import Family

Stops = Annotated[float, Field(ge=-8, le=8)]
Darker = Annotated[float, Field(ge=-12, lt=0)]
Depth = Annotated[float, Field(gt=0, le=8)]
Kelvin = Annotated[float, Field(ge=1700, le=25000)]


_STOPS = "stops (EV)"

EXPOSURE = Family(name="exposure", title="Exposure", axis="exposure in stops (EV), 0 is the photo as it is",
                  words="exposure {} EV", signed=True, suffix="EV")  # fmt: skip
GAMMA = Family(name="gamma", title="Gamma", axis="gamma, 1 is the photo as it is", words="gamma {}", neutral=1.0)
KELVIN = Family(name="kelvin", title="Colour temperature", axis="colour temperature in kelvin",
                words="a light source of {} K", neutral=None, suffix="K")  # fmt: skip
LOW_LIGHT = Family(name="lowlight", title="Low light with sensor noise", axis=_STOPS, words="low light {} EV",
                   signed=True, suffix="EV")  # fmt: skip
SHADOW = Family(name="shadow", title="Cast shadow", axis=f"depth in {_STOPS}", words="a shadow of {} EV", suffix="EV")
UNEVEN = Family(name="uneven", title="Uneven illumination", axis=f"difference in {_STOPS}",
                words="uneven illumination of {} EV", suffix="EV")  # fmt: skip
GLARE = Family(name="glare", title="Glare", axis="times white", words="glare {} times white", neutral=None, suffix="x")
BACKLIGHT = Family(name="backlight", title="Backlight", axis=_STOPS, words="backlight of {} EV", suffix="EV")
FLICKER = Family(name="flicker", title="Flicker", axis="depth", words="flicker of depth {}")


class Lighting(SweptCheck):
    """Change the light on every image and compare candidate with parent.

    Emits ``score.C``, ``parent.C`` and ``drop.C`` for every condition ``C``: ``exposure@SEV``, ``gamma@G``,
    ``kelvin@TK``, ``lowlight@SEV``, ``shadow@SEV``, ``uneven@SEV``, ``glare@Px`` (times white), ``backlight@SEV``,
    ``flicker@D``.  With ``curve`` also ``area``, ``area_loss`` and ``failure_severity`` of ``darker``, ``brighter``,
    ``lowlight`` and so on, over stops (or mired for ``warmer`` and ``colder``); ``floor`` is what must hold.
    """

    id = "lighting"
    version = 1
    topics = frozenset({"robust.lighting"})

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

    def axes(self) -> tuple[Axis, ...]:
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
        return (
            _axis(EXPOSURE, below, illumination.expose, "stops", name="darker", title="Darker"),
            _axis(EXPOSURE, above, illumination.expose, "stops", name="brighter", title="Brighter"),
            _axis(GAMMA, flat, illumination.bend, "gamma", math.log2, name="flatter", title="Lower gamma"),
            _axis(GAMMA, steep, illumination.bend, "gamma", math.log2, name="steeper", title="Higher gamma"),
            _axis(KELVIN, warm, illumination.tint, "kelvin", _mired, name="warmer", title="Warmer light"),
            _axis(KELVIN, cold, illumination.tint, "kelvin", _mired, name="colder", title="Colder light"),
            _axis(LOW_LIGHT, self.low_light_stops, dim, "stops"),
            _axis(SHADOW, self.shadow_stops, shadow, "stops"),
            _axis(UNEVEN, self.uneven_stops, illumination.slope, "stops"),
            _axis(GLARE, self.glare_peaks, glare, "peak"),
            _axis(BACKLIGHT, self.backlight_stops, behind, "stops"),
            _axis(FLICKER, self.flicker_depths, lamp, "depth"),
        )


def _axis(
    family: Family,
    strengths: Sequence[float],
    disturb: Callable[..., Tensor],
    parameter: str,
    severity: Callable[[float], float] = float,
    *,
    name: str = "",
    title: str = "",
) -> Axis:
    """An axis whose strengths are one parameter of one disturbance; its severity is the size of that."""
    makers = {value: (abs(severity(value)), partial(disturb, **{parameter: value})) for value in strengths}
    return axis_of(family, makers, name=name, title=title)


def _mired(kelvin: float) -> float:
    """How far a colour temperature is from daylight as the eye counts it: in reciprocal megakelvin."""
    return 1e6 / kelvin - 1e6 / illumination.DAYLIGHT
