"""The same client for ``await``: each call runs in a thread, so that the event loop goes on.

The awaitable half of ``working``: each call runs in a thread; what it gives and raises stands there.
"""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from auditsvc.client.client import Client, Reviewable, Said, Working
from auditsvc.client.response_models import (
    Asked,
    Delivery,
    Me,
    NewReceiver,
    NewToken,
    Provenance,
    Recall,
    Receiver,
    Token,
    Traced,
    Tried,
    Verified,
)
from auditsvc.compliance.assessment.incident_status import Incident
from auditsvc.records import Approval, Digest, FileEntry, Job, JobId, JobRequest, Record, Release, Rollback, Waiver
from auditsvc.services.gate_query import GateAnswer


class AsyncWorking:
    """``Working`` with awaitable methods."""

    _client: Working

    async def call(self, method: str, path: str, given: Mapping[str, Any] | None = None) -> bytes:
        """Any route by its path, for what has no method of its own here; errors are raised as everywhere."""
        return await asyncio.to_thread(self._client.call, method, path, given)

    async def upload(self, file: Path) -> tuple[FileEntry, ...]:
        """Send a file, or a model folder as ``.tar``; what comes back goes into an order or a document."""
        return await asyncio.to_thread(self._client.upload, file)

    async def ask(self, order: JobRequest) -> Job:
        """Ask for background work: prune, admit, audit, release or report."""
        return await asyncio.to_thread(self._client.ask, order)

    async def job(self, job: JobId) -> Job:
        """How a job stands."""
        return await asyncio.to_thread(self._client.job, job)

    async def jobs(self, limit: int = 20) -> tuple[Job, ...]:
        """The newest jobs."""
        return await asyncio.to_thread(self._client.jobs, limit)

    async def wait(self, job: JobId, timeout_s: float = 3600.0, every_s: float = 1.0) -> Job:
        """The job when it is over, however it ended."""
        return await asyncio.to_thread(self._client.wait, job, timeout_s, every_s)

    async def cancel(self, job: JobId) -> Job:
        """Stop a job."""
        return await asyncio.to_thread(self._client.cancel, job)

    async def retry(self, job: JobId) -> Job:
        """Try a job again that failed or was cancelled."""
        return await asyncio.to_thread(self._client.retry, job)

    async def say(self, kind: type[Said], given: Mapping[str, Any]) -> Said:
        """Add a document, answers, a change plan, a word on a change, an incident, or that one watched for any, under
        the name of the token."""
        return await asyncio.to_thread(self._client.say, kind, given)

    async def review(self, kind: type[Reviewable], digest: Digest) -> Reviewable:
        """Stand behind what somebody else said."""
        return await asyncio.to_thread(self._client.review, kind, digest)

    async def reported(self, incident: Digest, given: Mapping[str, Any]) -> Incident:
        """Register that an authority was told of an incident."""
        return await asyncio.to_thread(self._client.reported, incident, given)

    async def document_file(self, document: Digest, file: Path) -> Path:
        """Download the file of a document, to read it before the review."""
        return await asyncio.to_thread(self._client.document_file, document, file)

    async def dry_run(self, policy: str, model: str | None = None) -> Tried:
        """What this policy (YAML) would have decided on everything that was judged."""
        return await asyncio.to_thread(self._client.dry_run, policy, model)

    async def provenance(self, digest: Digest) -> Provenance:
        """Every record that has this digest or speaks of it."""
        return await asyncio.to_thread(self._client.provenance, digest)

    async def identify(self, file: Path) -> Traced:
        """Whose model a found file is, by its watermark; for auditors."""
        return await asyncio.to_thread(self._client.identify, file)

    async def checkpoint(self) -> str:
        """The log's signed checkpoint; keep one, to check later that the log only grew."""
        return await asyncio.to_thread(self._client.checkpoint)

    async def report(self, release: Digest, file: Path) -> Path:
        """Download the report behind a release."""
        return await asyncio.to_thread(self._client.report, release, file)

    async def whoami(self) -> Me:
        """The name, roles and project of the token."""
        return await asyncio.to_thread(self._client.whoami)

    async def tokens(self) -> tuple[Token, ...]:
        """All tokens, never the secrets; for admins."""
        return await asyncio.to_thread(self._client.tokens)

    async def issue(self, name: str, role: str, days: int = 90, project: str | None = None) -> NewToken:
        """A token for somebody; its secret is in the answer and never seen again."""
        return await asyncio.to_thread(self._client.issue, name, role, days, project)

    async def withdraw(self, token: str) -> Token:
        """Take a token back, by its id."""
        return await asyncio.to_thread(self._client.withdraw, token)

    async def receivers(self) -> tuple[Receiver, ...]:
        """Who is told of events."""
        return await asyncio.to_thread(self._client.receivers)

    async def tell(self, url: str, events: Sequence[str] = ()) -> NewReceiver:
        """Tell this address of events from now on, signed with the secret in the answer."""
        return await asyncio.to_thread(self._client.tell, url, events)

    async def end(self, receiver: str) -> Receiver:
        """Tell this receiver nothing more."""
        return await asyncio.to_thread(self._client.end, receiver)

    async def deliveries(self, state: str | None = None) -> tuple[Delivery, ...]:
        """The newest deliveries; ``dead`` lists those that were given up."""
        return await asyncio.to_thread(self._client.deliveries, state)

    async def send_again(self, delivery: str) -> Delivery:
        """Send a delivery again."""
        return await asyncio.to_thread(self._client.send_again, delivery)


