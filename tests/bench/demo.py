"""How long the demo takes, what it needs, and whether it survives being killed.

``python -m tests.bench.demo [--kills N] [--case faces|digits]`` prints one JSON line::

    wall_s         the whole demo in an empty store, seconds
    peak_mb        its largest resident memory, MiB
    wheel_mb       the built wheel, MB
    verify_cold_s  `auditsvc verify` on the release, whole process, median of 7
    gate_cold_s    `auditsvc gate`, likewise
    import_cold_s  `python -c "import auditsvc.records"`, likewise
    killed         demos that were killed (SIGKILL) at a random moment, up to five times in one store
    resumed_same   how many of those were in stores that ended, run again, with what an unharmed run ends with

"The same" is: candidates and evidence readings, decisions, released files, versions in the registry (none twice),
the alias, and nothing half-written left in the store.  All runs share one set of keys, because the mark is keyed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CLI = [sys.executable, "-m", "auditsvc"]
ONE_CANDIDATE = """
import dataclasses
from auditsvc.cli import main
from auditsvc.demo.case_data import CASES
CASES |= {name: dataclasses.replace(case, recipes=case.recipes[:1]) for name, case in CASES.items()}
main()
"""
SHORT = [sys.executable, "-c", ONE_CANDIDATE]
"""The command line with cases of one candidate: everything that can be killed, in half of the time."""


def run_demo(store: Path, case: str, cli: list[str] = CLI) -> float:
    """Run the demo to its end; seconds."""
    began = time.monotonic()
    subprocess.run(
        [*cli, "demo", "--case", case, "--store", store],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return time.monotonic() - began


def kill_demo(store: Path, case: str, after: float, cli: list[str] = CLI) -> bool:
    """Start the demo and kill its whole process group after so many seconds; whether it was still running."""
    child = subprocess.Popen(
        [*cli, "demo", "--case", case, "--store", store],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        child.wait(after)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        return True
    return False


def outcome(store: Path) -> dict[str, object]:
    """What a finished demo leaves, without the times in it and what measures times."""
    ledger = sqlite3.connect(f"file:{store / 'ledger.db'}?mode=ro", uri=True)
    records = [json.loads(body) for (body,) in ledger.execute("SELECT body FROM record ORDER BY position")
               if b"latency_ratio" not in (body if isinstance(body, bytes) else body.encode())]  # fmt: skip
    found: dict[str, list[str]] = {}
    for record in records:
        found.setdefault(record["kind"], []).append(json.dumps(timeless(record), sort_keys=True))
    registry = sqlite3.connect(f"file:{store / 'mlflow.db'}?mode=ro", uri=True)
    return {
        "records": {kind: sorted(set(lines)) for kind, lines in found.items()},
        "doubled": {kind: len(lines) - len(set(lines)) for kind, lines in found.items()},
        "versions": sorted(registry.execute("SELECT name, version FROM model_versions").fetchall()),
        "aliases": sorted(registry.execute("SELECT name, alias, version FROM registered_model_aliases").fetchall()),
        "released": sorted(str(path.relative_to(store)) for path in (store / "releases").rglob("*") if path.is_file()),
        "partial": sorted(str(path) for path in store.rglob("*.partial")),
    }


TIMED = {"at", "started", "finished", "decided_at", "as_of"}
BOUND = {
    "evidence",
    "decision",
    "approvals",
    "attestations",
    "environment",
    "comment",
    "because",
    "original",
    "queries",
    "proposal",
    "terms",
}
"""Digests of what carries a time or an encryption's nonce inside, so that two unharmed runs differ in them too."""


def timeless(value: object) -> object:
    """A record without its times and without the digests that depend on them."""
    if isinstance(value, dict):
        return {key: timeless(item) for key, item in value.items() if key not in TIMED | BOUND}
    return [timeless(item) for item in value] if isinstance(value, list) else value


def cold(command: list[object], codes: tuple[int, ...] = (0,)) -> float:
    """The median wall time of seven fresh processes, seconds."""
    times = []
    for _ in range(7):
        began = time.monotonic()
        done = subprocess.run(command, capture_output=True)
        times.append(time.monotonic() - began)
        if done.returncode not in codes:
            raise SystemExit(f"{command} ended with {done.returncode}: {done.stderr.decode()[-500:]}")
    return statistics.median(times)


def wheel_size(folder: Path) -> float:
    """The size of the wheel, MB."""
    project = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-m", "pip", "wheel", "--no-deps", "-q", "-w", folder, project], check=True)
    return next(folder.glob("auditsvc-*.whl")).stat().st_size / 1e6


KILLS_PER_STORE = 5


def survive(reference: Path, keys: Path, case: str, kills: int, wall: float, scratch: Path) -> tuple[int, int]:
    """Kill so many demos, up to five in a row in one store, and then let it end.

    How many were killed, and how many of those in stores that ended like the reference.  A demo that ends before its
    moment counts as no kill; the next one is in a new store.
    """
    wanted, chance, killed, same = outcome(reference), random.Random(20261122), 0, 0
    while killed < kills:
        store = scratch / f"killed-{killed}"
        shutil.copytree(keys, store / "keys")
        here = 0
        while here < min(KILLS_PER_STORE, kills - killed) and kill_demo(store, case, chance.uniform(0.05, 0.6) * wall):
            here += 1
        run_demo(store, case)
        found = outcome(store)
        killed, same = killed + here, same + here * (found == wanted)
        if found != wanted:
            differing = [key for key in wanted if found[key] != wanted[key]]
            print(f"a store that was killed {here} times differs in {differing}", file=sys.stderr)
        shutil.rmtree(store)
    return killed, same


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--case", default="faces", help="what is timed")
    parser.add_argument("--killed-case", default="digits", help="what is killed")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="auditsvc-bench-") as name:
        scratch = Path(name)
        store = scratch / "store"
        figures: dict[str, object] = {"wall_s": round(run_demo(store, chosen.case), 1)}
        figures["peak_mb"] = round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)
        figures["wheel_mb"] = round(wheel_size(scratch), 2)
        release = next((store / "releases").glob("*/*"))
        verify = [*CLI, "verify", release, "--key", store / "keys" / "release.pub"]
        figures["verify_cold_s"] = round(cold(verify), 3)
        figures["gate_cold_s"] = round(cold([*CLI, "gate", release.parent.name, release.name, "--store", store]), 3)
        figures["import_cold_s"] = round(cold([sys.executable, "-c", "import auditsvc.records"]), 3)
        reference = scratch / "reference"
        shutil.copytree(store / "keys", reference / "keys")
        wall = run_demo(reference, chosen.killed_case)
        figures["killed"], figures["resumed_same"] = survive(
            reference, store / "keys", chosen.killed_case, chosen.kills, wall, scratch
        )
        figures["case"], figures["killed_case"] = chosen.case, chosen.killed_case
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
