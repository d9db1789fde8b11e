"""Background work, as protocols: what runs a job's steps, and what those see of it who ask for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from auditsvc.records import Job, JobEvent, JobId, JobState, Moment, Order, Shard

Result = dict[str, Any]
"""What a step of a job gave, as plain JSON: digests and names, never the things themselves."""


class Runner(Protocol):
    """Runs one job's steps.  A step whose result is kept is never run again, whoever was killed in between."""

    def step(self, name: str, work: Callable[[], Result]) -> Result:
        """The result of this step: kept from before, or worked out now.

        A step that was killed is run again from its start, so ``work`` must bear being done twice.

        Raises:
            Cancelled: the job was stopped.
        """
        ...

    def spread(self, shards: Sequence[Shard]) -> tuple[Result, ...]:
        """Measure these shards wherever there is room, and return the results in the shards' order."""
        ...


class Jobs(Protocol):
    """Background work, as those see it who ask for it."""

    def submit(self, order: Order, by: str) -> Job:
        """Queue a job; when this returns, it is not lost any more.  Raises ``Unavailable``."""
        ...

    def get(self, job: JobId) -> Job:
        """The job as it stands.  Raises ``NotFound``."""
        ...

    def page(
        self, *, kind: str = "", state: JobState | None = None, before: JobId | None = None, limit: int = 20
    ) -> tuple[Job, ...]:
        """At most ``limit`` jobs, newest first, older than ``before``."""
        ...

    def cancel(self, job: JobId) -> Job:
        """Stop a job: at once if it waits, else at its next sign of life; what it finished is kept.

        Raises:
            NotFound: there is none.
            Conflict: it is done, or failed.
        """
        ...

    def retry(self, job: JobId) -> Job:
        """Queue a job again that failed or was cancelled.

        Raises:
            NotFound: there is none.
            Conflict: it is queued, running or done.
        """
        ...

    def forget(self, ended_before: Moment) -> int:
        """Remove jobs that ended before this, with what they told; how many.  What they made stays in the ledger."""
        ...

    def events(self, job: JobId, after: int = 0) -> tuple[JobEvent, ...]:
        """What the job told since the event of this number, oldest first.  Raises ``NotFound``."""
        ...
