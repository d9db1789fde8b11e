"""The demo: from a parent to a verified release, with the decisions and findings printed on the way.

Every step reuses the results of an earlier run, so an interrupted demo continues where it stopped.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap

from rich.console import Console
from rich.table import Table
from rich.text import Text

from auditsvc.bootstrap import open_context
from auditsvc.datasets import Dataset
from auditsvc.demo.case_data import HERE, DemoCase, case_named
from auditsvc.ports import Context, Progress
from auditsvc.provenance import TrustRoot, verify
from auditsvc.records import (
    OVERALL,
    Candidate,
    Measured,
    Parent,
    Policy,
    Submission,
    Unmeasured,
    Verification,
)
from auditsvc.services.audit import AuditResult, audit_candidate
from auditsvc.services.audit_summary import LABEL, short_summary
from auditsvc.services.candidates import prune_candidate, register_parent, submit
from auditsvc.services.decisions import approve
from auditsvc.services.ownership import write_ownership
from auditsvc.services.policies import resolve_policy
from auditsvc.services.registry import ALIAS
from auditsvc.services.release import release, release_folder
from auditsvc.services.reporting import write_report
from auditsvc.services.terms import TermsDraft, binding_terms, confirm_terms, propose_terms
from auditsvc.settings import Settings

_STYLES = {"approved": "bold green", "rejected": "bold red", "inconclusive": "bold yellow"}


@dataclass(frozen=True)
class Row:
    """One candidate with its submission and its audit."""

    candidate: Candidate
    submission: Submission
    audit: AuditResult


def decisions_table(rows: Sequence[Row]) -> Table:
    """One line for each candidate."""
    table = Table(caption_justify="left", box=None, padding=(0, 2, 1, 0), pad_edge=False, show_edge=False)
    for title in ("", "recipe", "right,\noverall", "lost against\nthe parent", "worst loss", "decision"):
        table.add_column(title, no_wrap=True)
    for row in rows:
        table.add_row(
            row.submission.version.rjust(2),
            _recipe(row.candidate),
            _shown(_reading(row, "score.clean", OVERALL)),
            _shown(_reading(row, "drop.clean", OVERALL), points=True),
            _worst(row),
            Text(row.audit.decision.outcome, style=_STYLES[row.audit.decision.outcome]),
        )
    table.caption = (
        f"\nIn percent and points; below each number its interval: {_levels(rows)}.\n"
        "Worst loss: the judged slice and condition furthest down.\n"
        "Sparsity is a share of the layers that may be pruned, zeros of all parameters."
    )
    return table


def _levels(rows: Sequence[Row]) -> str:
    """The confidence of each end of the intervals: higher for a candidate after one that was not approved."""
    first, *more = sorted({f"{100 * (1 - item.key.alpha):.4g} %" for row in rows for item in row.audit.evidence})
    return f"{first} for each end" + (f", {more[-1]} after a version that was not approved" if more else "")


def _recipe(candidate: Candidate) -> str:
    if candidate.recipe is None:
        return "pruned elsewhere"
    targets = ", ".join(f"{name} {value:g}" for name, value in candidate.recipe.targets.items())
    zeros = 100 * (1 - candidate.card["nonzero"] / candidate.card["parameters"])
    return f"{candidate.recipe.method.replace('-', chr(10))}\n{targets}\n{zeros:.0f} % zeros"


def _reading(row: Row, metric: str, slice_name: str) -> Measured | Unmeasured:
    for item in row.audit.evidence:
        if item.key.check == "accuracy":
            return item.reading(metric, slice_name)
    return Unmeasured(reason="accuracy was not measured")


def _shown(outcome: Measured | Unmeasured, *, points: bool = False) -> str:
    if isinstance(outcome, Unmeasured):
        return "not known"
    sign = "+" if points else ""
    return f"{100 * outcome.value:{sign}.1f}\n{100 * outcome.low:{sign}.1f} to {100 * outcome.high:{sign}.1f}"


def _in_line(outcome: Measured | Unmeasured, points: bool) -> str:
    if isinstance(outcome, Unmeasured):
        return f"not known: {outcome.reason}"
    scale, unit = (100, " points") if points else (1, "")
    value, low, high = (f"{scale * one:.2f}" for one in (outcome.value, outcome.low, outcome.high))
    return f"{value}{unit} ({low} to {high}; {outcome.images} {'images' if points else 'turns'})"


def _worst(row: Row) -> str:
    """The judged slice and condition with the largest loss."""
    runs = {item.digest: item for item in row.audit.evidence}
    losses = []
    for item in row.audit.decision.judgements:
        check, _, name = item.metric.partition("/")
        if item.evidence in runs and check != "adversarial" and isinstance(item.outcome, Measured):
            metric = runs[item.evidence].metric(name)
            if metric.role == "loss" and metric.condition:
                losses.append((item.outcome, item.slice, metric.title.partition(", ")[2]))
    if not losses:
        return "not known"
    outcome, slice_name, condition = max(losses, key=lambda found: found[0].value)
    return "\n".join((_shown(outcome, points=True), slice_name, *wrap(condition or "unmodified images", 17)))


def print_findings(console: Console, row: Row, policy: Policy) -> None:
    """The summary of one candidate's decision: what is against it, and what is not known."""
    done, version = row.audit, f"version {row.submission.version}"
    first, *lines = short_summary(
        done.decision, policy, done.evidence, version, [f"{item.key.check}: {item.error}" for item in done.failures]
    )
    outcome, _, rest = first.partition(" on ")[0].partition(":")
    console.print(f"  [{_STYLES[done.decision.outcome]}]{outcome}[/]:{rest}", highlight=False)
    for line in lines:
        grid = Table.grid(padding=(0, 1))  # further lines of a text keep to its own column
        grid.add_column(width=LABEL + 3)
        grid.add_column(overflow="fold")
        grid.add_row(Text(f"    {line[: LABEL + 2].strip()}"), Text(line[LABEL + 2 :]))
        console.print(grid)


