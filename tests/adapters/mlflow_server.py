"""An MLflow server of the test's own, on a free loopback port."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def mlflow_server(folder: Path, admin_password: str = "") -> Iterator[str]:
    """The address of a server that keeps everything in this folder; ended, with its workers, on the way out.

    With a password it lets nobody in without a name and one; the first person is ``admin``.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    store = ["--backend-store-uri", f"sqlite:///{folder}/server.db", "--artifacts-destination", str(folder / "served")]
    address = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    if admin_password:
        store += ["--app-name", "basic-auth"]
        quiet |= {
            "MLFLOW_AUTH_CONFIG_PATH": str(_people(folder, admin_password)),
            "MLFLOW_FLASK_SERVER_SECRET_KEY": "x",
        }
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *store, *address],
            stdout=log,
            stderr=log,
            cwd=folder,
            env={**os.environ, **quiet},
            start_new_session=True,
        )
    try:
        _wait(f"http://127.0.0.1:{port}/health", process, folder / "server.log")
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _people(folder: Path, admin_password: str) -> Path:
    """The settings of MLflow's own authentication: nobody may do anything by default."""
    path = folder / "auth.ini"
    lines = ("[mlflow]", "default_permission = NO_PERMISSIONS", f"database_uri = sqlite:///{folder}/people.db",
             "admin_username = admin", f"admin_password = {admin_password}",
             "authorization_function = mlflow.server.auth:authenticate_request_basic_auth")  # fmt: skip
    path.write_text("\n".join(lines) + "\n")
    return path


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + 120
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    raise RuntimeError(f"no MLflow server: {log.read_text()[-2000:]}")
