"""Opening a site: settings in, everything that the routes are given out; the other projects on demand."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from functools import cached_property, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from auditsvc.api.access import Access
from auditsvc.api.answers import Answers
from auditsvc.api.background import Rounds
from auditsvc.api.hooks.courier import Courier
from auditsvc.api.identity import is_loopback
from auditsvc.api.limiting import Limiter
from auditsvc.api.people import People, grants_of
from auditsvc.api.site import Site
from auditsvc.api.staffing import Staff, staffing
from auditsvc.api.watching import Watch
from auditsvc.bootstrap import SystemClock, open_blobs, open_keys, open_ledger, open_notaries
from auditsvc.errors import Unavailable
from auditsvc.pipeline.sealed import published
from auditsvc.ports import Clock, Datasets, Jobs, Keys, Ports, Registry
from auditsvc.settings import Settings

TELL_S = 2.0
"""Seconds between two looks for events that somebody wants to be told."""


class Later:
    """Stands for a port that is slow to open, and opens it when it is first used."""

    def __init__(self, opened: Callable[[], Any]) -> None:
        self._opened = opened

    @cached_property
    def _port(self) -> Any:
        return self._opened()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._port, name)


def open_site(settings: Settings, host: str) -> Site:
    """The site of these settings, bound to this address, and the way to its other projects.

    The stores are made on first use.

    Raises:
        InvalidInput: settings that contradict each other.
        Unavailable: the store can't be opened.
    """
    settings.store.mkdir(parents=True, exist_ok=True)
    clock = SystemClock()
    access = Access(settings.for_project("").access, clock)
    names = settings.project_names
    parts = {name: settings.for_project(name) for name in names}
    public = urlsplit(settings.public_url).hostname or ""
    root = _site(settings.for_project(""), host, access, clock)
    root.hosts = _hosts(host, f"{settings.hosts},{public}")
    root.others = {name: partial(_other, parts[name], host, access, clock, name) for name in names}
    root.limiter = Limiter(settings.rate)
    root.people = _people(settings)
    root.traces = _can_trace(settings)
    root.public_url = settings.public_url.rstrip("/")
    root.mlflow_secret = settings.mlflow_secret
    root.audit_policy, root.audit_data = settings.audit_policy, settings.audit_data
    _watch(root, settings)
    return root


def _site(settings: Settings, host: str, access: Access, clock: Clock) -> Site:
    """One project's stores, opened."""
    settings.store.mkdir(parents=True, exist_ok=True)
    ledger, keys = open_ledger(settings, create=True), open_keys(settings)
    database = Path(settings.ledger.removeprefix("sqlite:///")) if settings.ledger.startswith("sqlite:///") else None
    return Site(
        ledger=ledger,
        access=access,
        answers=Answers(ledger, database),
        clock=clock,
        keys=keys,
        folder=settings.store,
        ports=_ports(settings, ledger, keys, clock),
        jobs=cast(Jobs, Later(partial(_jobs, settings))),
        local=is_loopback(host),
        hosts=frozenset(),
        put_back=settings.put_back,
    )


def _other(settings: Settings, host: str, access: Access, clock: Clock, name: str) -> Site:
    made = _site(settings, host, access, clock)
    made.project = name
    _watch(made, settings)
    return made


def _people(settings: Settings) -> People | None:
    if not settings.oidc_issuer:
        return None
    try:
        from auditsvc.adapters.oidc import Issuer
    except ImportError as error:
        raise Unavailable("AUDITSVC_OIDC_ISSUER needs a package: pip install 'auditsvc[oidc]'") from error
    issuer = Issuer(
        settings.oidc_issuer,
        settings.oidc_audience,
        settings.oidc_secret,
        settings.oidc_name,
        settings.oidc_groups,
    )
    return People(issuer, grants_of(settings.oidc_roles, settings.project_names))


def _can_trace(settings: Settings) -> bool:
    if settings.traces and find_spec("opentelemetry.exporter") is None:
        raise Unavailable("OTEL_EXPORTER_OTLP_ENDPOINT needs a package: pip install 'auditsvc[otel]'")
    return settings.traces


def _watch(site: Site, settings: Settings) -> None:
    """Give the site its work beside answering; ``serve`` starts it."""
    from auditsvc.adapters.posting import post

    if settings.workers:
        root = settings.store.parents[1] if site.project else settings.store
        command = [sys.executable, "-m", "auditsvc", "worker", "--store", str(root), "--project", site.project]
        database = Path(settings.jobs.removeprefix("sqlite:///")) if settings.jobs.startswith("sqlite:///") else None
        site.rounds["working"] = staffing(Staff(site.jobs, command, settings.workers, database))
    courier = Courier(site.ledger, site.book, site.clock, post)
    site.rounds["telling"] = Rounds("telling", courier.round, TELL_S)
    if settings.watch_s:
        store = Path(settings.mlflow.removeprefix("sqlite:///")) if settings.mlflow.startswith("sqlite:///") else None
        watch = Watch(site, store)
        site.rounds["watching"] = Rounds("watching", watch.round, settings.watch_s)


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
    """The ports of the verbs; MLflow and torch are imported by what first needs them.

    Raises:
        Conflict: the ledger came back from an old backup: its log does not continue what it has published.
    """
    from auditsvc.adapters.console import NoProgress

    ports = Ports(
        ledger=ledger,
        log=ledger,
        blobs=open_blobs(settings),
        registry=cast(Registry, Later(lambda: _registry(settings))),
        datasets=cast(Datasets, Later(_datasets)),
        keys=keys,
        clock=clock,
        progress=NoProgress(),
        folder=settings.store,
        **open_notaries(settings, ledger),
    )
    published(ports).guard()
    return ports


def _jobs(settings: Settings) -> Jobs:
    from auditsvc.bootstrap import open_jobs

    return open_jobs(settings)


def _registry(settings: Settings) -> Registry:
    from auditsvc.adapters.mlflow_registry import MlflowRegistry

    return MlflowRegistry(settings.mlflow, settings.store / "mlflow-artifacts")


def _datasets() -> Datasets:
    from auditsvc.adapters.folder_datasets import FolderDatasets

    return FolderDatasets()
