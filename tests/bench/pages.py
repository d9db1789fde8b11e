"""Pages and report: CPU of the service for each page, its size, and the report of the demo.

``python -m tests.bench.pages [SUBMISSIONS]`` fills an SQLite ledger with that many submissions of as many models
(10,000 without an argument) and one decision of 2,000 results, and prints one line of JSON.  The report's figures are
those of ``reports/examples/rejected``.  Milliseconds are process CPU, the median of five requests after a first one.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from starlette.testclient import TestClient

from auditsvc.bootstrap import open_context
from auditsvc.compliance.render import render
from auditsvc.compliance.report.report_model import Report
from auditsvc.settings import Settings
from auditsvc.web import create_app
from auditsvc.web.auth.token_store import TokenStore
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


def cost(client: TestClient, path: str) -> tuple[float, int]:
    """Median CPU in ms, and the bytes of the page without its pictures."""
    client.get(path).raise_for_status()
    times = []
    for _ in range(5):
        before = time.process_time()
        body = client.get(path).text
        times.append(1000 * (time.process_time() - before))
    return median(times), len(re.sub(r"data:image[^\"]*", "", body).encode())


def main() -> None:
    """Print one line of JSON."""
    submissions = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
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
        client = TestClient(create_app(site), "http://127.0.0.1", client=("127.0.0.1", 50000))
        paths = {"home": "/", "models": "/models", "decision": f"/decisions/{digest}", "model": "/models/net"}
        found = {page: cost(client, path) for page, path in paths.items()}
    report = Report.model_validate_json((FOLDER / "rejected" / "report.json").read_bytes())
    with tempfile.TemporaryDirectory() as name:
        pdf = Path(name) / "report.pdf"
        pdf.write_bytes(render(report, "pdf"))
        pages, faults = pages_of(pdf), overflows(pdf)
    texts = [" ".join(word.text for word in words) for _, _, words in pages]
    due = next((n for n, text in enumerate(texts) if text.startswith("What is due")), len(texts))
    codes = re.findall(r"\b(?:doc|gov|sec|perf|ops|screen|robust|fairness|data)\.[a-z_]{3,}\b", " ".join(texts))
    figures = {f"{page}_ms": round(ms, 1) for page, (ms, _) in found.items()}
    print(json.dumps(figures | {
        "submissions": submissions, "results": RESULTS,
        "page_kb_max": round(max(size for _, size in found.values()) / 1000, 1),
        "report_core_pages": due, "report_pages": len(pages), "report_overflows": len(faults),
        "codes_without_title": len(codes),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
