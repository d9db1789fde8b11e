"""Progress on a terminal: a bar while a step runs, and one line when it is done.

Without a terminal (a pipeline's log) each step is one line when it ends.  Everything goes to standard error, which
leaves standard output to ``--json``.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from auditsvc.ports import Tick

if TYPE_CHECKING:
    from rich.console import Console


class ConsoleProgress:
    """Implements ``ports.Progress`` with rich."""

    def __init__(self, console: Console | None = None) -> None:
        from rich.console import Console

        self._console = console or Console(stderr=True)

    @contextmanager
    def step(self, title: str, total: int | None = None) -> Iterator[Tick]:
        """A bar with the remaining time, then one line with the elapsed time."""
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

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
    """Implements ``ports.Progress`` without any output: for ``--json`` and for servers."""

    @contextmanager
    def step(self, title: str, total: int | None = None) -> Iterator[Tick]:  # noqa: ARG002 - the port's signature
        """A step without output."""
        yield _ignore

    def say(self, line: str) -> None:
        """No output."""


def _ignore(units: int = 1) -> None:
    """A tick without output."""
