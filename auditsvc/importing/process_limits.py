"""Limits of a child process that parses untrusted files."""

from __future__ import annotations

import resource

MEMORY, CPU_SECONDS, FILE_SIZE = 16 * 2**30, 600, 8 * 2**30


def confine() -> None:
    """Hard limits on memory, CPU time and file sizes, and no core dumps, before a byte of the file is read."""
    for what, limit in ((resource.RLIMIT_AS, MEMORY), (resource.RLIMIT_CPU, CPU_SECONDS),
                        (resource.RLIMIT_FSIZE, FILE_SIZE), (resource.RLIMIT_CORE, 0)):  # fmt: skip
        hard = resource.getrlimit(what)[1]
        smaller = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(what, (smaller, smaller))
