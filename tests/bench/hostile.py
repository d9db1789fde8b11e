"""What a stranger can do to the running service: ``python -m tests.bench.hostile [--kills N] [--fuzz SECONDS]``.

One JSON line: ``cases`` that were tried and ``held`` (the service answered ``/healthz`` meanwhile and refused or took
what was sent as it should); ``healthz_worst_s`` and ``healthz_worst_cpu_s`` (CPU time of the service while one
``/healthz`` waited: what it would be on an idle machine); ``started_mb`` and ``loaded_mb`` (resident size before and
after the first valid policy, which loads torch), ``memory_worst_ratio`` (peak to ``loaded_mb``); ``costly`` (the cases
with the longest ``/healthz`` and the most memory: CPU seconds, ratio); ``orphans`` (workers that were alive 30 s after
the service was killed, over all kills); ``fuzz_inputs``, ``fuzz_crashes``; ``route_role_requests``,
``route_role_wrong``; ``signer_attacks`` of a worker that was taken over, and ``signer_refused``: those that got neither
key nor signature.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from auditsvc.bootstrap import open_jobs
from auditsvc.records import ReleaseRequest
from auditsvc.resources import resource_dir
from auditsvc.settings import Settings
from tests.adapters import signer_attacks
from tests.web.access import ROUTES
from tests.web.edge_fuzzing import fuzz
from tests.web.test_hostile import HOSTILE_TARS

CHUNK = b"x" * 65536
HEAD = b"POST /v1/verify HTTP/1.1\r\nhost: localhost\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"


JSON = "application/json"
VALID = json.dumps({"policy": (resource_dir("policies") / "gates" / "standard.yaml").read_text()}).encode()


class Service:
    """``auditsvc serve`` in a process of its own, and its admin token."""

    def __init__(self, store: Path, workers: int = 0) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = int(free.getsockname()[1])
        command = [sys.executable, "-m", "auditsvc", "serve", "--store", str(store), "--port", str(self.port)]
        environment = {**os.environ, "AUDITSVC_WORKERS": str(workers), "AUDITSVC_REGISTRY_POLL_S": "0"}
        self.process = subprocess.Popen([*command, "--admin-token"], stderr=subprocess.PIPE, text=True, env=environment)
        lines = iter(self.process.stderr or ())
        self.token = next(line.strip() for line in lines if line.strip().startswith("auditsvc_"))
        threading.Thread(target=lambda: [None for _ in lines], daemon=True).start()
        while self.ask("GET", "/healthz")[0] != 200:
            time.sleep(0.1)

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, float]:
        """The status (0: no answer) and the seconds that it took."""
        began = time.perf_counter()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            return connection.getresponse().status, time.perf_counter() - began
        except OSError:
            return 0, time.perf_counter() - began
        finally:
            connection.close()

    def resident(self) -> int:
        """Bytes in memory now."""
        words = Path(f"/proc/{self.process.pid}/statm").read_text().split()
        return int(words[1]) * os.sysconf("SC_PAGE_SIZE")

    def cpu_s(self) -> float:
        """CPU seconds that the process has used."""
        words = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")

    def pour(self, start: bytes, part: bytes, most: int = 160 << 20) -> bool:
        """Send without end; whether the service ended the connection before ``most`` bytes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as connection:
            sent = 0
            with suppress(OSError):
                connection.sendall(start)
                while sent < most:
                    connection.sendall(part)
                    sent += len(part)
        return sent < most


def cases(service: Service) -> Iterator[tuple[str, Callable[[], bool]]]:
    """Each case by name; it returns whether the service did as it should."""
    token = {"authorization": f"Bearer {service.token}"}
    tar = {"content_type": "application/x-tar"}
    stars = json.dumps(
        {"policy": "policy: p\nrules:\n- {rule: r, reading: 'a/" + "*" * 30_000 + "x', why: w}"}
    ).encode()
    yield "header without end", lambda: service.pour(HEAD + b"x: ", CHUNK)
    yield "headers without end", lambda: service.pour(HEAD, b"a: b\r\n" * 10_000)
    yield "chunk extension", lambda: service.pour(CHUNKED + b"1;", CHUNK)
    yield "trailers", lambda: service.pour(CHUNKED + b"0\r\n", b"a: b\r\n" * 10_000)
    yield "stars", lambda: is_cheap(service, stars)
    yield "another site", lambda: service.ask("POST", "/v1/verify", b"x", origin="https://evil.example")[0] == 403
    yield (
        "keyed stream",
        lambda: service.ask("POST", "/v1/verify", bytes(200 << 20), idempotency_key="k")[0] in (0, 422),
    )
    yield "large stream", lambda: service.ask("POST", "/v1/verify", bytes(200 << 20))[0] == 200
    yield "half-open connections", lambda: half_open(service)
    yield "login state", lambda: service.ask("GET", "/login/callback?state=%C3%A9&code=x")[0] in (401, 404)
    for name, body in HOSTILE_TARS.items():
        yield f"tar: {name}", lambda body=body: service.ask("POST", "/v1/verify", body, **tar)[0] == 422  # type: ignore[misc]
    yield "ready", lambda: service.ask("GET", "/readyz", **token)[0] == 200


