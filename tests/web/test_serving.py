"""The running service: a real socket, a real store."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from auditsvc.errors import Unavailable
from auditsvc.settings import Settings
from auditsvc.web.app import run


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def _started(store: Path, port: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "auditsvc", "serve", "--store", str(store), "--port", str(port)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    for _ in range(300):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz").close()
            return process
        except urllib.error.URLError:
            assert process.poll() is None, process.stderr.read() if process.stderr else ""
            time.sleep(0.1)
    process.kill()
    raise AssertionError("it did not start")


def _stopped(process: subprocess.Popen[str]) -> str:
    process.send_signal(signal.SIGTERM)
    return process.communicate(timeout=30)[1]


@pytest.mark.slow
def test_the_first_start_shows_one_admin_token_and_the_second_none(tmp_path: Path) -> None:
    port = _free_port()
    process = _started(tmp_path, port)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz") as answer:
        assert json.load(answer)["status"] == "alive"
    first = _stopped(process)
    assert process.returncode == 0
    assert len(re.findall(r"auditsvc_[\w-]{43}", first)) == 1
    second = _stopped(_started(tmp_path, port))
    assert not re.findall(r"auditsvc_[\w-]{43}", second)


def test_a_port_that_is_taken_is_said_so(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(Unavailable, match="try --port"):
        run(Settings(store=tmp_path), "127.0.0.1", taken.getsockname()[1])
