"""``statement`` and ``incident``: statements by named people with their reviews, and the register of incidents.

The commands call the same functions as the API and the pages, so the same rules apply.
"""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from auditsvc.cli.output import Json, Model, Person, Store, command_group, context_for, print_result
from auditsvc.errors import InvalidInput

if TYPE_CHECKING:
    from auditsvc.compliance.assessment.attestations import Answers, ChangePlan, ChangeVerdict, Document

statement_app = command_group(
    "Documents, questionnaire answers, change plans and change verdicts, each reviewed by a second person."
)
incident_app = command_group("Serious incidents with a model, their reports, and incident watches.")

Expires = Annotated[str, typer.Option(help="The last valid day, for example 2027-11-01.")]
When = Annotated[str, typer.Option(help="Date and time, for example 2026-11-26T14:30Z; UTC without a zone.")]
Words = Annotated[str, typer.Option("--description", help="What happened, what is planned, or how you watched.")]
CandidateDigest = Annotated[str | None, typer.Option(help="The candidate's digest, if it concerns one.")]


@statement_app.command("document")
def document(
    model: Model,
    kind: Annotated[str, typer.Option(help="The kind of document, for example doc.instructions.")],
    title: Annotated[str, typer.Option(help="The title.")],
    expires: Expires,
    person: Person,
    file: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="The file; it is stored by content.")
    ] = None,
    statement: Annotated[str, typer.Option(help="A written statement, instead of a file or in addition.")] = "",
    candidate: CandidateDigest = None,
    store: Store = None,
    json: Json = False,
) -> None:
    """Add a document or a written statement about a model."""
    from auditsvc.services.statements import DocumentDraft, add_document, parse_draft

    ctx = context_for(store)
    entry = ctx.blobs.put_file(file).model_dump() if file else None
    fields = {"model": model, "document": kind, "title": title, "expires": expires}
    rest = {"statement": statement, "candidate": candidate, "file": entry}
    _print_added(add_document(ctx, parse_draft(DocumentDraft, fields | rest), person), json)


@statement_app.command("answers")
def answers(
    model: Model,
    answer: Annotated[list[str], typer.Option(help="QUESTION=yes, no or unknown; repeat it for each question.")],
    expires: Expires,
    person: Person,
    reason: Annotated[list[str] | None, typer.Option(help="QUESTION=TEXT; optional, can be repeated.")] = None,
    store: Store = None,
    json: Json = False,
) -> None:
    """Answer the questionnaire about a model; a question that is left out is unknown."""
    from auditsvc.services.statements import AnswersDraft, add_answers, parse_draft

    fields = {"model": model, "answers": _pairs(answer), "reasons": _pairs(reason or []), "expires": expires}
    _print_added(add_answers(context_for(store), parse_draft(AnswersDraft, fields), person), json)


@statement_app.command("plan")
def plan(
    model: Model,
    method: Annotated[list[str], typer.Option(help="A pruning method, as in recipes; can be repeated.")],
    max_loss: Annotated[float, typer.Option(help="Maximum loss overall, as a fraction of 1.")],
    max_group_loss: Annotated[float, typer.Option(help="Maximum loss of any group, as a fraction of 1.")],
    description: Words,
    expires: Expires,
    person: Person,
    max_target: Annotated[list[str] | None, typer.Option(help="NAME=NUMBER, for example sparsity=0.5.")] = None,
    store: Store = None,
    json: Json = False,
) -> None:
    """Plan the pruning of a model and its limits; a later change within them counts as planned."""
    from auditsvc.services.statements import ChangePlanDraft, add_change_plan, parse_draft

    fields = {"model": model, "methods": method, "max_targets": _pairs(max_target or []), "max_loss": max_loss}
    fields |= {"max_loss_of_a_group": max_group_loss, "words": description, "expires": expires}
    _print_added(add_change_plan(context_for(store), parse_draft(ChangePlanDraft, fields), person), json)


