"""How fast the gate question is answered over HTTP: ``python -m tests.bench.gate_api``.

A ledger of its own is filled, the service is started on it as ``auditsvc serve`` does it, and a second process asks
over kept connections.  Latency is taken open-loop: questions are sent when they are due, whether or not earlier ones
were answered, and counted from when they were due.  Throughput is taken closed-loop and alternates with a bare
FastAPI route that gives an answer of the same size without looking at anything.

Two ways of asking: ``deployed`` asks about 500 versions again and again, as pipelines and clusters do; ``cold`` asks
about another version each time, so that nothing is ever remembered.  ``cpu_us_*`` is the server's own computing time
for one answer, which other work on the machine hardly changes.  One line of JSON per run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import multiprocessing
import os
import random
import socket
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI

from auditsvc.adapters.ledger import SqlLedger
from auditsvc.records import (
    Approval,
    AuditedData,
    Candidate,
    Decision,
    FileEntry,
    Judgement,
    Measured,
    Recipe,
    Record,
    Release,
    Submission,
    digest_of,
)
from auditsvc.settings import Settings
from auditsvc.web.app import run
from tests.bench.filling import SENTINEL, check, fill_fast
from tests.fakes import NOON, FixedClock
from tests.web.sample import DATASET, PARENT, POLICY, PROPOSAL, TERMS

RATE = 500
DEPLOYED = 500
JUDGEMENTS = 3
"""In each decision; a real one has some sixty, which makes a cold answer slower and a remembered one not."""


def records_of(number: int, *, released: bool) -> list[Record]:
    """A candidate with its submission and decision, and what a release adds."""
    weights = FileEntry(name="model.safetensors", size=7, digest=digest_of(f"weights {number}".encode()))
    recipe = Recipe(method="magnitude-global", targets={"sparsity": 0.3}, seed=number)
    candidate = Candidate(
        model="net", task="classification", architecture="tiny", files=(weights,), parent=PARENT.digest, recipe=recipe
    )
    version = str(number + 1)
    submission = Submission(candidate=candidate.digest, model="net", version=version, submitter="ann", at=NOON)
    decision = Decision(
        candidate=candidate.digest,
        policy=POLICY.digest,
        policy_name="standard-1",
        outcome="approved" if released else "rejected",
        judgements=tuple(_judgement(f"slice={place}", released) for place in range(JUDGEMENTS)),
        evidence=(),
        terms=TERMS.digest,
        data=(AuditedData(name="faces", digest=DATASET.digest, images=879),),
        at=NOON,
    )
    made: list[Record] = [candidate, submission, decision]
    if released:
        about = {"decision": decision.digest, "candidate": candidate.digest}
        approvals = [Approval(approver=name, at=NOON, **about) for name in ("bob", "cyd")]
        consents = tuple(item.digest for item in approvals)
        files = {"files": (weights,), "attestations": (weights,)}
        made += [*approvals, Release(model="net", version=version, approvals=consents, at=NOON, **about, **files)]
    return made


def _judgement(name: str, met: bool) -> Judgement:
    return Judgement(
        rule="slice-loss",
        metric="accuracy/drop.clean",
        slice=name,
        verdict="met" if met else "violated",
        severity="block",
        bound="at_most",
        limit=0.02,
        outcome=Measured(value=0.01, low=0.0, high=0.02, images=300),
        words=f"accuracy/drop.clean on {name}: +1.0 points (0.0 to +2.0 points, 300 images); at most +2.0 wanted",
    )


def fill(store: Path, candidates: int) -> int:
    """Fill the ledger, unless it is there from an earlier run; its size in bytes."""
    if (store / "ledger.db").exists():
        return _size(store)
    ledger = SqlLedger(f"sqlite:///{store / 'ledger.db'}", FixedClock())
    ledger.append(PARENT, POLICY, PROPOSAL, TERMS, actor="auditsvc")
    released, refused = (records_of(SENTINEL, released=one) for one in (True, False))
    fill_fast(str(store / "ledger.db"), ledger, (released, refused), candidates)
    check(ledger, candidates)
    ledger.close()
    return _size(store)


def _size(store: Path) -> int:
    return sum(file.stat().st_size for file in store.glob("ledger.db*"))


def serve_gate(store: str, port: int) -> None:
    """The service, as ``auditsvc serve`` starts it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    run(Settings(store=Path(store)), "127.0.0.1", port)


