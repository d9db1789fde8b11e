"""Speed and strictness of signatures and log: ``python -m tests.bench.provenance`` prints a table and one JSON line.

``sign_ratio_model_signing`` and ``verify_ratio_model_signing`` are our MB per CPU second over those of
``model-signing`` 1.1.1, ``rate_vs_openssl`` ours over ``openssl dgst -sha256``; each is the lowest of three layouts
(1, 10 and 1000 files, 2 GiB in all).  ``parallel_gain`` is the wall time of signing 1000 files on one core over that
on all cores.  ``cold_start_ratio`` is the wall time of ``auditsvc verify`` of a small release over that of
``model_signing verify key``, ``cold_start_cpu_ratio`` the same in CPU seconds, which a busy machine hardly changes.
``append_ms_*`` and ``inclusion_ms_*`` are medians of one append (to the disk) and one
proof with 10^3 and 10^5 leaves in the ledger, ``append_disk_ms`` an append of one page to a file on the same disk.
``negative_refused`` counts the negative cases in which each variant was refused with exactly its codes; those that
could not run here are in ``negative_skipped``.  A key is left out where its tool is not here.

With ``--fuzz SECONDS`` the parsers are given random and mutated input for so long; ``fuzz_inputs`` counts it.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from auditsvc.adapters.file_keys import FileKeys
from auditsvc.adapters.ledger import SqlLedger
from auditsvc.records import Recipe
from tests.provenance import fuzzing, peers
from tests.provenance.cases import all_cases
from tests.provenance.forge import Forge

LAYOUTS = (1, 10, 1000)
REPEATS = 3

_OURS = """
import datetime, sys, time
from pathlib import Path
from auditsvc.adapters.file_keys import FileKeys
from auditsvc.provenance import TrustRoot, sign_folder, verify_folder
verb, folder, signature, keys = sys.argv[1], *map(Path, sys.argv[2:])
signer = FileKeys(keys).signer("release")
wall, cpu = time.perf_counter(), time.process_time()
if verb == "sign":
    signature.write_bytes(sign_folder(folder, signer, "model"))
else:
    now = datetime.datetime.now(datetime.timezone.utc)
    found = verify_folder(folder, signature, trust=TrustRoot.from_pem(signer.public_pem), at=now)
    assert found.verdict == "VALID", found
print(time.process_time() - cpu, time.perf_counter() - wall)
"""
_THEIRS = """
import sys, time
from model_signing import signing, verifying
verb, folder, signature, keys = sys.argv[1:]
wall, cpu = time.perf_counter(), time.process_time()
if verb == "sign":
    signing.Config().use_elliptic_key_signer(private_key=keys + "/release.key").sign(folder, signature)
else:
    verifying.Config().use_elliptic_key_verifier(public_key=keys + "/release.pub").verify(folder, signature)
print(time.process_time() - cpu, time.perf_counter() - wall)
"""


class Stopwatch:
    """CPU and wall seconds of commands, medians of repeated runs."""

    def __init__(self) -> None:
        self.seconds: dict[tuple[str, int], list[tuple[float, float]]] = {}

    def note(self, what: str, files: int, cpu: float, wall: float) -> None:
        self.seconds.setdefault((what, files), []).append((cpu, wall))

    def cpu(self, what: str, files: int) -> float:
        return statistics.median(cpu for cpu, _ in self.seconds[what, files])

    def wall(self, what: str, files: int) -> float:
        return min(wall for _, wall in self.seconds[what, files])


def _checked(*command: str | Path, **env: str) -> str:
    made = peers.run(*command, **env)
    if made.returncode:
        raise SystemExit(f"{command[0]} failed: {made.stderr.decode()[-500:]}")
    return made.stdout.decode()


def _model(folder: Path, files: int, total: int) -> Path:
    folder.mkdir()
    block = os.urandom(1 << 20)
    for number in range(files):
        with (folder / f"part-{number:04d}.safetensors").open("wb") as file:
            left = total // files
            while left:
                left -= file.write(number.to_bytes(4, "big") + block[4 : min(left, 1 << 20)])
    return folder


def _openssl(folder: Path) -> tuple[float, float]:
    before, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(["openssl", "dgst", "-sha256", *sorted(folder.iterdir())], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, time.perf_counter() - wall


def speed(place: Path, total: int) -> dict[str, float]:
    """Signing and verifying beside the peers, interleaved so that a busy machine is busy for all."""
    watch, keys = Stopwatch(), place / "keys"
    FileKeys(keys).signer("release")
    theirs = peers.provided(peers.model_signing)
    python = sys.executable
    for files in LAYOUTS:
        folder = _model(place / f"model-{files}", files, total)
        one_core = ["taskset", "-c", str(min(os.sched_getaffinity(0)))]
        for _ in range(REPEATS):
            for verb in ("sign", "verify"):
                words = (verb, folder, place / f"ours-{files}.sig", keys)
                watch.note(f"ours {verb}", files, *_two(_checked(python, "-c", _OURS, *words)))
                if theirs:
                    words = (verb, folder, place / f"theirs-{files}.sig", keys)
                    watch.note(f"theirs {verb}", files, *_two(_checked(theirs, "-c", _THEIRS, *words)))
            if shutil.which("openssl"):
                watch.note("openssl", files, *_openssl(folder))
            words = ("sign", folder, place / "one.sig", keys)
            watch.note("ours sign, one core", files, *_two(_checked(*one_core, python, "-c", _OURS, *words)))
        shutil.rmtree(folder)
    _print_rates(watch, total)
    found = {"parallel_gain": watch.wall("ours sign, one core", 1000) / watch.wall("ours sign", 1000)}
    for key, mine, other in (
        ("sign_ratio_model_signing", "ours sign", "theirs sign"),
        ("verify_ratio_model_signing", "ours verify", "theirs verify"),
        ("rate_vs_openssl", "ours sign", "openssl"),
    ):
        if (other, 1) in watch.seconds:
            found[key] = min(watch.cpu(other, files) / watch.cpu(mine, files) for files in LAYOUTS)
    return found


def _two(line: str) -> tuple[float, float]:
    cpu, wall = line.split()[-2:]
    return float(cpu), float(wall)


def _print_rates(watch: Stopwatch, total: int) -> None:
    print(f"{'MB per CPU second (MB per wall second)':40}" + "".join(f"{files:>8} files      " for files in LAYOUTS))
    for what in dict.fromkeys(what for what, _ in watch.seconds):
        cells = [(total / 1e6 / watch.cpu(what, n), total / 1e6 / watch.wall(what, n)) for n in LAYOUTS]
        print(f"{what:40}" + "".join(f"{cpu:8.0f} ({wall:6.0f})   " for cpu, wall in cells))


def cold_start(place: Path) -> dict[str, float]:
    """From the shell's prompt to the verdict on a small release."""
    forge = Forge(place / "small")
    key = forge.folder / "keys" / "release.pub"
    ours = [sys.executable, "-m", "auditsvc", "verify", forge.folder, "--key", key]
    theirs = peers.provided(peers.model_signing)
    commands = [ours]
    if theirs:
        words = ["verify", "key", "--signature", forge.path("oms"), "--public_key", key, forge.release]
        commands.append([theirs, "-m", "model_signing", *words])
    cpu, wall = _shortest(commands)
    found = {"verify_cold_s": wall[0], "verify_cold_cpu_s": cpu[0]}
    if theirs:
        found["cold_start_ratio"] = wall[0] / wall[1]
        found["cold_start_cpu_ratio"] = cpu[0] / cpu[1]
    return found


