"""Revocation and rollback in two steps: one person requests it with a reason, another person confirms it.

A request is a record in the ledger, so the API, the pages and the command line share it. It is pending until the
``Revocation`` or ``Rollback`` that it leads to is in the ledger.

A rollback moves the alias to an earlier release, or rehearses that and measures the time.  It revokes nothing.  The
target is first verified as an outside reader would verify it, from its files and the public keys.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from auditsvc.errors import Conflict, InvalidInput, NotApproved, NotFound
from auditsvc.ports import Context, Ledger
from auditsvc.provenance import verify
from auditsvc.provenance.formats.release_layout import ATTEST
from auditsvc.records import (
    Release,
    Revocation,
    RevocationRequest,
    Rollback,
    RollbackRequest,
    Submission,
    Verification,
    person_key,
)
from auditsvc.services.gate_query import query_gate
from auditsvc.services.registry import ALIAS, alias_target, set_alias
from auditsvc.services.release import release_folder, revoke
from auditsvc.services.signing_context import trust_of


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


def roll_back(
    ctx: Context,
    model: str,
    version: str | None,
    reason: str,
    requested_by: str,
    confirmed_by: str,
    *,
    rehearse: bool = False,
) -> Rollback:
    """Move the alias back to this version, or to the newest earlier release that may still be used.

    ``rehearse`` does everything but move the alias.

    Raises:
        NotFound: the model has no other release, or none of this version.
        NotApproved: the gate does not say yes to it, or it does not verify.
        Conflict: one person can't both ask and confirm; or the version carries the alias already.
    """
    if person_key(requested_by) == person_key(confirmed_by):
        raise Conflict(f"{requested_by} requested it and can't confirm it too: another person must confirm it")
    started = time.monotonic()
    found = alias_target(ctx.ledger, model, ctx.registry.aliased(model, ALIAS))
    target = _target(model, version, found, ctx.ledger)
    answer = query_gate(ctx.ledger, model, target.version, at=ctx.clock.now())
    if answer.answer != "approved":
        raise NotApproved(f"{model} version {target.version} is {answer.answer}: {'; '.join(answer.reasons)}")
    _verified(ctx, target)
    made = Rollback(
        model=model,
        found=found,
        version=target.version,
        release=target.digest,
        reason=reason,
        requested_by=requested_by,
        confirmed_by=confirmed_by,
        rehearsal=rehearse,
        took_ms=round(1000 * (time.monotonic() - started)),
        at=ctx.clock.now(),
    )
    ctx.ledger.append(made, actor=confirmed_by)
    if not rehearse:
        set_alias(ctx, model, target.version, made.digest)
    return made


def _target(model: str, version: str | None, found: str | None, ledger: Ledger) -> Release:
    if version is not None and version == found:
        raise Conflict(f"{model} version {version} carries the alias {ALIAS} already")
    chosen = next((one for one in _earlier(model, found, ledger) if version in (None, one.version)), None)
    if chosen is None:
        what = f"version {version} of {model} is" if version else f"no other version of {model} is"
        raise NotFound(f"{what} a release that may still be used")
    return chosen


def _earlier(model: str, found: str | None, ledger: Ledger) -> Iterator[Release]:
    """Releases that may still be used, newest first, but for the one that carries the alias."""
    for one in reversed(ledger.find(Release, model)):
        if one.model == model and one.version != found and not ledger.find(Revocation, one.digest):
            yield one


def _verified(ctx: Context, target: Release) -> None:
    seen = verify_offline(ctx, target)
    if seen.verdict != "VALID":
        reasons = "; ".join(f"{step.code}: {step.detail}" for step in seen.reasons)
        raise NotApproved(
            f"{target.model} version {target.version} does not verify any more ({seen.verdict}): {reasons}"
        )


def verify_offline(ctx: Context, release: Release) -> Verification:
    """Verify a release as an outside reader does: from its files and the public keys alone."""
    submission = ctx.ledger.find(Submission, release.candidate)[0]
    folder = release_folder(ctx, submission, release.decision)
    return verify(folder / "release", folder / ATTEST, trust=trust_of(ctx), at=ctx.clock.now())
