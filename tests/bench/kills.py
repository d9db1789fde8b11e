"""Workers are killed at random while they prune, audit and release; in the end nothing is lost, doubled or different.

``python -m tests.bench.kills [--kills N] [--databases sqlite postgres] [--seed S]`` prints one JSON line for each
database::

    kills           workers that were killed (SIGKILL) at a random moment, and in which phase
    jobs            jobs that were asked for
    lost            jobs that did not end as done
    doubled         records, registered versions and log entries that are there more than once
    digest_changes  records that a calm run of the same orders does not make, or makes otherwise
    seconds         how long it took

Two workers are at work; each dies after a random time, and another takes its slot.  Both runs have the same keys and a
clock that stands still, so their records must be the same to the last byte; only what holds a random signature (a
release) is compared without it.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from mlflow import MlflowClient

from auditsvc.records import (
    AuditRequest,
    Candidate,
    Decision,
    Evidence,
    JobRequest,
    Policy,
    PruneRequest,
    Record,
    Release,
    ReleaseRequest,
    Submission,
)
from auditsvc.services.decisions import approve, judge
from auditsvc.services.job_handlers import run_job
from tests.adapters.postgres import new_database
from tests.bench.office import FACTS, Nursery, Office, a_policy, kill, opened, workers
from tests.fakes.jobs import MemoryRunner
from tests.fakes.terms import bind_terms

POLICIES = tuple(
    a_policy(accuracy={}, prediction_churn={}, occlusion={"fractions": [0.1, 0.2]}).model_copy(update={"seed": seed})
    for seed in range(4)
)
"""One after another, each with a seed of its own, so that every candidate is measured again and again."""

KINDS: tuple[type[Record], ...] = (Policy, Candidate, Submission, Evidence, Decision, Release)
IMAGES = 256
EACH_ROUND = 1
SHARES = {"prune": 0.08, "audit": 0.6, "release": 0.32}
"""The largest share of the kills in each phase of one round; then the jobs end in peace."""

PATIENCE_S = 120
"""A job that takes longer than this, in seconds, is lost."""


class Killer:
    """Lets workers die at random moments while there are jobs."""

    def __init__(
        self, office: Office, nursery: Nursery, alive: list[int], calm_s: dict[str, float], chance: random.Random
    ) -> None:
        self.office, self.nursery, self.alive, self.calm_s, self.chance = office, nursery, alive, calm_s, chance
        self.kills: Counter[str] = Counter()

    def during(self, phase: str, orders: Iterable[JobRequest], most: int) -> list[str]:
        """Ask for these jobs, two at a time, and kill while they run, so many times at most; the jobs' ids."""
        most += self.kills[phase]
        waiting, ids = list(orders), list[str]()
        until = time.monotonic() + PATIENCE_S * len(waiting)
        ends = [self._life(phase) for _ in self.alive]
        while (waiting or self._open(ids)) and time.monotonic() < until:
            if waiting and self._open(ids) < 2:
                ids.append(self.office.jobs.submit(waiting.pop(0), "sue").id)
            for place, end in enumerate(ends):
                if time.monotonic() > end and self.kills[phase] < most:
                    kill(self.alive[place])
                    self.kills[phase] += 1
                    self.alive[place], ends[place] = self.nursery.worker(), self._life(phase)
            time.sleep(0.02)
        return ids

    def _life(self, phase: str) -> float:
        """The end of a life: some hardly begin, some last as long as jobs take in peace."""
        return time.monotonic() + self.chance.uniform(0.05, self.chance.choice([3, 2 * self.calm_s[phase] + 1]))

    def _open(self, ids: list[str]) -> int:
        return sum(self.office.jobs.get(job).state in ("queued", "running") for job in ids[-4:])


def consents(office: Office, policy: Policy) -> list[ReleaseRequest]:
    """This policy becomes the terms, and two people approve each candidate's decision under it; the release orders."""
    ledger = office.ctx.ledger
    trials = {
        decision.candidate: decision
        for decision in ledger.all(Decision)
        if decision.policy == policy.digest and not ledger.find(Release, decision.digest)
    }
    found = []
    for candidate, trial in trials.items():
        bind_terms(office.ctx, FACTS["model"], policy, *(one.digest for one in trial.data or ()))
        evidence = [ledger.get(Evidence, one) for one in trial.evidence]
        found.append(judge(office.ctx, ledger.get(Candidate, candidate), policy, evidence))
    for decision in found:
        for person in ("bob", "cyd"):
            approve(office.ctx, decision, person)
    return [ReleaseRequest(decision=decision.digest) for decision in found]


