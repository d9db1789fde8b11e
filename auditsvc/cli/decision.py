"""``approve``, ``reject``, ``waive``, ``release``, ``revoke``, ``rollback``: the decisions of named people.

``status``, ``list`` and ``show``: what needs people, the versions of a model, and one version in ten lines.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from auditsvc.cli.output import Json, Model, Person, Store, Version, context_for, print_json, print_lines, print_result
from auditsvc.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from auditsvc.ports import Context
    from auditsvc.records import Candidate, Record, Release, Rollback, RollbackRequest, Submission
    from auditsvc.records.decision import ObjectionState

RequestedBy = Annotated[
    str | None, typer.Option(help="Who requested it, where the request was not made with this command.")
]


def candidate_of(ctx: Context, model: str, version: str) -> Candidate:
    """The candidate that was submitted as this version.  Raises ``NotFound``."""
    from auditsvc.records import Candidate
    from auditsvc.services.gate_query import submitted_as

    return ctx.ledger.get(Candidate, submitted_as(ctx.ledger, model, version).candidate)


def approve(
    model: Model, version: Version, person: Person, comment: str = "", store: Store = None, json: Json = False
) -> None:
    """Approve the newest decision on a version.  Its submitter can't."""
    from auditsvc.services.decisions import approve as record_approval
    from auditsvc.services.decisions import latest_decision

    ctx = context_for(store, create=True, quiet=json)
    approval = record_approval(ctx, latest_decision(ctx, candidate_of(ctx, model, version)), person, comment)
    print_result(json, approval, f"{person} approved {model} version {version} ({approval.decision})")


def reject(
    model: Model,
    version: Version,
    person: Person,
    reason: Annotated[str, typer.Option(help="Why; it is recorded, and the submitter acts on it.")],
    changes: Annotated[bool, typer.Option("--changes", help="Request changes instead.")] = False,
    withdraw: Annotated[bool, typer.Option("--withdraw", help="Withdraw your own objection.")] = False,
    store: Store = None,
    json: Json = False,
) -> None:
    """Reject the newest decision on a version, with a reason.  It can't be approved or released until you withdraw."""
    from auditsvc.services.decisions import latest_decision
    from auditsvc.services.objections import object_to

    if changes and withdraw:
        raise InvalidInput("give --changes or --withdraw, not both")
    ctx = context_for(store, create=True, quiet=json)
    decision = latest_decision(ctx, candidate_of(ctx, model, version))
    state: ObjectionState = "withdrawn" if withdraw else "changes requested" if changes else "rejected"
    made = object_to(ctx, decision, person, state, reason)
    print_result(json, made, f"{made.words}: {model} version {version}")


def waive(
    model: Model,
    version: Version,
    rule: Annotated[str, typer.Option(help="The rule that is waived.")],
    reason: Annotated[str, typer.Option(help="Why; it is printed in every report.")],
    until: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="The last day on which it is valid.")],
    person: Person,
    store: Store = None,
    json: Json = False,
) -> None:
    """Waive one open rule of one version, in your name, until a date.  Audit again for a new decision."""
    from auditsvc.services.decisions import latest_decision
    from auditsvc.services.decisions import waive as record_waiver

    ctx = context_for(store, create=True, quiet=json)
    decision = latest_decision(ctx, candidate_of(ctx, model, version))
    waiver = record_waiver(ctx, decision, rule, person, reason, until.date())
    print_result(json, waiver, f"{person} waived {rule} of {model} version {version} until {waiver.until}")


def release(model: Model, version: Version, store: Store = None, json: Json = False) -> None:
    """Sign, attest and log an approved version.  The alias ``approved`` moves to it last."""
    from auditsvc.records import Submission
    from auditsvc.services.decisions import latest_decision
    from auditsvc.services.release import release as seal
    from auditsvc.services.release import release_folder

    ctx = context_for(store, create=True, quiet=json)
    candidate = candidate_of(ctx, model, version)
    with ctx.progress.step("sign, attest, log, verify"):
        sealed = seal(ctx, candidate, latest_decision(ctx, candidate))
    folder = release_folder(ctx, ctx.ledger.find(Submission, candidate.digest)[0], sealed.decision)
    print_result(json, sealed, f"released {model} version {version}: {folder}")


def revoke(
    model: Model,
    version: Version,
    person: Person,
    reason: Annotated[str | None, typer.Option(help="Why the release must no longer be used.")] = None,
    requested_by: RequestedBy = None,
    store: Store = None,
    json: Json = False,
) -> None:
    """Request the revocation of a release with a reason, or confirm the request of another person."""
    from auditsvc.records import RevocationRequest
    from auditsvc.services import release as releases
    from auditsvc.services.revocation import request_or_confirm_revocation

    ctx = context_for(store, create=True, quiet=json)
    sealed = _sealed(ctx, model, version)
    made: Record
    if requested_by is None:
        made = request_or_confirm_revocation(ctx, sealed, person, reason)
    elif reason is None:
        raise InvalidInput("--requested-by needs --reason")
    else:
        made = releases.revoke(ctx, sealed, reason, requested_by, person)
    words = f"{person} requested the revocation of {model} version {version}; another person must confirm it"
    print_result(json, made, words if isinstance(made, RevocationRequest) else f"revoked {model} version {version}")


def rollback(
    model: Model,
    person: Person,
    reason: Annotated[str | None, typer.Option(help="Why; the ledger records it.")] = None,
    requested_by: RequestedBy = None,
    version: Annotated[
        str | None, typer.Option(help="The version to roll back to. [default: the newest other release]")
    ] = None,
    rehearse: Annotated[
        bool, typer.Option("--rehearse", help="Time the rollback without moving the alias; needs --requested-by.")
    ] = False,
    store: Store = None,
    json: Json = False,
) -> None:
    """Move the alias back to an earlier release that still verifies: request it with a reason, or confirm it.

    Nothing is revoked.
    """
    from auditsvc.records import RollbackRequest
    from auditsvc.services.revocation import request_or_confirm_rollback, roll_back

    ctx = context_for(store, create=True, quiet=json)
    made: Rollback | RollbackRequest
    with ctx.progress.step("verify the earlier release"):
        if requested_by and reason:
            made = roll_back(ctx, model, version, reason, requested_by, person, rehearse=rehearse)
        elif requested_by or rehearse or version is None:
            raise InvalidInput("give --version to request or confirm a rollback, or --requested-by with --reason")
        else:
            made = request_or_confirm_rollback(ctx, _sealed(ctx, model, version), person, reason)
    if json:
        print_json(made)
    elif isinstance(made, RollbackRequest):
        print(f"{person} requested the rollback of {model} to version {version}; another person must confirm it")
    else:
        what = "can roll back" if rehearse else "rolled back"
        print(f"{model} {what} from version {made.found or 'none'} to {made.version}, in {made.took_ms / 1000:.1f} s")


def _sealed(ctx: Context, model: str, version: str) -> Release:
    from auditsvc.records import Release

    known = ctx.ledger.find(Release, f"{model}/{version}")
    if not known:
        raise NotFound(f"{model} version {version} was never released")
    return known[-1]


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