def serve_bare(answer: dict[str, Any], port: int) -> None:
    """A route that does nothing, under the same server."""
    app = FastAPI()

    @app.get("/v1/gate")
    async def bare(model: str, version: str) -> dict[str, Any]:
        return answer

    uvicorn.run(app, host="127.0.0.1", port=port, access_log=False, log_level="error", server_header=False)


@dataclass(frozen=True)
class Server:
    """Where a server answers, and the process that it is."""

    port: int
    pid: int

    def cpu_s(self) -> float:
        """Seconds that it has computed so far, in all its threads; other work on the machine does not count."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def serving(target: Callable[..., None], *arguments: Any) -> Iterator[Server]:
    """A server of its own process that answers."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    process = multiprocessing.get_context("spawn").Process(target=target, args=(*arguments, port))
    process.start()
    try:
        for _ in range(600):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                yield Server(port, process.pid or 0)
                return
            time.sleep(0.1)
        raise RuntimeError("the server did not start")
    finally:
        process.terminate()
        process.join(30)


class Connection:
    """One kept connection that asks one question at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
        self._reader, self._writer, self._host = reader, writer, f"127.0.0.1:{port}"

    @classmethod
    async def open(cls, port: int) -> Connection:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        return cls(reader, writer, port)

    async def ask(self, path: str) -> bytes:
        self._writer.write(f"GET {path} HTTP/1.1\r\nHost: {self._host}\r\n\r\n".encode())
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        body = await self._reader.readexactly(length)
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"{path}: {head.decode()}{body.decode()}")
        return body

    def close(self) -> None:
        self._writer.close()


async def latencies(port: int, questions: Iterator[str], rate: int, seconds: float) -> list[float]:
    """Milliseconds from when each question was due to its answer."""
    idle: asyncio.Queue[Connection] = asyncio.Queue()
    for _ in range(64):
        idle.put_nowait(await Connection.open(port))
    took: list[float] = []
    began = time.perf_counter() + 0.5  # time enough to line all of them up

    async def one(number: int) -> None:
        due = began + number / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        connection = await idle.get()
        await connection.ask(next(questions))
        idle.put_nowait(connection)
        took.append((time.perf_counter() - due) * 1000)

    await asyncio.gather(*(one(number) for number in range(int(rate * seconds))))
    while not idle.empty():
        idle.get_nowait().close()
    return took


async def throughput(
    server: Server, questions: Iterator[str], seconds: float, connections: int = 16
) -> tuple[float, float]:
    """Answers a second when every connection asks again at once, and the server's own microseconds for each."""
    until, before = time.perf_counter() + seconds, server.cpu_s()
    done = 0

    async def asking() -> None:
        nonlocal done
        connection = await Connection.open(server.port)
        while time.perf_counter() < until:
            await connection.ask(next(questions))
            done += 1
        connection.close()

    await asyncio.gather(*(asking() for _ in range(connections)))
    return done / seconds, (server.cpu_s() - before) / done * 1e6


def path_of(number: int) -> str:
    return f"/v1/gate?model=net&version={number + 1}"


def deployed(candidates: int) -> Iterator[str]:
    """The same few versions, in a random order that repeats."""
    chosen = random.Random(1).sample(range(candidates), min(DEPLOYED, candidates))
    return cycle([path_of(number) for number in chosen])


def cold(candidates: int) -> Iterator[str]:
    """Every version once, in a random order; runs out rather than asking twice."""
    order = list(range(candidates))
    random.Random(2).shuffle(order)
    return iter([path_of(number) for number in order])


def p99(found: list[float]) -> float:
    return statistics.quantiles(found, n=100)[98]


