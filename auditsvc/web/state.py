"""The site: one installation as the service sees it, with everything opened once and closed at the end."""

from __future__ import annotations

import logging
import os
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from auditsvc.adapters.blobs import writes
from auditsvc.errors import Forbidden, StorageFull, Unavailable
from auditsvc.ports import Clock, Context, Jobs, Keys, LoggedLedger
from auditsvc.records import Record
from auditsvc.records.base import encode_event
from auditsvc.services.log_check import LogCheck, check_log
from auditsvc.services.signing_context import checkpoint_store_of
from auditsvc.web.auth.oidc_roles import OidcUsers
from auditsvc.web.auth.token_store import COOKIE, HOST_COOKIE, TokenStore
from auditsvc.web.connection_limits import RateLimiter
from auditsvc.web.gate_cache import GateCache
from auditsvc.web.periodic import PeriodicTask
from auditsvc.web.service_metrics import ServiceMetrics
from auditsvc.web.webhook_delivery import WebhookSender, WebhookStore

_log = logging.getLogger("auditsvc.web")

PROBE_BYTES = 1 << 20
PROBE_S = 10.0
"""A probe of the disk has this many bytes; one that succeeded counts for this many seconds."""

R = TypeVar("R", bound=Record)


@dataclass
class ProjectState:
    """What the routes read: one project's ledger, its tokens, and the answers to the gate question."""

    ctx: Context
    jobs: Jobs
    """The queue of background work; workers are other processes."""
    access: TokenStore
    answers: GateCache
    local: bool
    """Bound to loopback: local requests may read without a token."""
    hosts: frozenset[str]
    """Names that this service answers for, without a port."""
    metrics: ServiceMetrics = field(default_factory=ServiceMetrics)
    project: str = ""
    """The project whose stores these are; the first one has no name."""
    others: Mapping[str, Callable[[], ProjectState]] = field(default_factory=dict)
    """How to open the other projects; only the first one knows them."""
    limiter: RateLimiter = field(default_factory=lambda: RateLimiter(0))
    uploads: RateLimiter = field(default_factory=lambda: RateLimiter(0))
    """Bytes that a caller uploads."""
    max_blob_bytes: float = 0
    """Of the project's files together; 0 is no limit."""
    people: OidcUsers | None = None
    """Users of the OIDC issuer, if one is configured."""
    approver_tokens: bool = True
    """Whether a token that an admin issued may approve; otherwise only people of the OIDC issuer can."""
    public_url: str = ""
    sender: WebhookSender = field(default_factory=WebhookSender)
    """Sends webhooks, and knows where to."""
    mlflow_secret: str = field(default="", repr=False)
    audit_policy: str = ""
    audit_data: str = ""
    """Policy and data set for audits of newly registered versions; empty disables them."""
    data_dir: Path = Path("data")
    """The folder of the data sets, whose names a page lists."""
    put_back: bool = True
    traces: bool = False
    """Whether traces are sent to the collector that the environment names (``OTEL_EXPORTER_OTLP_ENDPOINT``)."""
    rounds: dict[str, PeriodicTask] = field(default_factory=dict)
    """Background tasks by name."""
    log_check: LogCheck | None = None
    """The newest comparison of the ledger with its log."""
    watch_faults: tuple[str, ...] = ()
    """Models whose registry entries could not be checked in the last round, and why."""
    recent: tuple[int, dict[str, Any]] = (-1, {})
    """The size of the log, and the states of versions at that size, as pages show them."""
    _written: float | None = None
    _opened: dict[str, ProjectState] = field(default_factory=dict)
    _opening: threading.Lock = field(default_factory=threading.Lock)
    _known_hosts: dict[bytes, bool] = field(default_factory=dict)

    @property
    def is_https(self) -> bool:
        """Whether browsers reach the service over TLS, by its public URL."""
        return self.public_url.startswith("https://")

    @property
    def prefix(self) -> str:
        """The path of the public URL, under which a reverse proxy serves all pages; mostly empty."""
        return urlsplit(self.public_url).path.rstrip("/")

    @property
    def cookie(self) -> str:
        """The name of the session cookie."""
        return HOST_COOKIE if self.is_https else COOKIE

    @property
    def ledger(self) -> LoggedLedger:
        """The project's ledger with its log."""
        return self.ctx.ledger

    @property
    def clock(self) -> Clock:
        """The clock of the ports."""
        return self.ctx.clock

    @property
    def keys(self) -> Keys:
        """The project's signing keys."""
        return self.ctx.keys

    @property
    def folder(self) -> Path:
        """The project's store."""
        return self.ctx.folder

    def answers_for(self, host: bytes) -> bool:
        """Whether a request with this ``Host`` header is meant for this service."""
        known = self._known_hosts.get(host)
        if known is None:
            known = _name_of(host) in self.hosts
            if len(self._known_hosts) < 100:
                self._known_hosts[host] = known
        return known

    @cached_property
    def webhooks(self) -> WebhookStore:
        """The webhooks of this project."""
        return WebhookStore(self.access, self.clock, self.project)

    def of(self, project: str) -> ProjectState:
        """The site of another project, opened when it is first asked for.

        Raises:
            Forbidden: there is no such project any more.
            Unavailable: its store can't be opened.
        """
        if project == self.project:
            return self
        with self._opening:
            if project not in self._opened:
                if project not in self.others:
                    raise Forbidden(f"the project {project} is not served here; see AUDITSVC_PROJECTS")
                made = self._opened[project] = self.others[project]()
                made.metrics, made.public_url = self.metrics, self.public_url
            return self._opened[project]

    def opened(self) -> tuple[ProjectState, ...]:
        """This project and those that were opened from it."""
        return (self, *tuple(self._opened.values()))

    def check_log(self) -> None:
        """Compare the ledger with its log; a log that passes is published, which fixes its entries.

        Raises:
            Unavailable: the ledger can't be read.
        """
        self.log_check = found = check_log(self.ctx)
        for fault in found.faults:
            _log.error("the ledger does not follow from its log: %s", fault)
        self.metrics.log_faults.labels(self.project or "main").set(len(found.faults))
        if not found.faults:
            with suppress(Unavailable):  # too few witnesses
                checkpoint_store_of(self.ctx).current()

    def require_room(self) -> None:
        """Raises ``StorageFull``: the project's files have reached their quota."""
        if self.max_blob_bytes and self.ctx.blobs.size() >= self.max_blob_bytes:
            most = f"{self.max_blob_bytes / 1e9:g} GB (AUDITSVC_BLOBS_GB)"
            raise StorageFull(
                f"the files of this project have reached {most}; remove unused ones: auditsvc store clean"
            )

    def require_writable(self) -> None:
        """Write a probe to the store's disk, at most every few seconds.

        Raises:
            StorageFull: the disk or the quota is used up.
            Unavailable: it can't be written for another reason.
        """
        now = time.monotonic()
        if self._written is None or now - self._written > PROBE_S:
            with writes(self.folder), tempfile.TemporaryFile(dir=self.folder) as probe:
                probe.write(bytes(PROBE_BYTES))
                probe.flush()
                os.fsync(probe.fileno())
            self._written = now

    def require_intact(self) -> None:
        """Refuse to answer from a ledger that does not follow from its log.  Raises ``LogMismatch``."""
        if self.log_check is not None:
            self.log_check.require()

    def trigger(self, work: str) -> None:
        """Run a periodic task now, if this process has it."""
        if work in self.rounds:
            self.rounds[work].trigger()

    def log_event(self, event: str, actor: str, **facts: str) -> None:
        """Log an event that has no record, for example a new token."""
        self.ledger.append_leaf(encode_event(event, actor, self.clock.now(), **facts))

    def close(self) -> None:
        """Stop the background tasks, and close everything."""
        for rounds in self.rounds.values():
            rounds.stop()
        for other in self._opened.values():
            other.close()
        if not self.project:
            self.access.close()
        self.answers.close()


def _name_of(host: bytes) -> str:
    """The name in a ``Host`` header, without its port and in lower case."""
    text = host.decode("latin-1").lower()
    return text[1:].partition("]")[0] if text.startswith("[") else text.partition(":")[0]
