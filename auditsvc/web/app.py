"""The service process: opens the store and every project, binds the address, prints how to log in, stops gracefully."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
from collections.abc import Iterable
from functools import partial
from importlib.util import find_spec
from types import FrameType
from typing import Any
from urllib.parse import urlsplit

import uvicorn

from auditsvc import __version__
from auditsvc.adapters.jobs.parent_process import PARENT
from auditsvc.adapters.structured_logs import logging_config
from auditsvc.bootstrap import load_plugins, open_context, open_jobs
from auditsvc.errors import Unavailable
from auditsvc.services.unused_blobs import remove_unused_blobs
from auditsvc.services.watching import queue_due
from auditsvc.settings import Settings, sqlite_file
from auditsvc.web import create_app
from auditsvc.web.auth.authentication import is_loopback
from auditsvc.web.auth.oidc_roles import OidcUsers, parse_role_grants
from auditsvc.web.auth.token_store import TokenStore, delete_ended_sessions
from auditsvc.web.connection_limits import RateLimiter, server_options
from auditsvc.web.gate_cache import GateCache
from auditsvc.web.idempotency import delete_expired_answers
from auditsvc.web.periodic import PeriodicTask, WorkerProcesses, supervise_workers
from auditsvc.web.registry_watcher import RegistryWatcher
from auditsvc.web.state import ProjectState
from auditsvc.web.webhook_delivery import WebhookDispatcher, WebhookSender

DISPATCH_S = 2.0
"""Seconds between two runs of the webhook dispatcher."""

LOG_CHECK_S = 3600.0
"""Seconds between two comparisons of the ledger with its log."""


CLEAN_UP_S = 3600.0
"""Seconds between two deletions of what is over: sessions, and answers of repeated requests."""


MONITORING_S = 60.0
"""Seconds between two looks for runs of the monitor that are due."""

DAY_S = 86400.0


def _clean_up(access: TokenStore) -> None:
    delete_expired_answers(access)
    delete_ended_sessions(access)


def open_site(settings: Settings, host: str) -> ProjectState:
    """The site of these settings, bound to this address, and the way to its other projects.

    The stores are made on first use.

    Raises:
        InvalidInput: settings that contradict each other.
        Unavailable: the store can't be opened.
    """
    root = _open_project(settings, "", host)
    public = urlsplit(settings.public_url).hostname or ""
    root.hosts = _hosts(host, (*settings.allowed_hosts, public))
    root.others = {name: partial(_open_project, settings, name, host, root.access) for name in settings.projects}
    root.rounds["clean-up"] = PeriodicTask("clean-up", partial(_clean_up, root.access), CLEAN_UP_S)
    root.limiter = RateLimiter(settings.rate_limit)
    root.people = _people(settings, root.access)
    root.approver_tokens = settings.approver_tokens
    root.traces = _can_trace(settings)
    root.public_url = settings.public_url.rstrip("/")
    root.mlflow_secret = settings.mlflow_webhook_secret
    root.audit_policy, root.audit_data = settings.auto_audit_policy, settings.auto_audit_dataset
    return root


def _open_project(settings: Settings, project: str, host: str, access: TokenStore | None = None) -> ProjectState:
    """One project's state.  All projects share the main one's ``access``, which it opens itself.

    Models run in the workers, so the service needs no accelerator, whatever AUDITSVC_DEVICE says.
    """
    scoped = settings.for_project(project)
    ctx = open_context(settings.model_copy(update={"device": "cpu"}), project, create=True)
    daily = settings.upload_gb_per_day
    made = ProjectState(
        ctx=ctx,
        jobs=open_jobs(settings, project),
        access=access or TokenStore(scoped.service_db, ctx.clock),
        answers=GateCache(ctx.ledger, scoped.ledger_file, clock=ctx.clock),
        local=is_loopback(host) and not settings.public_url,
        hosts=frozenset(),
        data_dir=scoped.datasets_dir,
        put_back=settings.restore_alias,
        project=project,
        sender=WebhookSender(frozenset(settings.webhook_hosts)),
        uploads=RateLimiter(daily * 1e9 / DAY_S, burst_s=DAY_S, limit=f"{daily:g} GB of uploads in a day"),
        max_blob_bytes=settings.blobs_gb * 1e9,
    )
    made.check_log()
    made.answers.recheck = made.check_log
    _watch(made, settings)
    return made


def _people(settings: Settings, access: TokenStore) -> OidcUsers | None:
    if not settings.oidc_issuer:
        return None
    try:
        from auditsvc.adapters.oidc import OidcIssuer
    except ImportError as error:
        raise Unavailable("AUDITSVC_OIDC_ISSUER needs a package: pip install 'auditsvc[oidc]'") from error
    issuer = OidcIssuer(
        settings.oidc_issuer,
        settings.oidc_audience,
        settings.oidc_client_secret,
        settings.oidc_name_claim,
        settings.oidc_groups_claim,
    )
    return OidcUsers(issuer, parse_role_grants(settings.oidc_roles, settings.projects), access.bind)


def _can_trace(settings: Settings) -> bool:
    if settings.traces and find_spec("opentelemetry.exporter") is None:
        raise Unavailable("OTEL_EXPORTER_OTLP_ENDPOINT needs a package: pip install 'auditsvc[otel]'")
    return settings.traces


def _watch(site: ProjectState, settings: Settings) -> None:
    """Add the project's periodic tasks; ``run`` starts them."""
    scoped = settings.for_project(site.project)
    if settings.workers:
        command = [sys.executable, "-m", "auditsvc", "worker", "--store", str(settings.store)]
        command += ["--project", site.project, PARENT, str(os.getpid())]
        workers = WorkerProcesses(site.jobs, command, settings.workers, sqlite_file(scoped.jobs_db))
        site.rounds["working"] = supervise_workers(workers)
    if settings.unused_days and not settings.blobs_url:
        clean = partial(remove_unused_blobs, site.ctx, settings.unused_days)
        site.rounds["unused-files"] = PeriodicTask("unused-files", clean, DAY_S)
    site.rounds["log-check"] = PeriodicTask("log-check", site.check_log, LOG_CHECK_S)
    queue = partial(_queue_monitoring, site)
    site.rounds["monitoring"] = PeriodicTask("monitoring", queue, MONITORING_S)
    dispatcher = WebhookDispatcher(site.ledger, site.webhooks, site.clock, site.sender.post)
    site.rounds["webhooks"] = PeriodicTask("webhooks", dispatcher.run_once, DISPATCH_S)
    if settings.registry_poll_s:
        watch = RegistryWatcher(site, sqlite_file(scoped.mlflow_store))
        site.rounds["watching"] = PeriodicTask("watching", watch.round, settings.registry_poll_s)


