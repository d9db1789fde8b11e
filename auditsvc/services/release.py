"""Release and revoke candidates, and attest rejections.  The alias moves only to what is signed, logged and verified.

``release`` lays out the files, signs and logs them (``provenance.sign_release`` verifies its own work), records the
release, and moves the alias last.  Killed at any point, the same call does the rest.

A rejection is signed, attested and logged too, so that it can't be removed unnoticed.  A rejected model gets no OMS
signature; its summary attestation says ``FAILED``, so no tool can mistake it for a release.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from auditsvc.errors import NotApproved, NotFound, Unavailable
from auditsvc.ports import Context, Ledger
from auditsvc.provenance import ReleaseInputs, sign_rejection, sign_release
from auditsvc.provenance.formats import release_layout
from auditsvc.records import (
    Approval,
    Candidate,
    Decision,
    Digest,
    Evidence,
    Moment,
    Release,
    Revocation,
    Submission,
    Waiver,
    digest_of,
    person_key,
)
from auditsvc.records.decision import missing_consent
from auditsvc.services.log_check import check_log
from auditsvc.services.objections import require_unopposed
from auditsvc.services.registry import clear_alias, set_alias
from auditsvc.services.signing_context import checkpoint_store_of, signing_services_of
from auditsvc.services.terms import decision_records, other_decisions, require_binding, same_answers


def attest_rejection(ctx: Context, candidate: Candidate, decision: Decision) -> tuple[Path, ...]:
    """Attest this rejection for every version under which the candidate was submitted; the folder of each.

    Doing it again finds what is done.

    Raises:
        InvalidInput: the decision approves.
        Conflict: the log does not continue what it has published.
        Unavailable: the disk, the keys or the log failed; run it again.
    """
    submissions = ctx.ledger.find(Submission, candidate.digest)
    if ctx.signing and submissions:
        ctx.signing.ask("rejection", decision.digest)
        return tuple(refusal_folder(ctx, submission, decision) for submission in submissions)
    written = []
    for submission in submissions:
        services = signing_services_of(ctx)
        folder = refusal_folder(ctx, submission, decision)
        sealing = decision_records(ReleaseInputs, ctx.ledger, submission.model, submission.version, candidate, decision)
        sign_rejection(folder, sealing, keys=ctx.keys, log=ctx.log, at=ctx.clock.now(), services=services)
        written.append(folder)
    return tuple(written)


def refusal_folder(ctx: Context, submission: Submission, decision: Decision) -> Path:
    """Where the attestations of one rejection lie: in ``refusal`` under this."""
    name = decision.digest.removeprefix("sha256:")[:16]
    return ctx.folder / "refusals" / submission.model / submission.version / name


def release_folder(ctx: Context, submission: Submission, decision: Digest | None = None) -> Path:
    """The folder of a release: ``release/`` (the files), ``attest/`` (what is signed about them).

    A version that is released again under another decision, for instance after a new audit, gets a folder next to the
    first, which stays unchanged.  Without ``decision`` it is the newest release.
    """
    first = ctx.folder / "releases" / submission.model / submission.version
    if decision is None:
        known = ctx.ledger.find(Release, f"{submission.model}/{submission.version}")
        if not known:
            return first
        decision = known[-1].decision
    if _held_in(first) in (None, decision):
        return first
    return first.with_name(f"{first.name}-{decision.removeprefix('sha256:')[:16]}")


def _held_in(folder: Path) -> Digest | None:
    """The decision whose release is in this folder, finished or not."""
    for attestations in (folder / release_layout.ATTEST, folder / f"{release_layout.ATTEST}.partial"):
        if (attestations / release_layout.DECISION).is_file():
            return digest_of((attestations / release_layout.DECISION).read_bytes())
    return None


def waived_by(ledger: Ledger, decision: Decision) -> frozenset[str]:
    """The keys of the people who waived a rule of this decision: they don't count as its approvers."""
    return frozenset(person_key(ledger.get(Waiver, digest).person) for digest in decision.waivers)


def release(ctx: Context, candidate: Candidate, decision: Decision) -> Release:
    """Seal an approved candidate, here or in the signer process, and move the alias to it.

    Raises:
        AuditError: as ``seal``.
        Unavailable: the registry failed; run it again.
    """
    if ctx.signing:
        sealed = ctx.ledger.get(Release, ctx.signing.ask("release", decision.digest))
    else:
        sealed = seal(ctx, candidate, decision)
    ctx.registry.tag(sealed.model, sealed.version, {"auditsvc.release": sealed.digest})
    set_alias(ctx, sealed.model, sealed.version, sealed.digest)
    return sealed


