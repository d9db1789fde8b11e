"""``approve``, ``waive``, ``release``, ``revoke``, ``rollback``: the decisions of named people."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from auditsvc.cli.output import Json, Model, Person, Store, Version, context_for, print_json
from auditsvc.errors import NotFound

if TYPE_CHECKING:
    from auditsvc.ports import Context
    from auditsvc.records import Candidate, Release


def candidate_of(ctx: Context, model: str, version: str) -> Candidate:
    """The candidate that was submitted as this version.  Raises ``NotFound``."""
    from auditsvc.records import Candidate, Submission

    known = ctx.ledger.find(Submission, f"{model}/{version}")
    if not known:
        raise NotFound(f"no candidate was submitted as {model} version {version}")
    return ctx.ledger.get(Candidate, known[-1].candidate)


def approve(
    model: Model, version: Version, person: Person, comment: str = "", store: Store = None, json: Json = False
) -> None:
    """Approve the newest decision on a version.  Its submitter can't."""
    from auditsvc.services.decisions import approve as record_approval
    from auditsvc.services.decisions import latest_decision

    ctx = context_for(store, create=True, quiet=json)
    approval = record_approval(ctx, latest_decision(ctx, candidate_of(ctx, model, version), None), person, comment)
    if json:
        print_json(approval)
    else:
        print(f"{person} approved {model} version {version} ({approval.decision})")


def waive(
    model: Model,
    version: Version,
    rule: Annotated[str, typer.Option(help="The rule that is waived.")],
    reason: Annotated[str, typer.Option(help="Why; it is printed in every report.")],
    until: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="The last day that it holds.")],
    person: Person,
    store: Store = None,
    json: Json = False,
) -> None:
    """Waive one open rule of one version, in your name, until a date.  Audit again for a new decision."""
    from auditsvc.services.decisions import latest_decision
    from auditsvc.services.decisions import waive as record_waiver

    ctx = context_for(store, create=True, quiet=json)
    decision = latest_decision(ctx, candidate_of(ctx, model, version), None)
    waiver = record_waiver(ctx, decision, rule, person, reason, until.date())
    if json:
        print_json(waiver)
    else:
        print(f"{person} waived {rule} of {model} version {version} until {waiver.until}")


def release(model: Model, version: Version, store: Store = None, json: Json = False) -> None:
    """Sign, attest and log an approved version.  The alias ``approved`` moves to it last."""
    from auditsvc.records import Submission
    from auditsvc.services.decisions import latest_decision
    from auditsvc.services.release import release as seal
    from auditsvc.services.release import release_folder

    ctx = context_for(store, create=True, quiet=json)
    candidate = candidate_of(ctx, model, version)
    with ctx.progress.step("sign, attest, log, verify"):
        sealed = seal(ctx, candidate, latest_decision(ctx, candidate, None))
    if json:
        print_json(sealed)
    else:
        submission = ctx.ledger.find(Submission, candidate.digest)[0]
        print(f"released {model} version {version}: {release_folder(ctx, submission, sealed.decision)}")


def revoke(
    model: Model,
    version: Version,
    reason: Annotated[str, typer.Option(help="Why it must not be used any longer.")],
    requested_by: Annotated[str, typer.Option(help="Who requests it.")],
    person: Person,
    store: Store = None,
    json: Json = False,
) -> None:
    """Revoke a release.  One person requests it, another confirms."""
    from auditsvc.services.release import revoke as revoke_release

    ctx = context_for(store, create=True, quiet=json)
    revocation = revoke_release(ctx, _sealed(ctx, model, version), reason, requested_by, person)
    if json:
        print_json(revocation)
    else:
        print(f"revoked {model} version {version}: {reason}")


def rollback(
    model: Model,
    reason: Annotated[str, typer.Option(help="Why; it is recorded in the ledger.")],
    requested_by: Annotated[str, typer.Option(help="Who requests it; the person who confirms must be another.")],
    person: Person,
    version: Annotated[
        str | None, typer.Option(help="The version to go back to. [default: the newest other release]")
    ] = None,
    rehearse: Annotated[
        bool, typer.Option("--rehearse", help="Do everything but move the alias, and time it.")
    ] = False,
    store: Store = None,
    json: Json = False,
) -> None:
    """Move the alias back to an earlier release that still verifies.  It revokes nothing."""
    from auditsvc.services.rollback import roll_back

    ctx = context_for(store, create=True, quiet=json)
    with ctx.progress.step("verify the earlier release"):
        made = roll_back(ctx, model, version, reason, requested_by, person, rehearse=rehearse)
    if json:
        print_json(made)
    else:
        what = "could go back" if rehearse else "went back"
        print(f"{model} {what} from version {made.found or 'none'} to {made.version}, in {made.took_ms / 1000:.1f} s")


def _sealed(ctx: Context, model: str, version: str) -> Release:
    from auditsvc.records import Release

    known = ctx.ledger.find(Release, f"{model}/{version}")
    if not known:
        raise NotFound(f"{model} version {version} was never released")
    return known[-1]
