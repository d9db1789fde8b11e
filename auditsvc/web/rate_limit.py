"""Rate limiting: a token bucket for each caller (the generic cell rate algorithm, ITU-T I.371)."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from auditsvc.errors import TooMany

BURST_S = 2.0
"""A caller may use this many seconds' worth of requests at once."""

MAX_CALLERS = 10_000
"""Callers that are tracked; the least recently seen one is dropped first and starts with a full bucket again."""


class RateLimiter:
    """Not thread-safe: call it from the event loop only."""

    def __init__(
        self, rate: float, clock: Callable[[], float] = time.monotonic, *, burst_s: float = BURST_S, limit: str = ""
    ) -> None:
        """``rate`` is in requests (or other units) per second for each caller; 0 is no limit.  ``limit`` words it."""
        self._rate, self._clock, self._burst_s = rate, clock, burst_s
        self._limit = limit or f"{rate:g} requests per second"
        self._next_allowed: OrderedDict[str, float] = OrderedDict()

    def count(self, caller: str, units: float = 1) -> None:
        """Count one request of this caller, or so many bytes.

        Raises:
            TooMany: the caller's rate is exceeded.
        """
        if not self._rate or not caller:
            return
        now = self._clock()
        due = max(self._next_allowed.get(caller, now), now) + units / self._rate
        if due - now > self._burst_s + 1e-6:
            raise TooMany(f"at most {self._limit} are allowed; wait and retry")
        self._next_allowed[caller] = due
        self._next_allowed.move_to_end(caller)
        if len(self._next_allowed) > MAX_CALLERS:
            self._next_allowed.popitem(last=False)