def _shortest(commands: list[list[Any]]) -> tuple[list[float], list[float]]:
    """The least CPU and wall seconds of each, in turns: what a busy machine adds is never negative."""
    cpu: list[list[float]] = [[] for _ in commands]
    wall: list[list[float]] = [[] for _ in commands]
    for _ in range(9):
        for at, command in enumerate(commands):
            before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
            _checked(*command)
            wall[at].append(time.perf_counter() - start)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu[at].append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return [min(times) for times in cpu], [min(times) for times in wall]


class _Clock:
    def now(self) -> datetime.datetime:
        return datetime.datetime(2026, 11, 22, tzinfo=datetime.UTC)


def log_speed(place: Path) -> dict[str, float]:
    """The log of the ledger on SQLite, with 10^3 and 10^5 leaves in it."""
    ledger = SqlLedger(f"sqlite:///{place / 'ledger.db'}", _Clock())
    found: dict[str, float] = {}
    for name, target in (("1e3", 10**3), ("1e5", 10**5)):
        while (size := ledger.size()) < target:
            recipes = (Recipe(method="fill", targets={}, seed=seed) for seed in range(size, min(size + 1000, target)))
            ledger.append(*recipes, actor="bench")
        found[f"append_ms_{name}"] = _median_ms(lambda at: ledger.append_leaf(os.urandom(600)), 200)
        size = ledger.size()
        found[f"inclusion_ms_{name}"] = _median_ms(lambda at, n=size: ledger.inclusion(at * n // 200, n), 200)
        found[f"consistency_ms_{name}"] = _median_ms(lambda at, n=size: ledger.consistency(at * n // 200, n), 200)
    ledger.close()
    with (place / "page").open("wb", buffering=0) as file:
        found["append_disk_ms"] = _median_ms(lambda at: (file.write(bytes(4096)), os.fsync(file.fileno())), 200)
    return found


def _median_ms(work: Callable[[int], object], times: int) -> float:
    found = []
    for at in range(times):
        start = time.perf_counter()
        work(at)
        found.append((time.perf_counter() - start) * 1e3)
    return statistics.median(found)


def negatives(place: Path) -> dict[str, int]:
    """All negative cases, each variant in a release of its own."""
    numbers: dict[int, list[bool]] = {}
    skipped = set()
    variants = 0
    for at, item in enumerate(all_cases()):
        if item.needs and not shutil.which(item.needs):
            skipped.add(item.title)
            continue
        found = item.run(place / f"case-{at}")
        refused = (found.verdict, {step.code for step in found.reasons}) == (item.verdict, set(item.codes))
        numbers.setdefault(item.number, []).append(refused)
        variants += 1
        shutil.rmtree(place / f"case-{at}")
    return {
        "negative_cases": len(numbers),
        "negative_refused": sum(all(results) for results in numbers.values()),
        "negative_variants": variants,
        "negative_skipped": len(skipped),
    }


@contextlib.contextmanager
def _place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="auditsvc-bench-") as folder:
        yield Path(folder)


def main() -> None:
    """Run everything and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mib", type=int, default=2048, help="size of the model, in MiB (default 2048)")
    parser.add_argument("--fuzz", type=float, default=0, metavar="SECONDS", help="fuzz the parsers for so long")
    options = parser.parse_args()
    found: dict[str, float] = {}
    with _place() as place:
        found |= negatives(place)
        found |= cold_start(place)
        found |= log_speed(place)
        found |= speed(place, options.mib << 20)
    if options.fuzz:
        found["fuzz_inputs"] = fuzzing.fuzz(options.fuzz)
    print(json.dumps({key: round(value, 3) if isinstance(value, float) else value for key, value in found.items()}))


if __name__ == "__main__":
    main()
