"""Roll back: move the alias to an earlier release that still verifies, or rehearse that and measure the time.

It revokes nothing: the version that had the alias stays a release.  The target is verified first as an outside reader
would, from its files and the public keys, and only then the alias moves.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from auditsvc.errors import Conflict, NotApproved, NotFound
from auditsvc.ports import Context, Ledger
from auditsvc.provenance import verify
from auditsvc.provenance.formats.release_layout import ATTEST
from auditsvc.records import Release, Revocation, Rollback, Submission, Verification, person_key
from auditsvc.services.alias import ALIAS, alias_target, set_alias
from auditsvc.services.gate_query import query_gate
from auditsvc.services.release import release_folder
from auditsvc.services.signing_context import trust_of


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
        raise Conflict(f"{requested_by} asked for it and can't confirm it too: another person must confirm it")
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