def seal(ctx: Context, candidate: Candidate, decision: Decision) -> Release:
    """Sign, log and record an approved candidate.

    Raises:
        NotApproved: the decision does not approve or isn't binding under the terms of the model, its evidence is too
            old, a waiver ended, or too few other people approved.
        Conflict: a newer decision supersedes this one, an objection is open, what was sealed does not verify,
            or the log does not continue what it has published.
        LogMismatch: the ledger does not follow from its log.
        Unavailable: a disk or the keys failed; run it again.
    """
    if candidate.only_predictions:
        raise NotApproved("predictions are not released; their decision is signed, and a model needs its files audited")
    submission = _submission(ctx, candidate)
    if revoked := revoked_release(ctx.ledger, candidate):
        raise NotApproved(
            f"this candidate was released as version {revoked.version} of {revoked.model} and revoked, or has a file "
            "that answers images in common with it; prune or mark, audit and submit another"
        )
    if decision.outcome != "approved":
        raise NotApproved(f"the decision is {decision.outcome}; only a decision that approves can be released")
    terms = require_binding(ctx.ledger, decision)
    behind = [decision, *filter(None, other_decisions(ctx.ledger, terms, decision).values())]
    for one in behind:
        require_unopposed(ctx.ledger, one)
    given = ctx.ledger.find(Approval, decision.digest)
    waived = waived_by(ctx.ledger, decision)
    lacking = missing_consent(terms, (one.approver for one in given if person_key(one.approver) not in waived))
    if lacking:
        raise NotApproved(f"{'; '.join(lacking)}; who submitted ({submission.submitter}) can't approve")
    folder = release_folder(ctx, submission, decision.digest)
    files = folder / "release"
    if not files.exists():
        ctx.blobs.checkout(candidate.files, files)
    services = signing_services_of(ctx)
    check_log(ctx).require()
    sealing = decision_records(ReleaseInputs, ctx.ledger, submission.model, submission.version, candidate, decision)
    if not ctx.ledger.find(Release, decision.digest):
        runs = [ctx.ledger.get(Evidence, digest) for one in behind for digest in one.evidence]
        _require_recent(runs, sealing.policy.max_age_days, ctx.clock.now())
    sealed = sign_release(folder, sealing, keys=ctx.keys, log=ctx.log, at=ctx.clock.now(), services=services)
    ctx.ledger.append(sealed, actor="auditsvc")
    return sealed


def revoked_release(ledger: Ledger, candidate: Candidate) -> Release | None:
    """A revoked release of this candidate, or of one with the same weights or runtime file; None if there is none."""
    released = (one for twin in same_answers(ledger, candidate) for one in ledger.find(Release, twin))
    return next((one for one in released if ledger.find(Revocation, one.digest)), None)


def _require_recent(evidence: Iterable[Evidence], most: int, at: Moment) -> None:
    """Refuse a first release on evidence that its policy does not count any more.  Raises ``NotApproved``."""
    age = at - min(run.finished for run in evidence)
    if age > datetime.timedelta(days=most):
        raise NotApproved(f"its evidence is {age.days} days old; the policy counts it for {most}: audit it again")


def _submission(ctx: Context, candidate: Candidate) -> Submission:
    known = ctx.ledger.find(Submission, candidate.digest)
    if not known:
        raise NotFound(f"the candidate {candidate.digest} was never submitted")
    return known[0]


def revoke(ctx: Context, sealed: Release, reason: str, requested_by: str, confirmed_by: str) -> Revocation:
    """Revoke a release: record the revocation, which the gate answers from then on, and then drop the alias.

    The log's checkpoint is published with it, so that its entry can't be removed from the log unseen.

    Raises:
        Conflict: one person can't both ask and confirm.
    """
    known = ctx.ledger.find(Revocation, sealed.digest)
    revocation = known[0] if known else Revocation(
        release=sealed.digest,
        reason=reason,
        requested_by=requested_by,
        confirmed_by=confirmed_by,
        at=ctx.clock.now(),
    )  # fmt: skip
    ctx.ledger.append(revocation, actor=confirmed_by)
    clear_alias(ctx, sealed.model, sealed.version, revocation.digest)
    ctx.registry.tag(sealed.model, sealed.version, {"auditsvc.revoked": reason[:200]})
    with suppress(Unavailable):  # too few witnesses: the next checkpoint has the entry too
        checkpoint_store_of(ctx).current()
    return revocation