def print_verification(console: Console, title: str, found: Verification) -> None:
    """The verdict, and every reason where it is not VALID."""
    style = "bold green" if found.verdict == "VALID" else "bold red"
    held = sum(step.ok for step in found.steps)
    console.print(f"  {title}: [{style}]{found.verdict}[/] ({held} of {len(found.steps)} steps held)", highlight=False)
    for step in found.reasons:
        console.print(f"    {step.code}: {step.detail}", highlight=False)


PRICES = HERE / "prices.yaml"
SUBMITTER, APPROVERS = "demo-submitter", ("demo-approver-1", "demo-approver-2")


def run_demo(name: str, policy: Policy, settings: Settings, progress: Progress, console: Console) -> tuple[Row, ...]:
    """Run one case from end to end; the rows of its table."""
    case = case_named(name)
    console.print(f"[bold]auditsvc demo[/]: {case.opening}")
    console.print(f"  Not for: {case.facts['not_for']}\n", style="dim", highlight=False)
    ctx = open_context(settings, progress=progress, create=True)
    console.print("[bold]1  The dense parent[/]")
    parent, parent_version = register_parent(ctx, case.parent(settings.store / "demo"), case.facts)
    console.print(
        f"  registered as {parent.model} version {parent_version}: {parent.source}; {parent.licence}", highlight=False
    )
    dataset = ctx.datasets.open(case.audited)
    _set_terms(ctx, parent, policy, dataset, console)
    made = _prune(ctx, case, parent, parent_version, console)
    rows = _audit(ctx, made, policy, dataset, console)
    console.print()
    console.print(decisions_table(rows))
    for row in rows:
        print_findings(console, row, policy)
    _release(ctx, rows, dataset, settings, console)
    return rows


def _set_terms(ctx: Context, parent: Parent, policy: Policy, dataset: Dataset, console: Console) -> None:
    """Two people set what binds the model, before there is a candidate."""
    terms = binding_terms(ctx.ledger, parent.model)
    if terms is None or terms.objections_to(policy.digest, (dataset.ref.digest,)):
        draft = TermsDraft(datasets=(dataset.ref.digest,), parents=(parent.digest,), reason="the demo")
        proposal = propose_terms(ctx, parent.model, policy, draft, APPROVERS[0])
        terms = confirm_terms(ctx, proposal, APPROVERS[1])
    console.print(
        f"  terms: {terms.policy_name} on {dataset.ref.name} ({dataset.ref.images} images), "
        f"{terms.approvals} approvals; "
        f"proposed by {terms.proposed_by}, confirmed by {terms.confirmed_by}",
        highlight=False,
        soft_wrap=True,
    )


def _prune(
    ctx: Context, case: DemoCase, parent: Parent, parent_version: str, console: Console
) -> list[tuple[Candidate, Submission]]:
    console.print("[bold]2  Prune, watermark, reload in a clean process, submit[/]")
    calibration = ctx.datasets.open(case.calibration)
    made = []
    for recipe in case.recipes:
        with ctx.progress.step(f"{recipe.method} {recipe.targets['sparsity']:.0%}"):
            # the first is the one that is expected to ship
            candidate = prune_candidate(ctx, parent, recipe, calibration, onnx=recipe == case.recipes[0])
            made.append((candidate, submit(ctx, candidate, parent_version, SUBMITTER)))
    return made


def _audit(
    ctx: Context, made: list[tuple[Candidate, Submission]], policy: Policy, dataset: Dataset, console: Console
) -> tuple[Row, ...]:
    named = f"policy {policy.policy} version {policy.version}"
    console.print(f"[bold]3  Audit next to the parent[/] on {dataset.ref.images} images, {named}")
    rows = []
    for candidate, submission in made:
        console.print(f"  version {submission.version}", highlight=False)
        done = audit_candidate(ctx, candidate, policy, dataset, formats=())
        rows.append(Row(candidate, submission, done))
    return tuple(rows)


