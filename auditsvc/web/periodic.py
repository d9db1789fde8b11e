"""What the service does beside answering: telling receivers of events, and watching the registry.

Each work runs in its own thread, again and again; it can be woken before its time.  A round that fails because
something else is not there is logged and tried again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from auditsvc.errors import AuditError

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