async def measure(gate: Server, bare: Server, candidates: int, seconds: float, rounds: int) -> dict[str, float]:
    hot, new = deployed(candidates), cold(candidates)
    warming = await Connection.open(gate.port)
    for _ in range(DEPLOYED):
        await warming.ask(next(hot))
    warming.close()
    found: dict[str, list[tuple[float, float]]] = {"gate": [], "cold": [], "bare": []}
    for _ in range(rounds):
        found["bare"].append(await throughput(bare, hot, seconds / rounds))
        found["gate"].append(await throughput(gate, hot, seconds / rounds))
    found["cold"].append(await throughput(gate, new, min(seconds, candidates / 4000)))
    rps = {name: statistics.median(value for value, _ in values) for name, values in found.items()}
    cpu = {name: statistics.median(value for _, value in values) for name, values in found.items()}
    at_rate = {
        "": await latencies(gate.port, hot, RATE, seconds),
        "_bare": await latencies(bare.port, hot, RATE, seconds),
        "_cold": await latencies(gate.port, new, RATE, min(seconds, candidates / 4 / RATE)),
    }
    told = {f"p99_ms_{RATE}rps{name}": round(p99(values), 2) for name, values in at_rate.items()}
    told |= {f"p50_ms_{RATE}rps{name}": round(statistics.median(values), 2) for name, values in at_rate.items()}
    shares = {"": rps["gate"] / rps["bare"], "_cold": rps["cold"] / rps["bare"]}
    told |= {f"throughput_ratio_bare{name}": round(value, 3) for name, value in shares.items()}
    told |= {f"cpu_us_{name}": round(value) for name, value in cpu.items()}
    told |= {"cpu_ratio_bare": round(cpu["bare"] / cpu["gate"], 3)}
    return told | {f"rps_{name}": round(value) for name, value in rps.items()}


async def beside_mlflow(gate: Server, candidates: int, folder: Path) -> dict[str, float]:
    """p99 of both at 20 questions a second, which MLflow's own server can follow."""
    from urllib.parse import urlsplit

    from mlflow import MlflowClient

    from tests.adapters.mlflow_server import mlflow_server

    with mlflow_server(folder) as address:
        client = MlflowClient(address)
        client.create_registered_model("net")
        run = client.create_run(client.create_experiment("bench"))
        for _ in range(20):
            client.create_model_version("net", run.info.artifact_uri, run.info.run_id)
        path = "/api/2.0/mlflow/model-versions/get?name=net&version="
        port = urlsplit(address).port or 0
        theirs = await latencies(port, cycle([f"{path}{number + 1}" for number in range(20)]), 20, 6)
        ours = await latencies(gate.port, deployed(candidates), 20, 6)
    figures = {
        "p99_ms_20rps_mlflow": p99(theirs),
        "p99_ms_20rps": p99(ours),
        "p99_ratio_mlflow": p99(ours) / p99(theirs),
    }
    return {name: round(value, 3) for name, value in figures.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--candidates", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3, help="alternations of the throughput measurement")
    parser.add_argument(
        "--mlflow", action=argparse.BooleanOptionalAction, default=True, help="ask MLflow's own server too"
    )
    parser.add_argument("--store", type=Path, help="keep the filled ledger here, and use it again")
    chosen = parser.parse_args()
    logging.disable(logging.INFO)
    with tempfile.TemporaryDirectory(prefix="auditsvc-bench-") as scratch:
        store = chosen.store or Path(scratch)
        store.mkdir(exist_ok=True)
        began = time.perf_counter()
        size = fill(store, chosen.candidates)
        told: dict[str, Any] = {"bench": "gate_api", "candidates": chosen.candidates, "ledger_mb": round(size / 1e6)}
        told["filled_s"] = round(time.perf_counter() - began, 1)
        with serving(serve_gate, str(store)) as gate:
            example = json.loads(asyncio.run(_first(gate.port)))
            with serving(serve_bare, example) as bare:
                told |= asyncio.run(measure(gate, bare, chosen.candidates, chosen.seconds, chosen.rounds))
            if chosen.mlflow:
                told |= asyncio.run(beside_mlflow(gate, chosen.candidates, store))
        told |= {"cores": len(os.sched_getaffinity(0)), "load_1min": round(os.getloadavg()[0], 1)}
        print(json.dumps(told))


async def _first(port: int) -> bytes:
    return await (await Connection.open(port)).ask(path_of(0))


if __name__ == "__main__":
    main()
