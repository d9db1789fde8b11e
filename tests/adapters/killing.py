"""A process of one's own, to be killed in the middle of its work."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time

READY = "ready"


def kill_during(script: str, within_s: float, seed: int) -> str:
    """Start the script, wait until it prints ``ready``, kill it at a random moment; returns what else it printed."""
    with subprocess.Popen([sys.executable, "-u", "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == READY
        time.sleep(random.Random(seed).uniform(0, within_s))
        process.send_signal(signal.SIGKILL)
        said = process.stdout.read()
        assert process.wait() == -signal.SIGKILL
    return said
