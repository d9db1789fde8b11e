"""Clean processes by fork: torch is imported once in an isolated process, which forks a child for each job.

``clean_process`` starts this script by path (``python -I``) with a socket as its argument, before anything untrusted is
read; the script itself reads requests only.  A request is one JSON object (``root``, ``module``, ``job``, ``folder``,
``environment``) that comes with three descriptors: standard output, standard error, and where the exit code goes.  The
answer is the number of the child, which leads a session of its own.
"""

from __future__ import annotations

import ctypes
import json
import os
import runpy
import select
import signal
import socket
import sys
from contextlib import suppress
from typing import Any

import safetensors.torch  # noqa: F401 - imported for the children
import torch  # noqa: F401

LARGEST = 2**20


def serve(requests: socket.socket) -> dict[str, Any] | None:
    """Fork for every request until the socket is closed (None); in a child: its request."""
    awake, wake = os.pipe()
    for end in (awake, wake):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    codes: dict[int, int] = {}
    while True:
        ready, _, _ = select.select([requests.fileno(), awake], [], [])
        if awake in ready:
            os.read(awake, 4096)
            _report(codes)
        if requests.fileno() not in ready:
            continue
        data, descriptors, _, _ = socket.recv_fds(requests, LARGEST, 3)
        if not data:
            return None
        child = os.fork()
        if child == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for end in (awake, wake, descriptors[2], *codes.values()):
                os.close(end)
            end_with_parent()
            _become(requests, descriptors[:2])
            request: dict[str, Any] = json.loads(data)
            return request
        for end in descriptors[:2]:
            os.close(end)
        codes[child] = descriptors[2]


def end_with_parent() -> None:
    """A child ends when this server ends, and that with its worker (Linux, prctl(2))."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _report(codes: dict[int, int]) -> None:
    """Send the exit code of every child that has ended."""
    while codes:
        child, status = os.waitpid(-1, os.WNOHANG)
        if child == 0:
            return
        end = codes.pop(child)
        os.write(end, str(os.waitstatus_to_exitcode(status)).encode())
        os.close(end)


def _become(requests: socket.socket, streams: list[int]) -> None:
    """A session and standard streams of its own, without the server's file descriptors."""
    os.setsid()
    requests.send(str(os.getpid()).encode())
    requests.close()
    for end, standard in zip((os.open(os.devnull, os.O_RDONLY), *streams), (0, 1, 2), strict=True):
        os.dup2(end, standard)
        os.close(end)


if __name__ == "__main__":
    job = serve(socket.socket(fileno=int(sys.argv[1])))
    if job is not None:
        os.environ.clear()
        os.environ.update(job["environment"])
        os.chdir(job["folder"])
        if job["root"] not in sys.path:
            sys.path.insert(0, job["root"])
        sys.argv[1:] = [job["job"]]
        runpy.run_module(job["module"], run_name="__main__", alter_sys=True)
