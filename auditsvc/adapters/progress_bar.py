"""Progress on a terminal: a line that lives while a step runs, and a line that stays when it is done.

Without a terminal (a pipeline's log) each step is one line when it ends.  Everything goes to standard error, so
that ``--json`` on standard output stays clean.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from auditsvc.ports import Tick


class ConsoleProgress:
    """Implements ``ports.Progress`` with rich."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)

    @contextmanager
    def step(self, title: str, total: int | None = None) -> Iterator[Tick]:
        """A bar with what is left of it, then one line with the time it took."""
        began = time.monotonic()
        columns = (TextColumn("    {task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        bar = Progress(*columns, console=self._console, transient=True, disable=not self._console.is_terminal)
        with bar:
            task = bar.add_task(title, total=total)

            def tick(units: int = 1) -> None:
                bar.advance(task, units)

            yield tick
        self._console.print(f"    {title} [dim]{time.monotonic() - began:.1f} s[/dim]", highlight=False)

    def say(self, line: str) -> None:
        """One line that stays."""
        self._console.print(f"    [dim]{line}[/dim]", highlight=False)


class NoProgress:
    """Implements ``ports.Progress`` by saying nothing: for ``--json`` and for servers."""

    @contextmanager
    def step(self, title: str, total: int | None = None) -> Iterator[Tick]:  # noqa: ARG002 - the port's signature
        """Nothing to see."""
        yield _unheard

    def say(self, line: str) -> None:
        """Nothing is said."""


def _unheard(units: int = 1) -> None:
    """A tick that nobody hears."""
