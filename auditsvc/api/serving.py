"""Serving: open the store, bind the address, tell how to come in, stop gracefully."""

from __future__ import annotations

import logging
import signal
import socket
import sys
from types import FrameType

import uvicorn

from auditsvc import __version__
from auditsvc.adapters.logs import logging_config
from auditsvc.api import create_app
from auditsvc.api.opening import open_site
from auditsvc.api.site import Site
from auditsvc.errors import Unavailable
from auditsvc.settings import Settings

FIRST_TOKEN_DAYS = 30
"""How long the first admin token is good: long enough to hand out others."""

GRACE_S = 20
"""How long requests that are being answered may take at the end, in seconds."""


def run(settings: Settings, host: str, port: int, *, new_admin_token: bool = False) -> None:
    """Serve until a signal comes; then finish what was begun, and close.

    Raises:
        Unavailable: the store can't be opened, or the address can't be bound.
    """
    logging_config(settings.log_format)
    logging.captureWarnings(True)
    listening = _bound(host, port)
    site = open_site(settings, host)
    try:
        _welcome(site, host, listening.getsockname()[1], new_admin_token=new_admin_token)
        config = uvicorn.Config(
            create_app(site),
            log_config=logging_config(settings.log_format),
            access_log=False,
            server_header=False,
            proxy_headers=False,
            lifespan="off",
            timeout_keep_alive=30,
            timeout_graceful_shutdown=GRACE_S,
            h11_max_incomplete_event_size=32 * 1024,
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
    """uvicorn answers a signal first, in its own time, and then sends it on to here: a good end."""
    raise SystemExit(0)


def _bound(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise Unavailable(f"can't listen on {host} port {port}: {error.strerror or error}; try --port") from error


def _welcome(site: Site, host: str, port: int, *, new_admin_token: bool) -> None:
    """What whoever started it needs to know; a token that is made here is shown here only."""
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    lines = [f"auditsvc {__version__} serves {site.folder}", f"  pages   {address}/", f"  API     {address}/docs"]
    if site.local:
        lines.append("  readers on this machine need no token; everything else does")
    if new_admin_token or not site.access.tokens():
        token = first_token(site)
        lines.append(f"  admin token, shown this once, good for {FIRST_TOKEN_DAYS} days:\n    {token}")
    print("\n".join(lines), file=sys.stderr, flush=True)


def first_token(site: Site) -> str:
    """An admin token, with its event in the log."""
    secret, token = site.access.issue("admin", "admin", FIRST_TOKEN_DAYS)
    site.note("token-issued", "auditsvc", token=token.id, name=token.name, role=token.role)
    return secret