def audits(office: Office, policies: Sequence[Policy]) -> list[AuditRequest]:
    """An audit of every candidate under every policy that it was not judged by."""
    ledger = office.ctx.ledger
    return [
        AuditRequest(candidate=found.digest, policy=policy.digest, data="audited")
        for found in ledger.all(Candidate)
        for policy in policies
        if not ledger.find(Decision, f"{found.digest}|{policy.digest}")
    ]


def calm(office: Office, prunes: Iterable[PruneRequest], policies: Sequence[Policy]) -> dict[str, float]:
    """The same orders in one process that nobody kills; how long one of each kind takes, in seconds."""
    room, took = office.room, {}
    phases: dict[str, Callable[[], Iterable[JobRequest]]] = {
        "prune": lambda: prunes,
        "audit": lambda: audits(office, policies),
        "release": lambda: consents(office, policies[0]),
    }  # fmt: skip
    for phase, orders in phases.items():
        began, asked = time.monotonic(), list(orders())
        for order in asked:
            run_job("000000000001-0000000000000000", order, "sue", room, MemoryRunner(room))
        took[phase] = (time.monotonic() - began) / max(1, len(asked))
    return took


def records(office: Office) -> Counter[str]:
    """Every record, without random signatures and the order of versions."""
    return Counter(_timeless(record) for kind in KINDS for record in office.ctx.ledger.all(kind))


def _timeless(record: Record) -> str:
    fields = record.model_dump(mode="json", exclude={"attestations", "version", "approvals"})
    return json.dumps({"kind": record.kind, **fields}, sort_keys=True)


def doubled(office: Office) -> int:
    """Records, registered versions and events of the log that are there more than once."""
    ledger, log = office.ctx.ledger, office.ctx.log
    twice = sum(count - 1 for count in records(office).values())
    client = MlflowClient(office.settings.mlflow_store, office.settings.mlflow_store)
    versions = Counter(one.tags.get("auditsvc.digest") for one in client.search_model_versions())
    twice += sum(count - 1 for count in versions.values())
    leaves = [log.leaf(index) for index in range(log.size())]
    events = Counter(json.loads(leaf)["object"] for leaf in leaves if b'"object"' in leaf)
    made = {record.digest for kind in KINDS for record in ledger.all(kind)}
    return twice + sum(count - 1 for digest, count in events.items() if digest in made)


def trial(url: str, wanted: int, seed: int, folder: Path, policies: Sequence[Policy] = POLICIES) -> dict[str, object]:
    """One database: rounds of new candidates until there were enough kills, and the same in peace, compared."""
    began = time.monotonic()
    other = opened(folder / "calm", "", images=IMAGES, policies=policies, shard_work=10**9)
    keys = folder / "calm" / "keys"
    office = opened(folder / "stormy", url, images=IMAGES, policies=policies, shard_work=IMAGES, keys=keys)
    prunes: list[PruneRequest] = []
    ids: list[str] = []
    with workers(office, 2) as (nursery, alive):
        killer = Killer(office, nursery, alive, {}, random.Random(seed))
        while sum(killer.kills.values()) < wanted:
            new = [office.prune(len(prunes) + number) for number in range(EACH_ROUND)]
            prunes += new
            killer.calm_s = calm(other, new, policies)
            most = {phase: math.ceil(share * wanted) for phase, share in SHARES.items()}
            ids += killer.during("prune", new, most["prune"])
            ids += killer.during("audit", audits(office, policies), most["audit"])
            ids += killer.during("release", consents(office, policies[0]), most["release"])
            print(f"{len(prunes)} candidates, {dict(killer.kills)} kills", file=sys.stderr, flush=True)
    lost = [job for job in ids if office.jobs.get(job).state != "done"]
    return {
        "kills": sum(killer.kills.values()),
        "during": dict(killer.kills),
        "jobs": len(ids),
        "lost": len(lost) + (2 + len(policies)) * len(prunes) - len(ids),
        "doubled": doubled(office),
        "digest_changes": len(set(records(office)) ^ set(records(other))),
        "seconds": round(time.monotonic() - began, 1),
    }


def main() -> None:
    """Run the trials and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100, help="at least so many for each database")
    parser.add_argument("--databases", nargs="+", choices=["sqlite", "postgres"], default=["sqlite", "postgres"])
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    for database in given.databases:
        with tempfile.TemporaryDirectory(prefix="auditsvc-kills-") as folder:
            url = new_database() if database == "postgres" else ""
            found = trial(url, given.kills, given.seed, Path(folder))
        print(json.dumps({"database": database, **found}), flush=True)


if __name__ == "__main__":
    main()
