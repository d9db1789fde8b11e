"""``status``, ``list`` and ``show``: what needs people, the versions of a model, and one version in ten lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from auditsvc.cli.output import Json, Model, Store, Version, context_for, print_lines, print_result

if TYPE_CHECKING:
    from auditsvc.ports import Context
    from auditsvc.records import Submission

Limit = Annotated[int, typer.Option(min=1, max=1000, help="How many, newest first.")]


def _versions(ctx: Context, model: str | None, limit: int) -> list[tuple[Submission, dict[str, Any]]]:
    """The newest versions with the gate's answer and what happens next."""
    from auditsvc.records import Submission
    from auditsvc.services.gate_query import query_gate

    found: list[tuple[Submission, dict[str, Any]]] = []
    for _, one in ctx.ledger.page(Submission, limit=1000 if model else limit):
        if model in (None, one.model) and len(found) < limit:
            answer = query_gate(ctx.ledger, one.model, one.version, at=ctx.clock.now())
            reason = (answer.review or next(iter(answer.reasons), "")).partition("\n")[0]
            row = {"model": one.model, "version": one.version, "answer": answer.answer, "reason": reason}
            found.append((one, row | {"released": answer.release is not None, "review": answer.review is not None}))
    return found


def list_(
    model: Annotated[str | None, typer.Argument(help="Only versions of this model.")] = None,
    limit: Limit = 20,
    store: Store = None,
    json: Json = False,
) -> None:
    """The newest submitted versions, with the gate's answer."""
    rows = [row for _, row in _versions(context_for(store), model, limit)]
    lines = [f"{row['model']} {row['version']:<4} {row['answer']:<13} {row['reason'][:90]}" for row in rows]
    print_result(json, {"versions": rows}, *(lines or ["no version was submitted yet; run `auditsvc prune` first"]))


def status(limit: Limit = 200, store: Store = None, json: Json = False) -> None:
    """What needs people: approvals, signatures, reviews, and jobs."""
    rows = [row for _, row in _versions(context_for(store), None, limit)]
    groups = {
        "awaiting approval or release": [row for row in rows if "approvals given" in row["reason"]],
        "needs review": [row for row in rows if row["review"]],
        "released": [row for row in rows if row["answer"] == "approved" and not row["review"]],
        "rejected": [row for row in rows if row["answer"] == "rejected"],
        "inconclusive or not audited": [
            row for row in rows if row["answer"] == "inconclusive" and "approvals given" not in row["reason"]
        ],
    }
    counts = {name: [f"{row['model']} {row['version']}" for row in found] for name, found in groups.items()}
    lines = [f"{len(found):>4}  {name:<29} {', '.join(found[:5])}" for name, found in counts.items() if found]
    print_result(json, {"status": counts}, *(lines or ["no version was submitted yet; run `auditsvc prune` first"]))


def show(model: Model, version: Version, store: Store = None, json: Json = False) -> None:
    """One version: the verdict in one sentence, what happens next, and its open rules."""
    from auditsvc.cli.decision import candidate_of
    from auditsvc.compliance.assessment.assessment_context import ReportInputs
    from auditsvc.compliance.report.sections import rules
    from auditsvc.compliance.report.summary import next_step, plain_verdict
    from auditsvc.records import Release
    from auditsvc.services.decisions import latest_decision
    from auditsvc.services.objections import open_objections
    from auditsvc.services.terms import binding_terms, decision_records

    ctx = context_for(store)
    candidate = candidate_of(ctx, model, version)
    decision = latest_decision(ctx, candidate)
    inputs = decision_records(ReportInputs, ctx.ledger, model, version, candidate, decision)
    wanted = binding_terms(ctx.ledger, model) or inputs.policy
    objections = open_objections(ctx.ledger, decision)
    step = next_step(
        decision,
        inputs.submitter,
        missing=wanted.approvals - len(inputs.approvals),
        released=bool(ctx.ledger.find(Release, decision.digest)),
        objector=objections[0].person if objections else "",
    )
    verdict = plain_verdict(decision, inputs.readings)
    parts = [part for part in rules(inputs) if part.counts.violated or part.counts.unknown]
    value = {"verdict": verdict, "next": step, "decision": decision.digest, "open_rules": [part.rule for part in parts]}
    if json:
        print_result(json, value)
        return
    print_lines([f"{model} {version}: {verdict}", step], indent=2)
    for part in parts[:7]:
        warning = " (warning)" if part.severity == "warn" else ""
        found = f"{part.counts.violated} violated, {part.counts.unknown} unknown of {len(part.rows)}"
        print(f"  {part.rule}{warning}: {found}")
