"""The demo, told while it runs: from a dense parent to a verified release.

Every step finds again what an earlier run has done, so a demo that was killed goes on where it was.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from rich.console import Console

from auditsvc.bootstrap import open_ports
from auditsvc.datasets import Dataset
from auditsvc.demo.case_data import DemoCase, case_named
from auditsvc.demo.printing import Row, decisions_table, print_findings, print_verification
from auditsvc.evaluation import Predictions
from auditsvc.ports import Ports, Progress
from auditsvc.provenance import TrustRoot, verify
from auditsvc.records import Candidate, Parent, Policy, Submission, Verification
from auditsvc.services.alias import ALIAS
from auditsvc.services.audit import audit
from auditsvc.services.candidates import prune_candidate, register_parent, submit
from auditsvc.services.decisions import approve, judge
from auditsvc.services.exploration import discover_slices
from auditsvc.services.release import release, release_folder
from auditsvc.services.reporting import write_report
from auditsvc.settings import Settings

SUBMITTER, APPROVERS = "demo-submitter", ("demo-approver-1", "demo-approver-2")


def run_demo(name: str, policy: Policy, settings: Settings, progress: Progress, console: Console) -> tuple[Row, ...]:
    """Run one case from end to end; the rows of its table."""
    case = case_named(name)
    console.print(f"[bold]auditsvc demo[/]: {case.opening}")
    console.print(f"  Not for: {case.facts['not_for']}\n", style="dim", highlight=False)
    ports = open_ports(settings, progress)
    console.print("[bold]1  The dense parent[/]")
    parent, parent_version = register_parent(case.parent(settings.store / "demo"), case.facts, ports)
    console.print(
        f"  registered as {parent.model} version {parent_version}: {parent.source}; {parent.licence}", highlight=False
    )
    dataset = ports.datasets.open(case.audited)
    made = _prune(case, parent, parent_version, ports, console)
    rows = _audit(made, policy, dataset, ports, console)
    console.print()
    console.print(decisions_table(rows))
    for row in rows:
        print_findings(console, row)
    _release(rows, dataset, settings, ports, console)
    return rows


def _prune(
    case: DemoCase, parent: Parent, parent_version: str, ports: Ports, console: Console
) -> list[tuple[Candidate, Submission]]:
    console.print("[bold]2  Prune, mark, load again in a clean process, submit[/]")
    calibration = ports.datasets.open(case.calibration)
    made = []
    for recipe in case.recipes:
        with ports.progress.step(f"{recipe.method} {recipe.targets['sparsity']:.0%}"):
            candidate = prune_candidate(parent, recipe, calibration, ports)
            made.append((candidate, submit(candidate, parent_version, SUBMITTER, ports)))
    return made


def _audit(
    made: list[tuple[Candidate, Submission]], policy: Policy, dataset: Dataset, ports: Ports, console: Console
) -> tuple[Row, ...]:
    named = f"policy {policy.policy} version {policy.version}"
    console.print(f"[bold]3  Audit beside the parent[/] on {dataset.ref.images} images, {named}")
    remembered: dict[str, Predictions] = {}
    rows = []
    for candidate, submission in made:
        console.print(f"  version {submission.version}", highlight=False)
        evidence = audit(candidate, policy, dataset, ports, remembered)
        discover_slices(candidate, policy, dataset, ports, remembered)
        rows.append(Row(candidate, submission, evidence, judge(candidate, policy, evidence, ports)))
    return tuple(rows)


def _release(rows: tuple[Row, ...], dataset: Dataset, settings: Settings, ports: Ports, console: Console) -> None:
    """Release the smallest approved candidate; write every report."""
    approved = [row for row in rows if row.decision.outcome == "approved"]
    verification: Verification | None = None
    chosen = min(approved, key=lambda row: row.candidate.card["nonzero"]) if approved else None
    if chosen is not None:
        console.print(f"\n[bold]4  Release version {chosen.submission.version}[/]")
        verification = _sealed_and_verified(chosen, settings, ports, console)
    else:
        console.print("\n[bold]4  Nothing is released[/]: no candidate was approved")
    reports = {}
    with ports.progress.step("reports"):
        for row in rows:
            checked = verification if row is chosen else None
            where = _where(row, settings, ports)
            (path,) = write_report(row.candidate, row.decision, dataset, ports, checked, where)
            reports[row.submission.version] = path
    _print_end(chosen, reports, settings, ports, console)


def _sealed_and_verified(row: Row, settings: Settings, ports: Ports, console: Console) -> Verification:
    for approver in APPROVERS:
        approve(row.decision, approver, ports, comment="demo")
    console.print(f"  approved by {' and '.join(APPROVERS)}, submitted by {row.submission.submitter}", highlight=False)
    with ports.progress.step("sign, attest, log, verify"):
        sealed = release(row.candidate, row.decision, ports)
    console.print(
        f"  sealed with {len(sealed.attestations)} attestations and records; "
        f"the MLflow alias {ALIAS!r} of {sealed.model} points to version {sealed.version}",
        highlight=False,
    )
    folder, key = release_folder(ports, row.submission), settings.store / "keys" / "release.pub"
    trust = TrustRoot.load(key)
    found = verify(folder / "release", folder / "attest", trust=trust, at=ports.clock.now())
    print_verification(console, "verified from its folder and the public key alone", found)
    for note in found.notes:
        console.print(f"    note: {note}", style="dim", highlight=False)
    with tempfile.TemporaryDirectory(prefix="auditsvc-") as scratch:
        copy = Path(scratch) / "copy"
        shutil.copytree(folder, copy)
        flip_one_byte(copy / "release" / "model.safetensors")
        broken = verify(copy / "release", copy / "attest", trust=trust, at=ports.clock.now())
    print_verification(console, "a copy with one byte flipped", broken)
    return found


def flip_one_byte(path: Path) -> None:
    """Change the last bit of the byte in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _where(row: Row, settings: Settings, ports: Ports) -> dict[str, str]:
    folder, key = release_folder(ports, row.submission), settings.store / "keys" / "release.pub"
    asked = f"auditsvc gate {row.submission.model} {row.submission.version} --store {settings.store}"
    released = {"Verify": f"auditsvc verify {folder} --key {key}"} if folder.exists() else {}
    return {"Ask the gate": asked, **released}


def _print_end(
    chosen: Row | None, reports: dict[str, Path], settings: Settings, ports: Ports, console: Console
) -> None:
    console.print("\n[bold]Where everything lies[/]")
    lines = {"store": settings.store, "ledger": settings.store / "ledger.db", "MLflow": settings.mlflow}
    if chosen is not None:
        lines["release"] = release_folder(ports, chosen.submission)
    for label, place in lines.items():
        console.print(f"  {label:<8} {place}", highlight=False, soft_wrap=True)
    for version, path in reports.items():
        first = "  <- open this first" if chosen is not None and version == chosen.submission.version else ""
        console.print(f"  report   {path}{first}", highlight=False, soft_wrap=True)
    console.print(f"\nNext: [bold]auditsvc serve --store {settings.store}[/]", soft_wrap=True, highlight=False)
