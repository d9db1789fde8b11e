"""The reports in ``reports/examples``, from the real audit of the demo.

``python -m tests.reports.examples STORE`` reads the store of ``auditsvc demo`` and writes ``report.json`` of its
released and its rejected candidate,
and every other format from it; without a store it renders the kept ``report.json`` again.
A test compares them.
"""

from __future__ import annotations

import sys
from pathlib import Path

from auditsvc.compliance.render import FORMATS, render_files
from auditsvc.compliance.report.report_model import Report

FOLDER = Path(__file__).parents[2] / "reports" / "examples"
KEPT = {"released": tuple(FORMATS), "rejected": ("json", "pdf")}
"""Formats of each example."""


def example_files(name: str, forms: tuple[str, ...]) -> dict[Path, bytes]:
    """The files of one example by path, rendered from its ``report.json``."""
    folder = FOLDER / name
    report = Report.model_validate_json((folder / "report.json").read_bytes())
    return {folder / file: data for file, data in render_files(report, forms).items()}


def take(store: Path) -> None:
    """Write ``report.json`` of the newest released and the newest rejected candidate of a demo's store."""
    from auditsvc.bootstrap import open_context
    from auditsvc.demo.case_data import case_named
    from auditsvc.records import Candidate, Decision, Release
    from auditsvc.services.reporting import write_report
    from auditsvc.settings import Settings

    ctx = open_context(Settings(store=store))
    decisions = [found for _, found in ctx.ledger.page(Decision, limit=100)]
    chosen = {
        "released": next(one for one in decisions if ctx.ledger.find(Release, one.digest)),
        "rejected": next(one for one in decisions if one.outcome == "rejected"),
    }
    dataset = ctx.datasets.open(case_named("faces").audited)
    for name, decision in chosen.items():
        candidate = ctx.ledger.get(Candidate, decision.candidate)
        (written,) = write_report(ctx, candidate, decision, dataset, formats=("json",))
        (FOLDER / name).mkdir(parents=True, exist_ok=True)
        (FOLDER / name / "report.json").write_bytes(written.read_bytes())


def main() -> None:
    """Take the reports of a store, if one is named, and write every example."""
    for store in sys.argv[1:]:
        take(Path(store))
    for name, forms in KEPT.items():
        for path, data in example_files(name, forms).items():
            path.write_bytes(data)


if __name__ == "__main__":
    main()
