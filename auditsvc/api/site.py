"""The site: one installation as the service sees it, with everything opened once and closed at the end."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

from auditsvc.api.access import Access
from auditsvc.api.answers import Answers
from auditsvc.api.identity import is_loopback
from auditsvc.api.metrics import Metrics
from auditsvc.bootstrap import SystemClock, open_keys, open_ledger
from auditsvc.ports import Blobs, Clock, Datasets, Keys, Ledger, Log, Ports, Registry
from auditsvc.records import Record, canonical_json
from auditsvc.settings import Settings

R = TypeVar("R", bound=Record)


class LoggedLedger(Ledger, Log, Protocol):
    """The ledger with its log, as the embedded default and the SQL ledger have them in one."""

    def leaf(self, index: int) -> bytes:
        """The bytes of one leaf.  Raises ``NotFound``."""
        ...


class Later:
    """Stands for a port that is slow to open, and opens it when it is first used."""

    def __init__(self, opened: Callable[[], Any]) -> None:
        self._opened = opened

    @cached_property
    def _port(self) -> Any:
        return self._opened()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._port, name)


@dataclass
class Site:
    """What the routes are given: the ledger, who may come in, the answers to the gate question."""

    ledger: LoggedLedger
    access: Access
    answers: Answers
    clock: Clock
    keys: Keys
    folder: Path
    ports: Ports
    local: bool
    """Bound to loopback: whoever is on this machine may read without a token."""
    hosts: frozenset[str]
    """Names that this service answers for, without a port."""
    metrics: Metrics = field(default_factory=Metrics)
    _known_hosts: dict[bytes, bool] = field(default_factory=dict)

    def answers_for(self, host: bytes) -> bool:
        """Whether a request with this ``Host`` header is meant for this service."""
        known = self._known_hosts.get(host)
        if known is None:
            known = _name_of(host) in self.hosts
            if len(self._known_hosts) < 100:
                self._known_hosts[host] = known
        return known

    def note(self, event: str, actor: str, **facts: str) -> None:
        """An event in the log that is no record: who let whom in."""
        at = self.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")
        told = {"kind": "auditsvc.event", "apiVersion": "1", "type": event, "actor": actor, "at": at}
        self.ledger.append_leaf(canonical_json(told | facts))

    def close(self) -> None:
        """Give everything back."""
        self.access.close()
        self.answers.close()


def _name_of(host: bytes) -> str:
    """The name in a ``Host`` header, without its port and in lower case."""
    text = host.decode("latin-1").lower()
    return text[1:].partition("]")[0] if text.startswith("[") else text.partition(":")[0]


def open_site(settings: Settings, host: str) -> Site:
    """The site of these settings, bound to this address; the store is made on first use.

    Raises:
        Unavailable: the store can't be opened.
    """
    ledger = open_ledger(settings, create=True)
    clock = SystemClock()
    keys = open_keys(settings)
    database = Path(settings.ledger.removeprefix("sqlite:///")) if settings.ledger.startswith("sqlite:///") else None
    settings.store.mkdir(parents=True, exist_ok=True)
    return Site(
        ledger=ledger,
        access=Access(settings.store / "access.db", clock),
        answers=Answers(ledger, database),
        clock=clock,
        keys=keys,
        folder=settings.store,
        ports=_ports(settings, ledger, keys, clock),
        local=is_loopback(host),
        hosts=_hosts(host, settings.hosts),
    )


def _hosts(host: str, further: str) -> frozenset[str]:
    """On loopback its own names only; else this machine's names and addresses; and always those that were named."""
    named = {name.strip().lower() for name in further.split(",")} - {""}
    own = {"localhost", "127.0.0.1", "::1", host.lower()}
    if not is_loopback(host):
        name = socket.gethostname()
        own |= {name.lower(), socket.getfqdn().lower()}
        own |= {str(address[4][0]) for address in _addresses(name)}
    return frozenset((own | named) - {"0.0.0.0", "::"})  # noqa: S104 - taken out: no client names them


def _addresses(name: str) -> list[Any]:
    try:
        return socket.getaddrinfo(name, None)
    except OSError:
        return []


def _ports(settings: Settings, ledger: Any, keys: Keys, clock: Clock) -> Ports:
    """The ports of the verbs; MLflow and torch are imported by what first needs them."""
    from auditsvc.adapters.blobs import FileBlobs
    from auditsvc.adapters.console import NoProgress

    return Ports(
        ledger=ledger,
        log=ledger,
        blobs=cast(Blobs, FileBlobs(settings.store / "blobs")),
        registry=cast(Registry, Later(lambda: _registry(settings))),
        datasets=cast(Datasets, Later(_datasets)),
        keys=keys,
        clock=clock,
        progress=NoProgress(),
        folder=settings.store,
    )


def _registry(settings: Settings) -> Registry:
    from auditsvc.adapters.mlflow_registry import MlflowRegistry

    return MlflowRegistry(settings.mlflow, settings.store / "mlflow-artifacts")


def _datasets() -> Datasets:
    from auditsvc.adapters.folder_datasets import FolderDatasets

    return FolderDatasets()