@statement_app.command("verdict")
def verdict(
    candidate: Annotated[str, typer.Argument(help="The candidate's digest.")],
    verdict: Annotated[str, typer.Argument(help="planned, 'not substantial' or substantial.")],
    reason: Annotated[str, typer.Option(help="Why.")],
    person: Person,
    store: Store = None,
    json: Json = False,
) -> None:
    """Classify a change; a person decides this, not a test."""
    from auditsvc.services.statements import ChangeVerdictDraft, add_change_verdict, parse_draft

    draft = parse_draft(ChangeVerdictDraft, {"candidate": candidate, "verdict": verdict, "reason": reason})
    _print_added(add_change_verdict(context_for(store), draft, person), json)


@statement_app.command("review")
def review(
    kind: Annotated[str, typer.Argument(help="document, answers, plan or verdict.")],
    digest: Annotated[str, typer.Argument(help="The statement's digest; `auditsvc statement list` shows it.")],
    person: Person,
    store: Store = None,
    json: Json = False,
) -> None:
    """Review a statement of another person: you have read it and agree with it."""
    from auditsvc.compliance.assessment.attestations import Answers, ChangePlan, ChangeVerdict, Document
    from auditsvc.services.statements import review

    kinds: dict[str, type[Any]] = {
        "document": Document,
        "answers": Answers,
        "plan": ChangePlan,
        "verdict": ChangeVerdict,
    }
    if kind not in kinds:
        raise InvalidInput(f"no kind of statement {kind!r}; use {', '.join(kinds)}")
    _print_added(review(context_for(store), kinds[kind], digest, person), json)


@statement_app.command("list")
def list_statements(model: Model, store: Store = None, json: Json = False) -> None:
    """The statements about a model, with author and reviewer, oldest first."""
    from auditsvc.compliance.assessment.attestations import Answers, ChangePlan, ChangeVerdict, Document
    from auditsvc.records import Submission
    from auditsvc.services.statements import author_of

    ledger = context_for(store).ledger
    found: list[Document | Answers | ChangePlan | ChangeVerdict] = []
    found += [*ledger.find(Document, model), *ledger.find(Answers, model), *ledger.find(ChangePlan, model)]
    for candidate in {item.candidate for item in ledger.all(Submission) if item.model == model}:
        found += ledger.find(ChangeVerdict, candidate)
    found.sort(key=lambda one: one.at)
    lines = [f"{one.digest}  {one.kind} by {author_of(one)}, {_reviewed(one.reviewer)}" for one in found]
    statements = [one.model_dump(mode="json") | {"digest": one.digest, "kind": one.kind} for one in found]
    print_result(json, {"statements": statements}, *(lines or [f"there are no statements about {model}"]))


@incident_app.command("add")
def add_incident(
    model: Model,
    harm: Annotated[
        str,
        typer.Option(
            help="death, health, property or environment, fundamental rights, critical infrastructure, widespread."
        ),
    ],
    aware: When,
    description: Words,
    person: Person,
    candidate: CandidateDigest = None,
    store: Store = None,
    json: Json = False,
) -> None:
    """Register an incident; the deadline of Art. 73 is counted from --aware."""
    from auditsvc.services.incidents import IncidentDraft, add_incident
    from auditsvc.services.statements import parse_draft

    fields = {"model": model, "harm": harm, "aware": _moment(aware), "words": description, "candidate": candidate}
    made = add_incident(context_for(store), parse_draft(IncidentDraft, fields), person)
    due, reminder = made.due.isoformat(), made.reminder.isoformat()
    print_result(
        json,
        {"incident": made.digest, "due": due, "reminder": reminder},
        f"registered as {made.digest}",
        f"report it to the authority immediately; better before {reminder}",
        f"the period ends at {due}",
    )


