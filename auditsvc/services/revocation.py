"""Revocation and rollback in two steps: one person requests it with a reason, another person confirms it.

A request is a record in the ledger, so the API, the pages and the command line share it. It is pending until the
``Revocation`` or ``Rollback`` that it leads to is in the ledger.
"""

from __future__ import annotations

from auditsvc.errors import Conflict, InvalidInput
from auditsvc.ports import Context, Ledger
from auditsvc.records import Release, Revocation, RevocationRequest, Rollback, RollbackRequest, person_key


def pending_revocation(ledger: Ledger, release: Release) -> RevocationRequest | None:
    """The request to revoke this release that is not confirmed yet."""
    if ledger.find(Revocation, release.digest):
        return None
    return next(iter(ledger.find(RevocationRequest, release.digest)), None)


def pending_rollback(ledger: Ledger, release: Release) -> RollbackRequest | None:
    """The request to roll back to this release that is not confirmed yet."""
    rollbacks = [item for item in ledger.find(Rollback, release.digest) if not item.rehearsal]
    last = max((item.at for item in rollbacks), default=None)
    requests = ledger.find(RollbackRequest, release.digest)
    return next((item for item in requests if last is None or item.at > last), None)


def requesters(pending: RevocationRequest | RollbackRequest | None) -> tuple[str, ...]:
    """Who requested what another person has to confirm; empty for the first request."""
    return () if pending is None else (pending.requested_by,)


def request_or_confirm_revocation(
    ctx: Context, release: Release, person: str, reason: str | None
) -> RevocationRequest | Revocation:
    """Request that a release is revoked, or confirm the request of another person.

    A release that is revoked already gives its revocation.

    Raises:
        InvalidInput: the first request has no reason.
        Conflict: the person who requested it can't confirm it.
    """
    from auditsvc.services.release import revoke

    done = ctx.ledger.find(Revocation, release.digest)
    if done:
        return done[0]
    pending = pending_revocation(ctx.ledger, release)
    if pending is None:
        reason = _required(reason, "revocation")
        request = RevocationRequest(release=release.digest, reason=reason, requested_by=person, at=ctx.clock.now())
        ctx.ledger.append(request, actor=person)
        return request
    _require_second_person(pending, person)
    return revoke(ctx, release, pending.reason, pending.requested_by, person)


def request_or_confirm_rollback(
    ctx: Context, release: Release, person: str, reason: str | None
) -> RollbackRequest | Rollback:
    """Request that the alias goes back to this release, or confirm the request of another person.

    Raises:
        InvalidInput: the first request has no reason.
        Conflict: the person who requested it can't confirm it, or the release has the alias already.
        NotApproved: the gate no longer approves the release, or it does not verify.
    """
    from auditsvc.services.rollback import roll_back

    pending = pending_rollback(ctx.ledger, release)
    if pending is None:
        reason = _required(reason, "rollback")
        request = RollbackRequest(release=release.digest, reason=reason, requested_by=person, at=ctx.clock.now())
        ctx.ledger.append(request, actor=person)
        return request
    _require_second_person(pending, person)
    return roll_back(ctx, release.model, release.version, pending.reason, pending.requested_by, person)


def _required(reason: str | None, what: str) -> str:
    if reason is None or not reason.strip():
        raise InvalidInput(f"the first request for this {what} needs a reason")
    return reason


def _require_second_person(pending: RevocationRequest | RollbackRequest, person: str) -> None:
    if person_key(pending.requested_by) == person_key(person):
        raise Conflict(f"{person} requested this; another person must confirm it")