def is_cheap(service: Service, policy: bytes, most_cpu_s: float = 2.0) -> bool:
    """Whether the policy is refused within so much CPU time."""
    before = service.cpu_s()
    status, _ = service.ask("POST", "/v1/policies/backtests", policy, content_type=JSON)
    return status == 422 and service.cpu_s() - before < most_cpu_s


def half_open(service: Service, most: int = 300) -> bool:
    """Connections that send half a request are closed within 15 seconds."""
    held = [socket.create_connection(("127.0.0.1", service.port), timeout=20) for _ in range(most)]
    try:
        for one in held:
            one.sendall(b"GET /healthz HTTP/1.1\r\nhost: ")
        began = time.monotonic()
        return all(one.recv(1) == b"" for one in held) and time.monotonic() - began < 20
    except OSError:
        return False
    finally:
        for one in held:
            one.close()


@contextmanager
def watched(service: Service) -> Iterator[dict[str, float]]:
    """The worst time of ``/healthz``, the service's CPU time meanwhile, and its largest size, while the block runs."""
    found = {"healthz": 0.0, "cpu": 0.0, "resident": 0.0}
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.1):
            before = service.cpu_s()
            status, seconds = service.ask("GET", "/healthz")
            found["cpu"] = max(found["cpu"], service.cpu_s() - before)
            found["healthz"] = max(found["healthz"], seconds if status == 200 else 60.0)
            found["resident"] = max(found["resident"], service.resident())

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield found
    finally:
        over.set()
        watcher.join()


def roles(service: Service) -> tuple[int, int]:
    """Requests of every route without a token from behind a proxy, and those that were not refused as they should."""
    wrong = 0
    for (method, path), needed in ROUTES.items():
        filled = path.replace("{digest}", "sha256:" + "0" * 64).replace("{", "").replace("}", "")
        status, _ = service.ask(method, filled, via="1.1 proxy")
        wrong += (status == 401) == (needed == "anyone")
    return len(ROUTES), wrong


def workers_of(store: Path) -> list[int]:
    """The worker processes of a store."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (place / "cmdline").read_bytes().split(b"\0")
            if b"worker" in words and str(store).encode() in words:
                found.append(int(place.name))
    return found


def orphans(folder: Path, kills: int) -> int:
    """Workers that outlive a service that was killed."""
    left = 0
    for number in range(kills):
        store = folder / f"killed-{number}"
        service = Service(store, workers=1)
        open_jobs(Settings(store=store), "").submit(ReleaseRequest(decision="sha256:" + "0" * 64), "bench")
        while not workers_of(store):
            time.sleep(0.1)
        service.process.send_signal(signal.SIGKILL)
        service.process.wait()
        end = time.monotonic() + 30
        while workers_of(store) and time.monotonic() < end:
            time.sleep(0.2)
        left += len(workers_of(store))
        for worker in workers_of(store):
            os.kill(worker, signal.SIGKILL)
    return left


def main() -> None:
    """Run all, print one line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--fuzz", type=float, default=60.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        service = Service(Path(folder) / "store")
        try:
            started, _ = service.resident(), service.ask("POST", "/v1/policies/backtests", VALID, content_type=JSON)
            idle = service.resident()
            found = list(cases(service))
            failed: list[str] = []
            seen: dict[str, dict[str, float]] = {}
            for name, case in found:
                with watched(service) as seen[name]:
                    failed += [] if case() else [name]
            requests, wrong = roles(service)
        finally:
            service.process.terminate()
            service.process.wait()
        costly = {name for what in ("cpu", "resident") for name in sorted(seen, key=lambda one: -seen[one][what])[:3]}
        attacks = signer_attacks.run(Path(folder))
        reasons = {name: why for name, why in attacks.items() if name not in ("works", "hidden")}
        inputs, crashes, _ = fuzz(options.fuzz)
        figures = {
            "cases": len(found),
            "held": len(found) - len(failed),
            "failed": failed,
            "healthz_worst_s": round(max(one["healthz"] for one in seen.values()), 3),
            "healthz_worst_cpu_s": round(max(one["cpu"] for one in seen.values()), 3),
            "started_mb": started >> 20,
            "loaded_mb": idle >> 20,
            "memory_worst_ratio": round(max(one["resident"] for one in seen.values()) / idle, 2),
            "costly": {name: (round(seen[name]["cpu"], 2), round(seen[name]["resident"] / idle, 2)) for name in costly},
            "kills": options.kills,
            "orphans": orphans(Path(folder), options.kills),
            "fuzz_inputs": inputs,
            "fuzz_crashes": len(crashes),
            "route_role_requests": requests,
            "route_role_wrong": wrong,
            "signer_attacks": len(reasons),
            "signer_refused": sum(map(bool, reasons.values())),
        }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
