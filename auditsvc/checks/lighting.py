"""Does the model still see when there is less light, or more?

Exposure is changed as a camera changes it: in linear light, by whole stops (one stop is a factor of two),
then clipped where the sensor would clip.  Scaling the stored sRGB values instead would be another disturbance,
weaker in the shadows.  No sensor noise is added here, so this is the well-behaved half of low light.

Reference: IEC 61966-2-1:1999 (the sRGB transfer function).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from auditsvc.measuring import Case, Check
from auditsvc.records import Reading

Stops = Annotated[float, Field(ge=-8, le=8)]


def to_linear(images: Tensor) -> Tensor:
    """sRGB values in 0..1 to linear light in 0..1."""
    return torch.where(images <= 0.04045, images / 12.92, ((images + 0.055) / 1.055) ** 2.4)


def to_srgb(light: Tensor) -> Tensor:
    """Linear light in 0..1 to sRGB values in 0..1."""
    return torch.where(light <= 0.0031308, light * 12.92, 1.055 * light.clamp(min=1e-12) ** (1 / 2.4) - 0.055)


def expose(images: Tensor, _seeds: Tensor, *, stops: float) -> Tensor:
    """The same scene exposed by ``stops`` more (or less): ``(N, C, H, W)`` in 0..1."""
    return to_srgb((to_linear(images) * 2.0**stops).clamp(0, 1))


class Lighting(Check):
    """Expose every image by so many stops (EV) and compare candidate with parent.

    Emits ``score.exposure@SEV``, ``parent.`` and ``drop.`` for every number of stops ``S``.
    """

    id = "lighting"
    version = 1

    exposure_stops: Annotated[tuple[Stops, ...], Field(min_length=1)] = (-2.0, -1.0, 1.0)

    def conditions(self) -> tuple[str, ...]:
        """One for each exposure: ``exposure@-2EV``."""
        return tuple(f"exposure@{stops:+g}EV" for stops in self.exposure_stops)

    def measure(self, case: Case) -> Iterator[Reading]:
        """Compare once for each exposure."""
        for name, stops in zip(self.conditions(), self.exposure_stops, strict=True):
            yield from case.compare(name, partial(expose, stops=stops))
