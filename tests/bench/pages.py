"""Pages and report: CPU of the service for each page, its size, what axe finds, and the report of the demo.

``python -m tests.bench.pages [SUBMISSIONS]`` fills an SQLite ledger with that many submissions of as many models
(100,000 without an argument: about five minutes) and one decision of 2,000 results, and prints one line of JSON.  The
report's figures are those of ``reports/examples/rejected``.  Milliseconds are process CPU: the median of five requests
after a first one, and ``_grown`` of five requests with a new entry in the log before each, so that nothing is kept.
``axe_violations`` counts over all pages in both colour schemes; null without Chromium.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import uvicorn
from starlette.testclient import TestClient

from auditsvc.bootstrap import open_context
from auditsvc.compliance.render import render
from auditsvc.compliance.report.report_model import Report
from auditsvc.settings import Settings
from auditsvc.web import create_app
from auditsvc.web.auth.token_store import TokenStore
from auditsvc.web.connection_limits import server_options
from auditsvc.web.gate_cache import GateCache
from auditsvc.web.state import ProjectState
from tests.fakes import FixedClock
from tests.fakes.jobs import MemoryJobs
from tests.reports.examples import FOLDER
from tests.reports.pdf_boxes import overflows, pages_of
from tests.web import sample

RESULTS = 2000


def fill(ctx: Any, submissions: int) -> str:
    """The sample, that many models with a submission each, and a decision with many results; its digest."""
    sample.fill(ctx.ledger)
    for start in range(0, submissions, 500):
        records: list[Any] = []
        for number in range(start, min(start + 500, submissions)):
            parent = sample.PARENT.model_copy(update={"model": f"model-{number}"})
            made = sample.candidate(1).model_copy(update={"model": parent.model, "parent": parent.digest})
            records += [parent, made, sample.submission(1).model_copy(
                update={"candidate": made.digest, "model": parent.model})]  # fmt: skip
        ctx.ledger.append(*records, actor="ann")
    found = sample.decision(3, "rejected")
    results = tuple(found.judgements[0].model_copy(update={"slice": f"place={n}"}) for n in range(RESULTS))
    large = found.model_copy(update={"judgements": results})
    ctx.ledger.append(large, actor="auditsvc")
    return str(large.digest)


def cost(client: TestClient, path: str, before: Callable[[], None] = lambda: None) -> tuple[float, int]:
    """Median CPU in ms, and the bytes of the page without its pictures."""
    client.get(path).raise_for_status()
    times = []
    for _ in range(5):
        before()
        began = time.process_time()
        body = client.get(path).text
        times.append(1000 * (time.process_time() - began))
    return median(times), len(re.sub(r"data:image[^\"]*", "", body).encode())


def violations(app: Any, paths: Iterable[str]) -> int | None:
    """What axe finds on the pages at 390 pixels, light and dark; None without Chromium."""
    chromium = shutil.which("chromium")
    if chromium is None:
        return None
    from axe_playwright_python.sync_playwright import Axe
    from playwright.sync_api import sync_playwright

    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", **server_options()))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    url, found = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}", 0
    with sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for scheme in ("light", "dark"):
            page = browser.new_page(color_scheme=scheme, viewport={"width": 390, "height": 800})
            for path in paths:
                page.goto(url + path)
                found += Axe().run(page).violations_count
        browser.close()
    server.should_exit = True
    thread.join(10)
    return found


def main() -> None:
    """Print one line of JSON."""
    submissions = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ctx = replace(open_context(Settings(store=folder), create=True), clock=FixedClock())
        digest = fill(ctx, submissions)
        site = ProjectState(
            access=TokenStore(f"sqlite:///{name}/access.db", ctx.clock),
            answers=GateCache(ctx.ledger, None),
            ctx=ctx,
            jobs=MemoryJobs(),
            local=True,
            hosts=frozenset({"127.0.0.1"}),
        )
        app = create_app(site)
        client = TestClient(app, "http://127.0.0.1", client=("127.0.0.1", 50000))
        paths = {
            "home": "/", "models": "/models", "decision": f"/decisions/{digest}", "model": "/models/net",
            "version": f"/candidates/{sample.candidate(3).digest}", "statements": "/statements", "log": "/log",
            "policies": "/policies", "policy": f"/policies/{sample.POLICY.digest}", "audit": "/jobs/audit",
        }  # fmt: skip
        found = {page: cost(client, path) for page, path in paths.items()}
        grown = [cost(client, path, lambda: site.log_event("bench.entry", "bench"))[0] for path in ("/", "/models")]
        axe = violations(app, paths.values())
    report = Report.model_validate_json((FOLDER / "rejected" / "report.json").read_bytes())
    with tempfile.TemporaryDirectory() as name:
        pdf = Path(name) / "report.pdf"
        pdf.write_bytes(render(report, "pdf"))
        pages, faults = pages_of(pdf), overflows(pdf)
    texts = [" ".join(word.text for word in words) for _, _, words in pages]
    due = next((n for n, text in enumerate(texts) if text.startswith("What is due")), len(texts))
    codes = re.findall(r"\b(?:doc|gov|sec|perf|ops|screen|robust|fairness|data)\.[a-z_]{3,}\b", " ".join(texts))
    named = {"home": "home_ms_1e5", "models": "models_ms_1e5", "decision": "decision_ms_2000"}
    figures = {named.get(page, f"{page}_ms"): round(ms, 1) for page, (ms, _) in found.items()}
    figures |= {"home_ms_grown": round(grown[0], 1), "models_ms_grown": round(grown[1], 1)}
    print(json.dumps(figures | {
        "submissions": submissions, "results": RESULTS,
        "page_kb_max": round(max(size for _, size in found.values()) / 1000, 1), "axe_violations": axe,
        "report_core_pages": due, "report_pages": len(pages), "report_overflows": len(faults),
        "codes_without_title": len(codes),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
