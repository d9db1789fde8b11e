"""A clock that stands still until it is moved."""

from __future__ import annotations

import datetime

from auditsvc.records import Moment

NOON = datetime.datetime(2026, 11, 22, 12, 0, tzinfo=datetime.UTC)


class FixedClock:
    """Always the same time; ``forward`` moves it."""

    def __init__(self, at: Moment = NOON) -> None:
        self.at = at

    def now(self) -> Moment:
        return self.at

    def forward(self, **delta: float) -> None:
        """Move on, by the words of ``timedelta``: ``forward(days=91)``."""
        self.at += datetime.timedelta(**delta)
