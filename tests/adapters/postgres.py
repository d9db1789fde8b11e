"""A PostgreSQL server of the test's own: a fresh cluster in a temporary folder, on a free loopback port."""

from __future__ import annotations

import atexit
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import uuid
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

_ACCOUNT = "postgres"


def new_database() -> str:
    """The address of a new, empty database; skips the test, with the reason, where there is no PostgreSQL."""
    port = _server()
    name = f"t{uuid.uuid4().hex}"
    subprocess.run([_tool("createdb"), *_at(port), name], check=True, capture_output=True)
    return f"postgresql+psycopg://{_ACCOUNT}@127.0.0.1:{port}/{name}"


@cache
def _server() -> int:
    """Started once for the test run, ended with it; returns the port."""
    if find_spec("psycopg") is None:
        pytest.skip("no driver: pip install 'psycopg[binary]'")
    if os.geteuid() == 0 and _ACCOUNT not in {user.pw_name for user in pwd.getpwall()}:
        pytest.skip(f"PostgreSQL refuses root, and there is no user {_ACCOUNT} to run it as")
    folder = Path(tempfile.mkdtemp(prefix="auditsvc-postgres-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    if os.geteuid() == 0:
        shutil.chown(folder, _ACCOUNT)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    data = folder / "data"
    _run("initdb", "-D", data, "-U", _ACCOUNT, "-A", "trust", "-E", "UTF8", "--no-sync")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
    _run("pg_ctl", "-D", data, "-w", "-l", folder / "log", "-o", options, "start")
    atexit.register(_run, "pg_ctl", "-D", data, "-m", "immediate", "stop")
    return port


def _run(tool: str, *arguments: object) -> None:
    user = {"user": _ACCOUNT, "group": _ACCOUNT, "extra_groups": []} if os.geteuid() == 0 else {}
    subprocess.run([_tool(tool), *map(str, arguments)], check=True, stdout=subprocess.DEVNULL, cwd="/", **user)


def _tool(name: str) -> str:
    newest_first = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True)
    found = shutil.which(name) or next(map(str, newest_first), None)
    if found is None:
        pytest.skip(f"no {name}: install PostgreSQL")
    return found


def _at(port: int) -> list[str]:
    return ["-h", "127.0.0.1", "-p", str(port), "-U", _ACCOUNT]
