"""Families of tests: which of many losses are shown, if many are looked at.

Reference: S. Holm (1979), "A Simple Sequentially Rejective Multiple Test Procedure", Scandinavian Journal of
Statistics 6, 65-70.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable


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