def _release(ctx: Context, rows: tuple[Row, ...], dataset: Dataset, settings: Settings, console: Console) -> None:
    """Release the smallest approved candidate; write every report."""
    approved = [row for row in rows if row.audit.decision.outcome == "approved"]
    verification: Verification | None = None
    chosen = min(approved, key=lambda row: row.candidate.card["nonzero"]) if approved else None
    if chosen is not None:
        console.print(f"\n[bold]4  Release version {chosen.submission.version}[/]")
        verification = _sealed_and_verified(ctx, chosen, settings, console)
    else:
        console.print("\n[bold]4  Nothing is released[/]: no candidate was approved")
    reports = {}
    with ctx.progress.step("reports"):
        for row in rows:
            checked = verification if row is chosen else None
            where = _where(ctx, row, settings)
            (path,) = write_report(ctx, row.candidate, row.audit.decision, dataset, checked, where)
            reports[row.submission.version] = path
    if chosen is not None:
        reports["cost"] = _deployed(ctx, chosen, dataset, reports[chosen.submission.version].parent, console)
    _print_end(ctx, chosen, reports, settings, console)


def _deployed(ctx: Context, row: Row, dataset: Dataset, folder: Path, console: Console) -> Path:
    """Measure the files that ship in their runtimes, beside the binding decision; the buyer's page."""
    console.print("\n[bold]5  What ships, in the runtimes that run it[/]: policy deployment, a trial")
    done = audit_candidate(ctx, row.candidate, resolve_policy("deployment"), dataset, formats=())
    for judged in done.decision.judgements:
        if judged.slice == OVERALL and not judged.metric.startswith("runtimes/margin"):
            points = judged.metric.startswith("runtimes/")
            console.print(f"  {judged.metric}: {_in_line(judged.outcome, points)}", highlight=False)
    page, _ = write_ownership(ctx, row.submission.model, row.submission.version, PRICES, folder / "cost")
    return page


def _sealed_and_verified(ctx: Context, row: Row, settings: Settings, console: Console) -> Verification:
    for approver in APPROVERS:
        approve(ctx, row.audit.decision, approver, comment="demo")
    console.print(f"  approved by {' and '.join(APPROVERS)}, submitted by {row.submission.submitter}", highlight=False)
    with ctx.progress.step("sign, attest, log, verify"):
        sealed = release(ctx, row.candidate, row.audit.decision)
    console.print(
        f"  signed with {len(sealed.attestations)} attestations and records; "
        f"the MLflow alias {ALIAS!r} of {sealed.model} points to version {sealed.version}",
        highlight=False,
    )
    folder, key = release_folder(ctx, row.submission), settings.store / "keys" / "release.pub"
    trust = TrustRoot.load(key)
    found = verify(folder / "release", folder / "attest", trust=trust, at=ctx.clock.now())
    print_verification(console, "verified from its folder and the public key alone", found)
    for note in found.notes:
        console.print(f"    note: {note}", style="dim", highlight=False)
    with tempfile.TemporaryDirectory(prefix="auditsvc-") as scratch:
        copy = Path(scratch) / "copy"
        shutil.copytree(folder, copy)
        flip_one_byte(copy / "release" / "model.safetensors")
        broken = verify(copy / "release", copy / "attest", trust=trust, at=ctx.clock.now())
    print_verification(console, "a copy with one byte flipped", broken)
    return found


def flip_one_byte(path: Path) -> None:
    """Change the last bit of the byte in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _where(ctx: Context, row: Row, settings: Settings) -> dict[str, str]:
    folder, key = release_folder(ctx, row.submission), settings.store / "keys" / "release.pub"
    asked = f"auditsvc gate {row.submission.model} {row.submission.version} --store {settings.store}"
    released = {"Verify": f"auditsvc verify {folder} --key {key}"} if folder.exists() else {}
    return {"Ask the gate": asked, **released}


def _print_end(
    ctx: Context, chosen: Row | None, reports: dict[str, Path], settings: Settings, console: Console
) -> None:
    console.print("\n[bold]Where everything is[/]")
    lines = {"store": settings.store, "ledger": settings.store / "ledger.db", "MLflow": settings.mlflow_store}
    if chosen is not None:
        lines["release"] = release_folder(ctx, chosen.submission)
    for label, place in lines.items():
        console.print(f"  {label:<8} {place}", highlight=False, soft_wrap=True)
    for version, path in reports.items():
        first = "  <- open this first" if chosen is not None and version == chosen.submission.version else ""
        console.print(f"  report   {path}{first}", highlight=False, soft_wrap=True)
    console.print(f"\nNext: [bold]auditsvc serve --store {settings.store}[/]", soft_wrap=True, highlight=False)
