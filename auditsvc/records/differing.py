"""The difference of two measured numbers that come without their images."""

from __future__ import annotations

import math

from auditsvc.records.evidence import Measured


def difference(one: Measured, other: Measured) -> Measured:
    """``one`` less ``other``, with an interval from both of theirs; each end keeps its level if they are independent.

    Two candidates that were measured on the same images err alike, so that the interval is then too wide if anything.

    Reference: G. Y. Zou and A. Donner (2008), "Construction of confidence limits about effect measures",
    doi:10.1002/sim.3095 (the method of variance estimates recovery; R. G. Newcombe 1998 for proportions).
    """
    value = one.value - other.value
    below = math.hypot(one.value - one.low, other.high - other.value)
    above = math.hypot(one.high - one.value, other.value - other.low)
    return Measured(value=value, low=value - below, high=value + above, images=min(one.images, other.images))
