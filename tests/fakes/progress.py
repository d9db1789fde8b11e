"""Progress that nobody watches, and that remembers what it was told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from auditsvc.errors import Cancelled


class QuietProgress:
    """``ports.Progress``; ``steps``, ``ticks`` and ``said`` lie open; ``stop`` cancels at the next sign of life."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, int | None]] = []
        self.ticks: list[int] = []
        self.said: list[str] = []
        self.stopped = False

    def stop(self) -> None:
        self.stopped = True

    @contextmanager
    def step(self, title: str, total: int | None = None) -> Iterator[QuietProgress]:
        self._look()
        self.steps.append((title, total))
        yield self

    def __call__(self, units: int = 1) -> None:
        self._look()
        self.ticks.append(units)

    def say(self, line: str) -> None:
        self.said.append(line)

    def _look(self) -> None:
        if self.stopped:
            raise Cancelled("the job was stopped")
