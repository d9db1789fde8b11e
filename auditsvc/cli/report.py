"""``demo``, ``report`` and ``policy check``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from auditsvc.cli.output import (
    Json,
    Model,
    Store,
    Version,
    command_group,
    context_for,
    print_json,
    print_result,
    settings_for,
)
from auditsvc.errors import InvalidInput, Unavailable

if TYPE_CHECKING:
    from auditsvc.records import Verification

policy_app = command_group("Check, plan, compare and explain policies.")


def demo(
    case: Annotated[str, typer.Option(help="faces, digits or cells (a detector).")] = "faces",
    policy: Annotated[str, typer.Option(help="A shipped policy or a file. [default: the policy of the case]")] = "",
    store: Store = None,
    json: Json = False,
) -> None:
    """Run the main job on a real model and images that ship with it."""
    from rich.console import Console

    from auditsvc.adapters.structured_logs import ConsoleProgress
    from auditsvc.demo.case_data import case_named
    from auditsvc.demo.run import run_demo
    from auditsvc.ports import NoProgress
    from auditsvc.services.policies import resolve_policy

    console = Console(quiet=json)
    progress = NoProgress() if json else ConsoleProgress(console)
    rules = resolve_policy(policy or case_named(case).policy)
    rows = run_demo(case, rules, settings_for(store), progress, console)
    if json:
        versions = {row.submission.version: row.audit.decision.outcome for row in rows}
        print_json({"model": rows[0].submission.model, "decisions": versions, "store": str(settings_for(store).store)})


def report(
    model: Model,
    version: Version,
    data: Annotated[Path, typer.Option(help="The data set that was audited, for its images.")],
    formats: Annotated[
        list[str], typer.Option("--format", help="html, pdf, json, rules-csv, oscal, bom, ... or all; may be repeated.")
    ] = ["html"],  # noqa: B006 - typer reads the default, nothing changes it
    store: Store = None,
    json: Json = False,
) -> None:
    """Write the report of the newest decision again.  The same records give the same bytes."""
    from auditsvc.cli.decision import candidate_of
    from auditsvc.compliance.render import FORMATS
    from auditsvc.services.decisions import latest_decision
    from auditsvc.services.reporting import write_report

    ctx = context_for(store, create=True, quiet=json)
    candidate = candidate_of(ctx, model, version)
    decision, dataset = latest_decision(ctx, candidate), ctx.datasets.open(data)
    names = tuple(FORMATS) if "all" in formats else tuple(formats)
    unknown = sorted(set(names) - set(FORMATS))
    if unknown:
        raise InvalidInput(f"no report format {', '.join(unknown)}; there are: {', '.join(FORMATS)}, all")
    paths = write_report(ctx, candidate, decision, dataset, formats=names)
    print_result(json, {"reports": [str(path) for path in paths]}, *map(str, paths))


@policy_app.command("check")
def policy_check(
    policy: Annotated[str, typer.Argument(help="A policy file, or a shipped one by name.")], json: Json = False
) -> None:
    """Read a policy and report every fault with its line."""
    from auditsvc.services.policies import resolve_policy

    found = resolve_policy(policy)
    print_result(
        json,
        {"policy": found.policy, "version": found.version, "digest": found.digest},
        f"{found.policy} version {found.version}: {len(found.rules)} rules, {len(found.checks)} checks",
        f"  {found.digest}",
        *(f"  {rule.severity:<5} {rule.rule}: {rule.sentence()}" for rule in found.rules),
    )


def with_report(found: Verification, attest: Path, report: Path) -> Verification:
    """The verification with one more step; a number that is not in the evidence makes it INVALID.

    The records next to the release are those that the verification has just checked.

    Raises:
        InvalidInput: a file that is no report.
        Unavailable: a file that can't be read.
    """
    from pydantic import ValidationError

    from auditsvc.compliance.report.report_model import Report
    from auditsvc.compliance.report.report_numbers import check_report_numbers
    from auditsvc.provenance.formats.release_layout import DECISION, EVIDENCE
    from auditsvc.records import Decision, Evidence, Step

    try:
        read = Report.model_validate_json(report.read_bytes())
        decision = Decision.parse((attest / DECISION).read_bytes())
        evidence = [Evidence.parse(path.read_bytes()) for path in sorted((attest / EVIDENCE).glob("*.json"))]
    except OSError as error:
        raise Unavailable(f"{error.filename or report} can't be read: {error.strerror}") from error
    except ValidationError as error:
        raise InvalidInput(f"{report} is no report.json; the PDF has it attached") from error
    links = check_report_numbers(read, decision, evidence)
    detail = f"{links.correct} numbers equal their evidence"
    if links.unavailable:
        detail += f"; {links.unavailable} are based on records that this release does not contain"
    if links.faults:
        detail = "; ".join(links.faults[:5]) + (f"; and {len(links.faults) - 5} more" if len(links.faults) > 5 else "")
    step = Step(step="report", code="OK" if not links.faults else "REPORT_NUMBER", ok=not links.faults, detail=detail)
    verdict = "INVALID" if links.faults and found.verdict != "REVOKED" else found.verdict
    return found.model_copy(update={"steps": (*found.steps, step), "verdict": verdict})
