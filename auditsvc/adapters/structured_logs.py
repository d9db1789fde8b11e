"""Output on standard error: log lines as text or JSON with the IDs of request, job and trace, and progress.

Progress is a bar while a step runs, and one line when it is done; without a terminal (a pipeline's log) it is that line
alone.  Standard output is left to ``--json``.
"""

from __future__ import annotations

import datetime
import json
import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from auditsvc.errors import InvalidInput
from auditsvc.ports import Tick, known

if TYPE_CHECKING:
    from rich.console import Console

LogFormat = Literal["text", "json"]


class JsonLines(logging.Formatter):
    """One JSON object per line.  The entries of a record's ``facts`` become separate fields."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        at = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        line: dict[str, Any] = {
            "time": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **known(),
            **_trace(),
            **getattr(record, "facts", {}),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class TextLines(logging.Formatter):
    """Time, level, logger, words, and in brackets what is being worked on."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, with a traceback below it where there is one."""
        facts = {**known(), **getattr(record, "facts", {})}
        text = " ".join(f"{name}={value}" for name, value in facts.items())
        return super().format(record) + (f" [{text}]" if text and not record.exc_info else "")


def _trace() -> dict[str, str]:
    """The trace that this line belongs to, if tracing is on; imports nothing."""
    telemetry = sys.modules.get("opentelemetry.trace")
    if telemetry is None:
        return {}
    context = telemetry.get_current_span().get_span_context()
    return {"trace": f"{context.trace_id:032x}"} if context.is_valid else {}


def logging_config(form: str) -> dict[str, Any]:
    """For ``logging.config.dictConfig``, and for uvicorn: everything on standard error.

    Raises:
        InvalidInput: a form that there is not.
    """
    if form not in ("text", "json"):
        raise InvalidInput(f"AUDITSVC_LOG_FORMAT is text or json, not {form!r}")
    lines = {"()": JsonLines} if form == "json" else {"()": TextLines, "fmt": _TEXT}
    handler = {"class": "logging.StreamHandler", "formatter": "line", "stream": "ext://sys.stderr"}
    quiet = {"handlers": ["err"], "level": "WARNING", "propagate": False}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": lines},
        "handlers": {"err": handler},
        "loggers": {
            "uvicorn": quiet,
            "auditsvc": {"handlers": ["err"], "level": "INFO", "propagate": False},
            "py.warnings": quiet,
        },
        "root": {"handlers": ["err"], "level": "WARNING"},
    }


_TEXT = "%(asctime)s %(levelname)s %(name)s %(message)s"


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
