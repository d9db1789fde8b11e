"""A service on fakes, and clients of every role."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import uvicorn
from starlette.testclient import TestClient

from auditsvc.ports import Context
from auditsvc.web import create_app
from auditsvc.web.auth.token_store import TokenStore
from auditsvc.web.connection_limits import server_options
from auditsvc.web.gate_cache import GateCache
from auditsvc.web.state import ProjectState
from tests.fakes import FixedClock, MemoryBlobs, MemoryKeys, MemoryLedger, MemoryRegistry, QuietProgress
from tests.fakes.jobs import MemoryJobs
from tests.web import sample

LOOPBACK = ("127.0.0.1", 50000)
Clients = Callable[..., TestClient]


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
def remembered(tmp_path: Path) -> str:
    """The database of what the service itself remembers; ``databases`` has it twice."""
    return f"sqlite:///{tmp_path}/access.db"


@pytest.fixture
def site(tmp_path: Path, clock: FixedClock, remembered: str) -> Iterator[ProjectState]:
    ledger, keys = MemoryLedger(clock), MemoryKeys()
    sample.fill(ledger)
    ctx = Context(
        ledger=ledger,
        log=ledger,
        blobs=MemoryBlobs(),
        registry=MemoryRegistry(),
        datasets=None,  # type: ignore[arg-type]
        keys=keys,
        clock=clock,
        progress=QuietProgress(),
        folder=tmp_path,
    )
    made = ProjectState(
        access=TokenStore(remembered, clock),
        answers=GateCache(ledger, None),
        ctx=ctx,
        jobs=MemoryJobs(),
        local=True,
        hosts=frozenset({"127.0.0.1", "localhost"}),
    )
    yield made
    made.close()


@pytest.fixture
def url(site: ProjectState) -> Iterator[str]:
    """The address of the service, served on a port of this machine."""
    config = uvicorn.Config(create_app(site), host="127.0.0.1", port=0, log_level="error", **server_options())
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(10)


@pytest.fixture
def clients(site: ProjectState) -> Clients:
    """A client with a token of this role; without a role one without a token, on this machine."""
    app = create_app(site)

    def made(role: str | None = None, name: str = "dan", client: tuple[str, int] = LOOPBACK) -> TestClient:
        headers = {"authorization": f"Bearer {site.access.issue(name, role, 1)[0]}"} if role else {}
        options = {"client": client, "raise_server_exceptions": False, "follow_redirects": False}
        return TestClient(app, "http://127.0.0.1", headers=headers, **options)  # type: ignore[arg-type]

    return made


@pytest.fixture
def reader(clients: Clients) -> TestClient:
    return clients()
