"""Statistics of records that need no images: Holm's correction, and the difference of two measured numbers.

Reference: S. Holm (1979), "A Simple Sequentially Rejective Multiple Test Procedure", Scandinavian Journal of
Statistics 6, 65-70.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable

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


def holm(tests: Iterable[tuple[Hashable, float | None]]) -> list[float | None]:
    """The adjusted p-value of each test, given as its family and its p-value; None where there is none."""
    families: dict[Hashable, list[tuple[float, int]]] = {}
    adjusted: list[float | None] = []
    for number, (family, p) in enumerate(tests):
        adjusted.append(None)
        if p is not None:
            families.setdefault(family, []).append((p, number))
    for found in families.values():
        largest = 0.0
        for rank, (p, number) in enumerate(sorted(found)):
            largest = adjusted[number] = max(largest, min(1.0, p * (len(found) - rank)))
    return adjusted
