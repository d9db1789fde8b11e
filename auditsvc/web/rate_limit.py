"""Rate limiting: a token bucket for each caller."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from auditsvc.errors import TooMany

BURST_S = 2.0


REMEMBERED = 10_000
"""Callers whose buckets are kept; the one that asked longest ago is forgotten first, and has a full one again."""


class RateLimiter:
    """Counts from the event loop only."""

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        """``rate`` is requests a second for each caller; 0 is no limit."""
        self._rate, self._clock = rate, clock
        self._empty_at: OrderedDict[str, float] = OrderedDict()

    def count(self, source: str) -> None:
        """One request more of this caller.

        Raises:
            TooMany: more than the caller's share; says how long to wait.
        """
        if not self._rate or not source:
            return
        now = self._clock()
        due = max(self._empty_at.get(source, now), now) + 1 / self._rate
        if due - now > BURST_S + 1e-6:
            raise TooMany(f"at most {self._rate:g} requests a second; wait a moment and send it again")
        self._empty_at[source] = due
        self._empty_at.move_to_end(source)
        if len(self._empty_at) > REMEMBERED:
            self._empty_at.popitem(last=False)
