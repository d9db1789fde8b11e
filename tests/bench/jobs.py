"""What durability costs, what a second worker brings, and how much memory a large data set takes.

``python -m tests.bench.jobs [--images N] [--runs R]`` prints one JSON line::

    plain_s              an audit as a plain function, seconds: the median over the runs, each of another candidate
    durable_s            the same as a job with one worker, from asking to the end
    durability_overhead  durable_s over plain_s, less 1
    two_workers_s        with two workers
    speedup_2_workers    durable_s over two_workers_s
    shards               of one audit
    peak_mb              the largest resident memory of a worker, MiB

One torch thread each, so that two workers need two cores; with fewer the speed-up says nothing, and ``cores_used``
(CPU seconds over wall seconds of the whole machine, while two worked) shows it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from auditsvc.records import AuditRequest, Candidate
from auditsvc.services.job_handlers import run_job
from auditsvc.services.measurement import Sharding, plan_shards
from tests.bench.office import Office, a_policy, opened, workers
from tests.fakes.jobs import MemoryRunner

POLICY = a_policy(
    accuracy={},
    prediction_churn={},
    occlusion={},
    lighting={},
    corruption={"corruptions": ["gaussian_noise", "defocus_blur", "fog", "jpeg_compression"], "severities": [1, 3]},
)
JOB = "000000000001-0000000000000000"


@dataclass(frozen=True)
class Timed:
    """One way of doing it."""

    seconds: float
    peak_mb: float
    cores_used: float


def plain(office: Office, audits: list[AuditRequest]) -> Timed:
    """In this process, in one piece."""
    room = office.room
    took = []
    for audit in audits:
        began = time.monotonic()
        run_job(JOB, audit, "ann", room, MemoryRunner(room))
        took.append(time.monotonic() - began)
    return Timed(statistics.median(took), 0.0, 0.0)


def durable(office: Office, audits: list[AuditRequest], many: int) -> Timed:
    """As jobs, one after the other, with so many workers; a small one goes before, so that all is imported."""
    took, peak = [], 0.0
    with workers(office, many) as (_, alive):
        office.wait([office.jobs.submit(audits[0], "ann").id], 600)
        began_cpu, began_all = _busy(), time.monotonic()
        for audit in audits[1:]:
            began = time.monotonic()
            left = office.wait([office.jobs.submit(audit, "ann").id], 600)
            if left:
                raise RuntimeError(f"the jobs {left} did not end")
            took.append(time.monotonic() - began)
        cores = (_busy() - began_cpu) / (time.monotonic() - began_all)
        peak = max(_peak_mb(pid) for pid in alive)
    return Timed(statistics.median(took), peak, cores)


def _busy() -> float:
    """Seconds that all cores together have worked since the start of the machine."""
    fields = Path("/proc/stat").read_text().split("\n")[0].split()[1:]
    user, nice, system = (int(field) for field in fields[:3])
    return (user + nice + system) / 100


def _peak_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().split("\n")
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def audits_of(office: Office, numbers: range) -> list[AuditRequest]:
    """Orders for candidates that nobody has audited."""
    room = office.room
    for number in numbers:
        run_job(JOB, office.prune(number), "sue", room, MemoryRunner(room))
    found = list(office.ctx.ledger.all(Candidate))[-len(numbers) :]
    return [AuditRequest(candidate=one.digest, policy=POLICY.digest, data="audited") for one in found]


def planned(office: Office, audit: AuditRequest) -> int:
    """The shards of one audit."""
    dataset, candidate = office.room.dataset(audit.data), office.ctx.ledger.get(Candidate, audit.candidate)
    return len(plan_shards(office.ctx, candidate, POLICY, dataset, Sharding(JOB, audit.data, office.shard_work)))


def main() -> None:
    """Time the three ways and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="auditsvc-jobs-") as folder:
        office = opened(
            Path(folder) / "store", "", images=given.images, policies=(POLICY,), shard_work=4 * given.images
        )
        each = given.runs + 1
        orders = audits_of(office, range(3 * each))
        shards = planned(office, orders[0])
        alone = plain(office, orders[:each])
        one = durable(office, orders[each : 2 * each], 1)
        two = durable(office, orders[2 * each :], 2)
    figures = {
        "images": given.images,
        "plain_s": round(alone.seconds, 2),
        "durable_s": round(one.seconds, 2),
        "durability_overhead": round(one.seconds / alone.seconds - 1, 3),
        "two_workers_s": round(two.seconds, 2),
        "speedup_2_workers": round(one.seconds / two.seconds, 2),
        "cores_used": round(two.cores_used, 2),
        "shards": shards,
        "peak_mb": round(max(one.peak_mb, two.peak_mb), 1),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