R = TypeVar("R", bound=Record)


class AsyncClient(AsyncWorking):
    """``Client`` with awaitable methods; what each gives and raises stands there."""

    def __init__(self, url: str = "", token: str = "", timeout: float = 30.0) -> None:
        self._client: Client = Client(url, token, timeout)

    async def gate(self, model: str, version: str, policy: str | None = None) -> GateAnswer:
        """May this version be used?"""
        return await asyncio.to_thread(self._client.gate, model, version, policy)

    async def require(self, model: str, version: str, policy: str | None = None) -> GateAnswer:
        """The answer, if it is ``approved``."""
        return await asyncio.to_thread(self._client.require, model, version, policy)

    async def get(self, kind: type[R], digest: Digest) -> R:
        """One record, checked against its digest."""
        return await asyncio.to_thread(self._client.get, kind, digest)

    async def find(self, kind: type[R], of: str | None = None) -> AsyncIterator[R]:
        """All records of a kind, newest first."""
        records = self._client.find(kind, of)
        while (record := await asyncio.to_thread(next, records, None)) is not None:
            yield record

    async def approve(self, decision: Digest, comment: str = "") -> Approval:
        """Consent to a decision under the name of the token."""
        return await asyncio.to_thread(self._client.approve, decision, comment)

    async def waive(self, decision: Digest, rule: str, reason: str, until: datetime.date) -> Waiver:
        """Take one open rule upon oneself until a day."""
        return await asyncio.to_thread(self._client.waive, decision, rule, reason, until)

    async def release(self, decision: Digest) -> Release:
        """Seal what the decision approves."""
        return await asyncio.to_thread(self._client.release, decision)

    async def go_back(self, release: Digest, reason: str | None = None) -> Asked | Rollback:
        """Ask to go back to this release, or confirm it."""
        return await asyncio.to_thread(self._client.go_back, release, reason)

    async def recall(self, release: Digest, reason: str | None = None) -> Recall:
        """Ask for a recall, or confirm one."""
        return await asyncio.to_thread(self._client.recall, release, reason)

    async def bundle(self, release: Digest, file: Path) -> Path:
        """Download a release as one tar."""
        return await asyncio.to_thread(self._client.bundle, release, file)

    async def verify(self, file: Path) -> Verified:
        """Send a model file, or a release's ``.tar``, and hear what it is."""
        return await asyncio.to_thread(self._client.verify, file)
