"""How the package is built, and how fast its commands start: one line of JSON.

``files_to_add`` counts the files of the package that each worked example of CONTRIBUTING.md adds or changes; each
example is applied to a temporary copy and run there before it counts.  Cold starts are medians of fresh processes.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

from tests.adapters.test_old_store import ARCHIVE
from tests.architecture import structure
from tests.contributing.examples import examples, in_copy
from tests.fakes.clock import FixedClock

GOLDEN = Path(__file__).parents[1] / "provenance" / "golden" / "0.1.0"
RUNS = 7


def _median_s(*arguments: object, codes: tuple[int, ...]) -> float:
    """The median wall time of a fresh process, after one that fills the caches of the disk and of byte code."""
    taken = []
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    for _ in range(RUNS + 1):
        started = time.perf_counter()
        done = subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True, env=environment)
        taken.append(time.perf_counter() - started)
        if done.returncode not in codes:
            raise SystemExit(f"{arguments} ended with {done.returncode}: {done.stderr[-500:]}")
    return round(statistics.median(taken[1:]), 3)


def _cold_gate_s(store: Path) -> float:
    """A question about a version that 0.1 released: without terms it is inconclusive, with code 3."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(store, filter="data")
    (store / "checkpoint").unlink()  # of a log whose private key is not in the archive
    return _median_s("-m", "auditsvc", "gate", "digits", "3", "--store", store, codes=(3,))


def _cold_client_s(store: Path) -> float:
    """One gate question by the client to a running service; the version is unknown there, which the client reports."""
    service = subprocess.Popen(
        [sys.executable, "-m", "auditsvc", "serve", "--store", store, "--port", "8697"],
        env=os.environ | {"AUDITSVC_WORKERS": "0"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    script = (
        "from auditsvc.client import Client\n"
        "from auditsvc.errors import AuditError\n"
        "try:\n    Client('http://127.0.0.1:8697').gate('net', '1')\n"
        "except AuditError as error:\n    print(error.code)\n    assert error.code == 'not-found', error.code\n"
    )
    try:
        for _ in range(300):
            time.sleep(0.2)
            ready = "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8697/healthz')"
            if subprocess.run([sys.executable, "-c", ready], capture_output=True).returncode == 0:
                break
        return _median_s("-c", script, codes=(0,))
    finally:
        service.terminate()
        service.wait(30)


def main() -> None:
    """Measure everything and print it."""
    sizes = [len(path.read_text().splitlines()) for path in structure.sources().values()]
    added = {name: len(in_copy(example)) for name, example in examples().items()}
    with tempfile.TemporaryDirectory() as scratch:
        from auditsvc.adapters.ledger import SqlLedger

        store = Path(scratch) / "store"
        store.mkdir()
        SqlLedger(f"sqlite:///{store / 'ledger.db'}", FixedClock()).size()
        cold = {
            "cold_gate_s": _cold_gate_s(Path(scratch) / "released"),
            "cold_verify_s": _median_s(
                "-m", "auditsvc", "verify", GOLDEN, "--key", GOLDEN / "release.pub", codes=(0, 3)
            ),
            "cold_client_s": _cold_client_s(store),
        }
    figures = {
        "files": len(sizes),
        "lines": sum(sizes),
        "cycles": len(structure.cycles()),
        "longest_function": max(structure.functions().values()),
        "files_to_add": added,
        "single_importer_files": len(structure.single_importers()),
        "duplicate_basenames": len(structure.duplicate_basenames()),
        "composition_roots": len(set(structure.composition_roots())),
    }
    print(json.dumps(figures | cold))


if __name__ == "__main__":
    main()