@incident_app.command("report")
def report_incident(
    incident: Annotated[str, typer.Argument(help="The incident's digest; `auditsvc incident list` shows it.")],
    authority: Annotated[str, typer.Option(help="The authority that received the report.")],
    at: When,
    person: Person,
    reference: Annotated[str, typer.Option(help="The authority's case number.")] = "",
    store: Store = None,
    json: Json = False,
) -> None:
    """Record that an incident was reported to the authority; this stops the deadline."""
    from auditsvc.services.incidents import IncidentReport, report_incident
    from auditsvc.services.statements import parse_draft

    report = parse_draft(IncidentReport, {"authority": authority, "reference": reference, "reported": _moment(at)})
    made = report_incident(context_for(store), incident, report, person)
    late = made.reported is not None and made.reported > made.due
    words = f"registered as {made.digest}: reported to {authority}, {'late' if late else 'in time'}"
    print_result(json, {"incident": made.digest, "late": late}, words)


@incident_app.command("watch")
def watch_incidents(
    model: Model,
    since: Annotated[str, typer.Option(help="The first day, for example 2026-11-01.")],
    until: Annotated[str, typer.Option(help="The last day.")],
    description: Words,
    person: Person,
    store: Store = None,
    json: Json = False,
) -> None:
    """Record that you watched on these days and know of no incident other than those registered."""
    from auditsvc.services.incidents import WatchDraft, add_watch
    from auditsvc.services.statements import parse_draft

    fields = {"model": model, "since": since, "until": until, "words": description}
    made = add_watch(context_for(store), parse_draft(WatchDraft, fields), person)
    print_result(json, {"watch": made.digest}, f"registered as {made.digest}")


@incident_app.command("list")
def list_incidents(model: Model, store: Store = None, json: Json = False) -> None:
    """The incidents of a model with their deadlines, open ones first, and the last incident watch."""
    from auditsvc.compliance.assessment.attestations import Incident, Watch, current

    ctx = context_for(store)
    known = sorted(current(ctx.ledger.find(Incident, model)), key=lambda one: (one.reported is not None, one.due))
    watches, now = ctx.ledger.find(Watch, model), ctx.clock.now()
    lines = [] if known else [f"no incident of {model} is registered"]
    for one in known:
        due = f"due {one.due.isoformat()}"
        status = f"reported to {one.authority} {one.reported.isoformat()}" if one.reported else due
        overdue = "  OVERDUE" if one.reported is None and one.due < now else ""
        lines.append(f"{one.digest}  {one.harm}, aware since {one.aware.isoformat()}, {status}{overdue}\n  {one.words}")
    last = watches[-1] if watches else None
    lines.append(f"{last.person} watched from {last.since} to {last.until}" if last else "there is no incident watch")
    found = [one.model_dump(mode="json") | {"digest": one.digest, "due": one.due.isoformat()} for one in known]
    print_result(json, {"incidents": found, "watches": [one.model_dump(mode="json") for one in watches]}, *lines)


def _reviewed(reviewer: str | None) -> str:
    return f"reviewed by {reviewer}" if reviewer else "not reviewed"


def _print_added(record: Document | Answers | ChangePlan | ChangeVerdict, json: bool) -> None:
    fields = {"kind": record.kind, "digest": record.digest, "reviewer": record.reviewer or None}
    print_result(json, fields, f"{'reviewed' if record.reviewer else 'added'}: {record.digest}")


def _pairs(options: list[str]) -> dict[str, str]:
    """``NAME=VALUE`` options as a mapping."""
    faults = [f"{option!r} is not NAME=VALUE" for option in options if "=" not in option]
    if faults:
        raise InvalidInput("an option is not valid", faults)
    return {name.strip(): value.strip() for name, _, value in (option.partition("=") for option in options)}


def _moment(text: str) -> datetime.datetime:
    try:
        found = datetime.datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidInput(f"{text!r} is not a date and time; write for example 2026-11-26T14:30Z") from error
    return found if found.tzinfo else found.replace(tzinfo=datetime.UTC)