def _queue_monitoring(site: ProjectState) -> None:
    """Queue the runs that are due, and report how watched releases are; one service more queues none twice."""
    if queue_due(site.ledger, site.jobs, site.clock.now()):
        site.trigger("working")
    site.metrics.watched(site.project or "main", site.ledger, site.clock.now())


def _hosts(host: str, further: Iterable[str]) -> frozenset[str]:
    """On loopback its own names only; else this machine's names and addresses; and always the configured ones."""
    named = {name.lower() for name in further} - {""}
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


FIRST_TOKEN_DAYS = 30
"""Validity of the first admin token: long enough to create the others."""

GRACE_S = 20
"""How long requests that are being answered may take at the end, in seconds."""


def run(settings: Settings, host: str, port: int, *, new_admin_token: bool = False, admin: str = "admin") -> None:
    """Serve until a signal; then finish the requests in progress, and close.

    Raises:
        Unavailable: the store can't be opened, the address can't be bound, or a plug-in can't be loaded.
    """
    load_plugins()
    logging_config(settings.log_format)
    logging.captureWarnings(True)
    listening = _bound(host, port)
    site = open_site(settings, host)
    try:
        _welcome(site, host, listening.getsockname()[1], new_admin_token=new_admin_token, admin=admin)
        config = uvicorn.Config(
            create_app(site),
            log_config=logging_config(settings.log_format),
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE_S,
            **server_options(),
        )
        for one in (site, *(site.of(name) for name in site.others)):
            for rounds in one.rounds.values():
                rounds.start()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _stop)
        uvicorn.Server(config).run(sockets=[listening])
    finally:
        listening.close()
        site.close()


def _stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature of a handler
    """The end of a graceful stop: uvicorn handles the signal first, and raises it again when it has finished."""
    raise SystemExit(0)


def _bound(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise Unavailable(f"can't listen on {host} port {port}: {error.strerror or error}; try --port") from error


def _welcome(site: ProjectState, host: str, port: int, *, new_admin_token: bool, admin: str) -> None:
    """Print the addresses, and the new admin token, which is not shown again."""
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    lines = [f"auditsvc {__version__} serves {site.folder}", f"  pages   {address}/", f"  API     {address}/docs"]
    if site.local:
        lines.append("  readers on this machine need no token; everything else does")
    if new_admin_token or not site.access.tokens():
        token = first_token(site, admin)
        lines.append(f"  admin token, shown only once, valid for {FIRST_TOKEN_DAYS} days:\n    {token}")
    print("\n".join(lines), file=sys.stderr, flush=True)


def first_token(site: ProjectState, name: str = "admin") -> str:
    """An admin token of the operator, with its event in the log."""
    secret, token = site.access.issue(name, "admin", FIRST_TOKEN_DAYS)
    site.log_event("token.issued", "auditsvc", token=token.id, name=token.name, role=token.role)
    return secret
