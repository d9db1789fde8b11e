"""Background tasks of the service: webhook delivery, watching the registry, and embedded workers.

Each task runs periodically in its own thread and can be woken early.  A run that fails because a dependency is
unavailable is logged and retried.

Worker processes are started only when jobs are queued, because they import torch, and end with the service, so that
the embedded installation needs no second command.
"""

from __future__ import annotations

import logging
import subprocess
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from auditsvc.adapters.jobs.parent_process import PARENT, end_orphans
from auditsvc.errors import AuditError
from auditsvc.ports import Jobs

_log = logging.getLogger("auditsvc.background")


@dataclass
class PeriodicTask:
    """A task that runs every ``every_s`` seconds until it is stopped."""

    name: str
    work: Callable[[], object]
    every_s: float
    _woken: threading.Event = field(default_factory=threading.Event)
    _ended: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread; the first round is one interval later."""
        self._thread = threading.Thread(target=self._run, name=f"auditsvc-{self.name}", daemon=True)
        self._thread.start()

    def trigger(self) -> None:
        """Run a round now."""
        self._woken.set()

    def stop(self, wait_s: float = 15.0) -> None:
        """Stop after the current round."""
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


PATIENCE_S = 30.0
"""How long a worker may take to end, in seconds; one that is killed then loses no more than its step."""


@dataclass
class WorkerProcesses:
    """Up to ``most`` worker processes, while jobs are queued."""

    jobs: Jobs
    command: Sequence[str]
    most: int
    database: Path | None = None
    """The SQLite file of the jobs, if SQLite is used: while it does not exist, no job was ever submitted."""
    _looked: bool = False
    _hired: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def look(self) -> None:
        """Start what is missing, if there are jobs; a worker that died is replaced.  First end those of a service that
        was killed: they would go on with this store."""
        if not self._looked:
            self._looked = True
            if PARENT in self.command and (ended := end_orphans(self.command)):
                _log.warning("ended %d workers of a service that is gone", ended)
        if self.database and not self.database.exists():
            return
        self._hired = [process for process in self._hired if process.poll() is None]
        if len(self._hired) < self.most and (self.jobs.page(state="queued", limit=1) or self._left_alone()):
            self._hired.append(subprocess.Popen(self.command, start_new_session=True))  # noqa: S603 - our own command

    def _left_alone(self) -> bool:
        return not self._hired and bool(self.jobs.page(state="running", limit=1))

    def dismiss(self) -> None:
        """Stop all, and wait; their jobs resume when the service is back."""
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
    """The rounds that start and replace workers."""

    staff: WorkerProcesses | None = None

    def stop(self, wait_s: float = 15.0) -> None:
        """End the rounds, then the workers."""
        super().stop(wait_s)
        if self.staff:
            self.staff.dismiss()


def supervise_workers(staff: WorkerProcesses, every_s: float = 5.0) -> WorkerSupervisor:
    """Rounds for these worker processes."""
    return WorkerSupervisor("working", staff.look, every_s, staff=staff)
