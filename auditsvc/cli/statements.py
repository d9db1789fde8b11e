"""``incident``: the register of serious incidents with a model, and who watched for any."""

from __future__ import annotations

import datetime
from typing import Annotated, cast, get_args

import typer

from auditsvc.cli.output import Json, Model, Person, Store, context_for, print_json
from auditsvc.errors import InvalidInput

incident_app = typer.Typer(
    help="Serious incidents with a model, and who watched for any.", no_args_is_help=True, rich_markup_mode=None
)

Words = Annotated[str, typer.Option(help="What happened, or how you watched.")]
When = Annotated[str, typer.Option(help="Day and time, as 2026-11-26T14:30Z; without a zone it is UTC.")]


@incident_app.command("add")
def add(
    model: Model,
    harm: Annotated[
        str,
        typer.Option(
            help="death, health, property or environment, fundamental rights, critical infrastructure, widespread."
        ),
    ],
    aware: When,
    words: Words,
    person: Person,
    candidate: Annotated[str | None, typer.Option(help="The candidate's digest, if it is about one.")] = None,
    store: Store = None,
    json: Json = False,
) -> None:
    """Register an incident; the clock of Art. 73 starts when somebody knew of it (--aware)."""
    from auditsvc.compliance.assessment.attestations import Harm
    from auditsvc.services.statements import record_incident

    if harm not in get_args(Harm):
        raise InvalidInput(f"no harm {harm!r}; there are: {', '.join(get_args(Harm))}")
    ctx = context_for(store)
    made = record_incident(
        model, cast(Harm, harm), words, _moment(aware), person, candidate, ctx.ledger, ctx.clock.now()
    )
    if json:
        print_json({"incident": made.digest, "due": made.due.isoformat()})
        return
    print(f"registered as {made.digest}")
    print(f"due at the authority at the latest {made.due.isoformat()}; the law says immediately")


@incident_app.command("reported")
def reported(
    incident: Annotated[str, typer.Argument(help="The incident's digest; `auditsvc incident list` has it.")],
    authority: Annotated[str, typer.Option(help="Which authority was told.")],
    at: When,
    person: Person,
    reference: Annotated[str, typer.Option(help="The authority's own number for it.")] = "",
    store: Store = None,
    json: Json = False,
) -> None:
    """Register that the authority was told; it stops the clock."""
    from auditsvc.services.statements import reported_incident

    ctx = context_for(store)
    made = reported_incident(incident, authority, reference, _moment(at), person, ctx.ledger, ctx.clock.now())
    late = made.reported is not None and made.reported > made.due
    if json:
        print_json({"incident": made.digest, "late": late})
        return
    print(f"registered as {made.digest}: told {authority}{', after it was due' if late else ', in time'}")


@incident_app.command("watched")
def watched_for_any(
    model: Model,
    since: Annotated[str, typer.Option(help="First day, as 2026-11-01.")],
    until: Annotated[str, typer.Option(help="Last day.")],
    words: Words,
    person: Person,
    store: Store = None,
    json: Json = False,
) -> None:
    """Say that you watched in these days, and know of no incident beside those that are registered."""
    from auditsvc.services.statements import record_watch

    ctx = context_for(store)
    made = record_watch(model, _day(since), _day(until), words, person, ctx.ledger, ctx.clock.now())
    if json:
        print_json({"watch": made.digest})
        return
    print(f"registered as {made.digest}")


@incident_app.command("list")
def list_incidents(model: Model, store: Store = None, json: Json = False) -> None:
    """The incidents with a model and their deadlines, open ones first, and who watched last."""
    from auditsvc.compliance import Incident, Watch
    from auditsvc.compliance.assessment.attestations import current

    ctx = context_for(store)
    known = sorted(current(ctx.ledger.find(Incident, model)), key=lambda one: (one.reported is not None, one.due))
    watches, now = ctx.ledger.find(Watch, model), ctx.clock.now()
    if json:
        found = [one.model_dump(mode="json") | {"digest": one.digest, "due": one.due.isoformat()} for one in known]
        print_json({"incidents": found, "watches": [one.model_dump(mode="json") for one in watches]})
        return
    for one in known:
        told = f"told {one.authority} {one.reported.isoformat()}" if one.reported else f"due {one.due.isoformat()}"
        overdue = "  OVERDUE" if one.reported is None and one.due < now else ""
        print(f"{one.digest}  {one.harm}, known {one.aware.isoformat()}, {told}{overdue}\n  {one.words}")
    if not known:
        print(f"no incident with {model} is registered")
    if watches:
        print(f"{watches[-1].person} watched from {watches[-1].since} to {watches[-1].until}")
    else:
        print("nobody says that they watched for any")


def _moment(text: str) -> datetime.datetime:
    try:
        found = datetime.datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidInput(f"{text!r} is no day and time; write 2026-11-26T14:30Z") from error
    return found if found.tzinfo else found.replace(tzinfo=datetime.UTC)


def _day(text: str) -> datetime.date:
    try:
        return datetime.date.fromisoformat(text)
    except ValueError as error:
        raise InvalidInput(f"{text!r} is no day; write 2026-11-26") from error
