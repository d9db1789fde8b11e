"""A Ray cluster of the test's own: one node on loopback that wants a token."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

TOKEN = "a-token-of-at-least-sixteen-letters"
ENTRANCE = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}


@contextmanager
def ray_cluster(environment: dict[str, str], cores: int = 2) -> Iterator[str]:
    """The head's address; its tasks see this environment.  Skips the test, with the reason, where there is no Ray."""
    if find_spec("ray") is None:
        pytest.skip("no Ray: pip install 'auditsvc[ray]'")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    address = f"127.0.0.1:{port}"
    quiet = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DISABLE_IMPORT_WARNING": "1"}
    options = ["--head", "--block", "--node-ip-address=127.0.0.1", f"--port={port}", f"--num-cpus={cores}"]
    command = [str(Path(sys.executable).parent / "ray"), "start", *options, "--include-dashboard=false"]
    process = subprocess.Popen(
        command,
        env={**os.environ, **environment, **ENTRANCE, **quiet},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        _wait_for(port, process)
        yield address
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        assert process.poll() is None, "ray start ended"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    raise AssertionError("Ray did not start")
