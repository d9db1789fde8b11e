"""What the benches of background work share: a store with a parent, orders, and workers that can be killed.

Workers are forked from a process that has imported everything once, so that one is back a moment after its death; and
they have a clock that stands still, so that the same work gives the same digests.
"""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import numpy as np

from auditsvc.adapters.jobs.job_store import DbosJobs, JobDatabase
from auditsvc.bootstrap import open_context
from auditsvc.demo import case_data
from auditsvc.demo.parent_models import trained_digits
from auditsvc.ports import Context, KeyRole
from auditsvc.records import CheckSpec, Parent, Policy, PruneRequest, Recipe, Rule
from auditsvc.services.candidates import register_parent
from auditsvc.services.job_handlers import JobContext
from auditsvc.settings import Settings
from tests.fakes import FixedClock

DIGITS = case_data.HERE / "digits"
FACTS = {"model": "digits", "source": "a bench", "licence": "Apache-2.0"}
ROOT = Path(__file__).parents[2]

NURSERY = """
import os, signal, sys
from pathlib import Path
import auditsvc.adapters.jobs.worker, auditsvc.adapters.mlflow_registry
import auditsvc.checks, auditsvc.evaluation
from tests.bench import office
auditsvc.checks.all_checks()
auditsvc.evaluation.code_version()
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
print("ready", flush=True)
for line in sys.stdin:
    store, url, jobs, work = line.strip().split("|")
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        office.serve_jobs(Path(store), url, jobs, int(work))
        os._exit(0)
    print(child, flush=True)
"""


def small_digits(folder: Path, split: str, images: int) -> Path:
    """So many of the demo's digits as a data set of their own."""
    folder.mkdir(parents=True)
    with (DIGITS / "metadata.csv").open() as stream:
        reader = csv.DictReader(stream)
        rows = [(number, row) for number, row in enumerate(reader) if row["split"] == split][:images]
    with np.load(DIGITS / "images.npz") as kept:
        np.savez_compressed(folder / "images.npz", images=kept["images"][[number for number, _ in rows]])
    with (folder / "metadata.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0][1]))
        writer.writeheader()
        writer.writerows(row for _, row in rows)
    (folder / "dataset.yaml").write_text(
        f"name: digits-{split}-{images}\ntask: classification\ntarget: label\n"
        'classes: ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]\nslices: [source]\n'
        "source: MNIST with QMNIST's writers\nlicence: CC BY-SA 3.0\n"
    )
    return folder


def a_policy(**checks: dict[str, object]) -> Policy:
    """A policy that approves almost anything, with these checks."""
    return Policy(
        policy="bench", version=1, why="to have something to do", seed=7, approvals=2,
        checks={name: CheckSpec(version=1, parameters=given) for name, given in checks.items()},
        rules=(Rule(rule="floor", reading="accuracy/score.clean", at_least=0.05, why="so that it is released"),),
    )  # fmt: skip


@dataclass(frozen=True)
class Office:
    """One installation: its store, its databases, and what was asked of it."""

    settings: Settings
    ctx: Context
    jobs: DbosJobs
    store: JobDatabase
    parent: Parent
    shard_work: int

    @property
    def room(self) -> JobContext:
        """Where jobs are done."""
        return JobContext(self.ctx, self.settings.datasets_dir, self.shard_work)

    def prune(self, number: int) -> PruneRequest:
        """An order for a candidate of its own."""
        recipe = Recipe(method="magnitude-global", targets={"sparsity": round(0.05 + 0.01 * number, 2)}, seed=number)
        return PruneRequest(parent=self.parent.digest, recipe=recipe, calibration="calibration")

    def wait(self, ids: list[str], seconds: float) -> list[str]:
        """Wait for jobs to end; those that did not."""
        until = time.monotonic() + seconds
        left = ids
        while left and time.monotonic() < until:
            left = [job for job in left if self.jobs.get(job).state in ("queued", "running")]
            time.sleep(0.1)
        return left


def opened(
    folder: Path, url: str, *, images: int, policies: Sequence[Policy], shard_work: int, keys: Path | None = None
) -> Office:
    """An installation in this folder; ``url`` is the ledger's and the jobs' database, empty for SQLite."""
    settings = Settings(store=folder, ledger_url=url, jobs_url=url, threads=1, job_max_crashes=10**6)
    if keys:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copytree(keys, folder / "keys")
    ctx = replace(open_context(settings, create=True), clock=FixedClock())
    ctx.keys.watermark_secret()
    for role in get_args(KeyRole):
        ctx.keys.signer(role)
    for split, name, many in (("audit", "audited", images), ("train", "calibration", 200)):
        if not (settings.datasets_dir / name).exists():
            small_digits(settings.datasets_dir / name, split, many)
    dense = trained_digits(folder.parent, DIGITS / "train.yaml")
    parent, _ = register_parent(ctx, dense, FACTS)
    ctx.ledger.append(*policies, actor="bench")
    store = JobDatabase(settings.jobs_db)
    return Office(settings, ctx, DbosJobs(store), store, parent, shard_work)


def serve_jobs(folder: Path, url: str, jobs: str, shard_work: int) -> None:
    """A worker process on this store, until it is killed."""
    from auditsvc.adapters.jobs.worker import Worker

    settings = Settings(store=folder, ledger_url=url, jobs_url=jobs, threads=1, job_max_crashes=10**6)
    ctx = replace(open_context(settings, create=True), clock=FixedClock())
    room = JobContext(ctx, settings.datasets_dir, shard_work)
    Worker(JobDatabase(settings.jobs_db), room, folder / "workers", settings.job_max_crashes).run()


class Nursery:
    """Gives birth to workers of one installation."""

    def __init__(self, office: Office) -> None:
        settings = office.settings
        urls = f"{settings.ledger_url}|{settings.jobs_url}"
        self._line = f"{settings.store}|{urls}|{office.shard_work}\n"
        self._process = subprocess.Popen(
            [sys.executable, "-c", NURSERY],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        self._said()

    def worker(self) -> int:
        """A new worker's process id."""
        stdin = self._process.stdin
        if stdin is None:
            raise RuntimeError("the nursery has no ears")
        stdin.write(self._line)
        stdin.flush()
        return int(self._said())

    def _said(self) -> str:
        stdout = self._process.stdout
        line = stdout.readline() if stdout else ""
        if not line:
            raise RuntimeError("the nursery is gone")
        return line.strip()

    def close(self) -> None:
        """No more workers."""
        self._process.kill()
        self._process.wait()


@contextmanager
def workers(office: Office, many: int) -> Iterator[tuple[Nursery, list[int]]]:
    """So many workers at work; what is left of them at the end is killed."""
    nursery = Nursery(office)
    alive = [nursery.worker() for _ in range(many)]
    try:
        yield nursery, alive
    finally:
        for pid in alive:
            kill(pid)
        nursery.close()


def kill(pid: int) -> None:
    """SIGKILL, and nothing before it; one that is gone already was killed before."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
