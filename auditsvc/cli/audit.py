"""``audit``: from a candidate to a decision."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from auditsvc.cli.decision import candidate_of
from auditsvc.cli.output import (
    Architecture,
    Classes,
    Confidence,
    ExpectAccuracy,
    Image,
    Json,
    Layout,
    Output,
    Prepared,
    Store,
    context_for,
    described_by,
    print_json,
    print_lines,
)
from auditsvc.errors import InvalidInput

if TYPE_CHECKING:
    from auditsvc.datasets import Dataset
    from auditsvc.ports import Context
    from auditsvc.records import Candidate, Policy
    from auditsvc.records.architecture import ModelDescription
    from auditsvc.services.audit import AuditResult, Repetition


def audit(
    data: Annotated[str | None, typer.Option(help="The data set. [default: that of audit.yaml]")] = None,
    model: Annotated[str | None, typer.Option(help="The model's name in the registry.")] = None,
    version: Annotated[str | None, typer.Option(help="A version that was submitted.")] = None,
    candidate: Annotated[
        str | None, typer.Option(help="Or: a model folder or an ONNX file that was pruned elsewhere.")
    ] = None,
    parent: Annotated[
        str | None, typer.Option(help="Its parent, with --candidate: a folder, an ONNX file, ...")
    ] = None,
    source: Annotated[str | None, typer.Option(help="Where the parent comes from.")] = None,
    licence: Annotated[str | None, typer.Option(help="The parent's licence.")] = None,
    person: Annotated[str | None, typer.Option("--as", help="Your name, as the ledger records it.")] = None,
    policy: Annotated[
        str | None,
        typer.Option(help="A policy file, or a shipped one by name. [default: the policy of the terms, or standard]"),
    ] = None,
    expect_accuracy: ExpectAccuracy = None,
    predictions: Annotated[
        Path | None, typer.Option(help="Or: a CSV or Parquet file with truth and both models' scores, or COCO results.")
    ] = None,
    parent_predictions: Annotated[Path | None, typer.Option(help="With COCO results: those of the parent.")] = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="Every finding, by rule.")] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Measure what was audited again and compare; nothing is recorded.")
    ] = False,
    mark: Annotated[
        Path | None,
        typer.Option(help="Watermark the candidate first, fitted to this data set, which is not the audited one."),
    ] = None,
    classes: Classes = None,
    image: Image = None,
    output: Output = None,
    decoding: Layout = None,
    confidence: Confidence = None,
    architecture: Architecture = None,
    preprocessing: Prepared = None,
    store: Store = None,
    json: Json = False,
) -> None:
    """Measure a candidate next to its parent, judge it and write its report.  Exit code as for ``gate``.

    Without --model and --data, audit.yaml of this folder says what to audit (auditsvc init); options win over it.
    """
    from auditsvc.services.audit import audit_again, audit_candidate
    from auditsvc.services.audit_file import NAME, read_audit_file
    from auditsvc.services.policies import resolve_policy, slice_dataset
    from auditsvc.services.terms import binding_terms

    options: dict[str, Any] = {"model": model, "data": data, "candidate": candidate, "parent": parent, "source": source,
               "licence": licence, "submitter": person, "policy": policy,
               "expect_accuracy": expect_accuracy}  # fmt: skip
    given = {name: value for name, value in options.items() if value is not None}
    if predictions is None and not {"model", "data"} <= given.keys():
        given = read_audit_file(Path(NAME)).model_dump(exclude_unset=True) | given
    ctx = context_for(store, create=True, quiet=json)
    if "model" not in given:
        raise InvalidInput("name the model with --model NAME")
    terms = binding_terms(ctx.ledger, given["model"])
    rules = resolve_policy(given.get("policy", terms.policy if terms else "standard"), ctx.ledger)
    if predictions is not None:
        from auditsvc.adapters.object_references import local_path
        from auditsvc.services.predictions import submit_predictions

        facts = {"model": given["model"], "source": source or "not stated", "licence": licence or "not stated"}
        images = local_path(Path(data)) if data else None
        chosen, dataset = submit_predictions(ctx, predictions, facts, _submitter(person), parent_predictions, images)
    else:
        dataset = ctx.datasets.open(Path(given["data"]))
        if version is not None and candidate is None:
            chosen = candidate_of(ctx, given["model"], version)
        else:
            slice_dataset(rules, dataset)  # a policy that does not fit is refused before the candidate is admitted
            described = described_by(
                dataset.ref.task, classes, image, output, decoding, confidence, architecture, preprocessing
            )
            chosen = _own(ctx, given, described, dataset, mark)
    if fresh:
        raise typer.Exit(_print_repetition(audit_again(ctx, chosen, rules, dataset), json=json))
    done = audit_candidate(ctx, chosen, rules, dataset, expected_accuracy=given.get("expect_accuracy"))
    _print_result(ctx, done, rules, json=json, verbose=verbose)
    raise typer.Exit({"approved": 0, "rejected": 1, "inconclusive": 3}[done.decision.outcome])


SHOWN = 5
"""Readings that differ, of each check."""


def _print_repetition(found: Repetition, *, json: bool) -> int:
    """Both results by check; exit code 1 where another verdict is given."""
    if json:
        print_json({**asdict(found), "same": found.same})
        return int(not found.same)
    for check, readings in found.readings.items():
        other = [one for one in found.differing if one[0].startswith(f"{check}/")]
        print(f"{check}: {readings} readings, {f'{len(other)} differ' if other else 'all equal to the last digit'}")
        for metric, place, before, now in other[:SHOWN]:
            print(f"  {metric} on {place}: {now}; the ledger has {before}")
    changed = f"{found.verdicts} rule evaluations with another verdict" if found.verdicts else "every verdict the same"
    print(f"measured again: {found.again} (in the ledger: {found.outcome}), {changed}")
    return int(not found.same)


def _own(
    ctx: Context, given: dict[str, Any], described: ModelDescription, dataset: Dataset, mark: Path | None
) -> Candidate:
    """The candidate of audit.yaml or of the options, admitted now."""
    from auditsvc.services.audit_file import admit_own, allow_own_code, audit_of

    plan = audit_of(given, described)
    for place in filter(None, (plan.parent, plan.candidate)):
        allow_own_code(plan.said(place), Path.cwd())
    return admit_own(ctx, plan, dataset, ctx.datasets.open(mark) if mark else None)


def _submitter(person: str | None) -> str:
    if person in (None, "nobody"):
        raise InvalidInput("say who submits the candidate with --as NAME; who submits can't approve")
    return str(person)


def _print_result(ctx: Context, done: AuditResult, policy: Policy, *, json: bool, verbose: bool) -> None:
    """The decision as a summary of about ten lines, or with every finding."""
    from auditsvc.records import Submission
    from auditsvc.services.audit_summary import LABEL, clean_scores, long_summary, short_summary

    decision, report = done.decision, str(done.reports[0]) if done.reports else ""
    submission = ctx.ledger.find(Submission, decision.candidate)[-1]
    if json:
        findings = [item.model_dump(mode="json", exclude_none=True) for item in decision.findings]
        print_json(
            {
                "model": submission.model,
                "version": submission.version,
                "decision": decision.digest,
                "outcome": decision.outcome,
                "trial": decision.trial,
                "terms": decision.terms,
                "policy": decision.policy,
                "data": [one.model_dump(mode="json") for one in decision.data or ()],
                "clean": {name: found.value for name, found in clean_scores(done.evidence).items()},
                "findings": findings,
                "obstacles": done.obstacles,
                "report": report,
            }
        )
        return
    summary = long_summary if verbose else short_summary
    subject, crashed = f"{submission.model} version {submission.version}", [item.key.check for item in done.failures]
    lines = [*summary(decision, policy, done.evidence, subject, crashed), f"  {'report':<{LABEL}}{report}"]
    if decision.findings and not verbose:
        lines.append(f"  {'all findings':<{LABEL}}auditsvc audit ... --verbose (measures nothing again)")
    print_lines(lines, LABEL + 2)
