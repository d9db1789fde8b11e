"""The same client for ``await``: each call runs in a thread, so that the event loop goes on."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TypeVar

from auditsvc.client.awaiting import AsyncWorking
from auditsvc.client.shapes import Asked, Recall, Verified
from auditsvc.client.synchronous import Client
from auditsvc.pipeline.answering import GateAnswer
from auditsvc.records import Approval, Digest, Record, Release, Rollback, Waiver

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
