"""A worker of the service's own, so that the embedded installation needs no second command.

It is started when there are jobs and none before, because it brings torch along, and ends with the service.

What the service does beside answering: telling receivers of events, and watching the registry.

Each work runs in its own thread, again and again; it can be woken before its time.  A round that fails because
something else is not there is logged and tried again.
"""

from __future__ import annotations

import logging
import subprocess
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from auditsvc.errors import AuditError
from auditsvc.ports import Jobs

_log = logging.getLogger("auditsvc.background")


@dataclass
class PeriodicTask:
    """One kind of work, done every so many seconds until it is stopped."""

    name: str
    work: Callable[[], object]
    every_s: float
    _woken: threading.Event = field(default_factory=threading.Event)
    _ended: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, after one pause: what just started has requests to answer first."""
        self._thread = threading.Thread(target=self._run, name=f"auditsvc-{self.name}", daemon=True)
        self._thread.start()

    def trigger(self) -> None:
        """Do a round now."""
        self._woken.set()

    def stop(self, wait_s: float = 15.0) -> None:
        """End after the round that is being done."""
        self._ended.set()
        self._woken.set()
        if self._thread:
            self._thread.join(wait_s)

    def _run(self) -> None:
        while True:
            self._woken.wait(self.every_s)
            self._woken.clear()
            if self._ended.is_set():
                return
            try:
                self.work()
            except AuditError as error:
                _log.warning("%s: %s", self.name, error)


pass

PATIENCE_S = 30.0
"""How long a worker may take to end, in seconds; one that is killed then loses no more than its step."""


@dataclass
class WorkerProcesses:
    """At most so many worker processes, while there is something to do."""

    jobs: Jobs
    command: Sequence[str]
    most: int
    database: Path | None = None
    """The jobs' SQLite file, where it is one: without it nobody ever asked for a job."""
    _hired: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def look(self) -> None:
        """Start what is missing, if there are jobs; a worker that died is replaced."""
        if self.database and not self.database.exists():
            return
        self._hired = [process for process in self._hired if process.poll() is None]
        if len(self._hired) < self.most and (self.jobs.page(state="queued", limit=1) or self._left_alone()):
            self._hired.append(subprocess.Popen(self.command, start_new_session=True))  # noqa: S603 - our own command

    def _left_alone(self) -> bool:
        return not self._hired and bool(self.jobs.page(state="running", limit=1))

    def dismiss(self) -> None:
        """Ask all to end, and wait; what they were at goes on when the service is back."""
        for process in self._hired:
            process.terminate()
        for process in self._hired:
            try:
                process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@dataclass
class WorkerSupervisor(PeriodicTask):
    """The rounds that look after the workers."""

    staff: WorkerProcesses | None = None

    def stop(self, wait_s: float = 15.0) -> None:
        """End the rounds, then the workers."""
        super().stop(wait_s)
        if self.staff:
            self.staff.dismiss()


def supervise_workers(staff: WorkerProcesses, every_s: float = 5.0) -> WorkerSupervisor:
    """Rounds for this staff."""
    return WorkerSupervisor("working", staff.look, every_s, staff=staff)
