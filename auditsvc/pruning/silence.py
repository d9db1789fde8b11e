"""Progress that nobody watches: the default where none is given."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class Silence:
    """Implements ``ports.Progress`` and its ``Tick`` by doing nothing."""

    @contextmanager
    def step(self, title: str, total: int | None = None) -> Iterator[Silence]:  # noqa: ARG002
        """A step that is told to nobody."""
        yield self

    def __call__(self, units: int = 1) -> None:
        """Nothing."""

    def say(self, line: str) -> None:
        """Nothing."""
