"""The page of a decision: every rule with its evidence, the approvals, and the buttons that the caller may use.

Revocation and rollback of the release each take two people.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from fastapi import Request
from starlette.responses import HTMLResponse, Response

from auditsvc.compliance.report.summary import next_step
from auditsvc.errors import Conflict, NotApproved, NotFound
from auditsvc.ports import Ledger
from auditsvc.records import (
    AliasMove,
    Approval,
    Candidate,
    Decision,
    Monitoring,
    Objection,
    Policy,
    Release,
    Revocation,
    RevocationRequest,
    RollbackRequest,
    Submission,
    Waiver,
    person_key,
)
from auditsvc.services.decisions import report_folder
from auditsvc.services.objections import open_objections
from auditsvc.services.release import waived_by
from auditsvc.services.revocation import pending_revocation, pending_rollback
from auditsvc.services.terms import audited_data, open_alarm, past_decisions, require_binding
from auditsvc.web.auth.authentication import Router, site_of
from auditsvc.web.auth.token_store import Caller
from auditsvc.web.pages.candidate import judged, pictures_of, released_version
from auditsvc.web.pages.overview import consent_of
from auditsvc.web.pages.policies import report_files
from auditsvc.web.record_routes import ADigest, form_route
from auditsvc.web.rendering import page
from auditsvc.web.state import ProjectState
from auditsvc.web.v1 import decisions, releases

router = Router(include_in_schema=False)


@dataclass(frozen=True)
class ReleaseAction:
    """A revocation or a rollback on the page: its button, what it does, and who requested it already."""

    path: str
    name: str
    title: str
    effect: str
    pending: RevocationRequest | RollbackRequest | None
    allowed: bool


def release_actions(site: ProjectState, release: Release | None, caller: Caller) -> list[ReleaseAction]:
    """What can be done about a release that is not revoked, and whether the caller can do it."""
    ledger = site.ledger
    if release is None or ledger.find(Revocation, release.digest):
        return []

    def action(name: str, effect: str, pending: RevocationRequest | RollbackRequest | None) -> ReleaseAction:
        own = pending is not None and person_key(pending.requested_by) == person_key(caller.name)
        path = f"/releases/{release.digest}/{name}s"
        return ReleaseAction(path, name, name.capitalize(), effect, pending, caller.may("approver") and not own)

    found = [action("revocation", "The release must no longer be used.", pending_revocation(ledger, release))]
    moves = ledger.find(AliasMove, release.model)
    at = moves[-1].version if moves else None
    if at != release.version:
        effect = f"The registry alias moves from {f'version {at}' if at else 'no version'} to this version."
        found.append(action("rollback", effect, pending_rollback(ledger, release)))
    return found


def _step(
    found: Decision,
    counts: str,
    submission: Submission,
    release: Release | None,
    missing: int,
    objections: tuple[Objection, ...],
) -> str:
    """What happens next, and who does it; why a decision can't be acted on comes first."""
    if counts and found.outcome == "approved" and not release:
        return counts[:1].upper() + counts[1:]
    objector = objections[0].person if objections else ""
    released = release is not None
    return next_step(found, submission.submitter, missing=missing, released=released, objector=objector)


@router.get("/decisions/{digest}", needs="reader")
def decision_page(request: Request, digest: ADigest) -> HTMLResponse:
    """The verdict, what happens next, the map of losses, images, and every rule with its findings."""
    site = site_of(request)
    ledger, caller = site.ledger, request.state.caller
    found = ledger.get(Decision, digest)
    candidate, submission = ledger.get(Candidate, found.candidate), _submission(site, found)
    policy = ledger.get(Policy, found.policy)
    approvals = ledger.find(Approval, digest)
    known = ledger.find(Release, digest)
    newest = [one for one in ledger.find(Decision, f"{found.candidate}|{found.policy}") if one.supersedes(found)][-1]
    release = known[-1] if known else None
    revocations = ledger.find(Revocation, release.digest) if release else ()
    objections = open_objections(ledger, found)
    counts = _counts(ledger, found)
    missing = max(0, consent_of(ledger, found).approvals - len(approvals))
    no_review = "" if release else _no_review(caller, found, submission, approvals, ledger)
    can_decide = found.outcome == "approved" and not counts and not release
    folder = report_folder(site.folder, digest, submission.model, submission.version)
    step = _step(found, counts, submission, release, missing, objections)
    return page(
        request,
        "decision.html",
        "/",
        decision=found,
        submission=submission,
        policy=policy,
        judged=judged(site, found, submission),
        pictures=pictures_of(folder),
        files=report_files(folder),
        released=released_version(ledger, candidate),
        place=f"/reports/{submission.model}/{submission.version}/{folder.name}",
        approvals=approvals,
        missing=missing,
        objections=ledger.find(Objection, digest),
        next_step="Revoked: it must not be used." if revocations else step,
        no_review=no_review,
        data=audited_data(ledger, found),
        past=[one for one in past_decisions(ledger, candidate)[::-1] if one.decision != digest],
        alarm=open_alarm(ledger, release) if release else None,
        waivers=ledger.find(Waiver, found.candidate),
        release=release,
        actions=release_actions(site, release, caller),
        revocations=revocations,
        monitoring=[one for _, one in ledger.page(Monitoring, subject=release.digest)] if release else (),
        newest=newest,
        may_approve=can_decide and not no_review and not objections and missing > 0,
        may_object=can_decide and caller.may("approver"),
        own_objection=[one for one in objections if person_key(one.person) == person_key(caller.name)],
        may_waive=caller.may("approver") and person_key(caller.name) != person_key(submission.submitter),
        may_release=can_decide and caller.may("auditor") and not missing and not objections,
        tomorrow=(site.clock.now() + datetime.timedelta(days=1)).date(),
    )


def _no_review(
    caller: Caller, decision: Decision, submission: Submission, approvals: tuple[Approval, ...], ledger: Ledger
) -> str:
    """Why the caller has no button to approve; empty if nothing is against it."""
    key = person_key(caller.name)
    if not caller.may("approver"):
        who = f"you are signed in as {caller.role}" if caller.token else "you are not signed in"
        return f"Approve and Reject need the role approver; {who}."
    if key == person_key(submission.submitter):
        return "You submitted this version, so other people approve it."
    if any(person_key(one.approver) == key for one in approvals):
        return "You approved this decision."
    if key in waived_by(ledger, decision):
        return "You waived a rule of this decision, so other people approve it."
    return ""


def _counts(ledger: Ledger, decision: Decision) -> str:
    """Why this decision can't be approved or released now; empty if it can."""
    try:
        require_binding(ledger, decision)
    except (Conflict, NotApproved) as error:
        return str(error)
    return ""


def _submission(site: ProjectState, found: Decision) -> Submission:
    submissions = site.ledger.find(Submission, found.candidate)
    if not submissions:
        raise NotFound("the candidate of this decision was never submitted")
    return submissions[-1]


@router.get("/decisions/{digest}/report", needs="reader")
def decision_report(request: Request, digest: ADigest) -> Response:
    """The report of the version that this decision is about."""
    site = site_of(request)
    submission = _submission(site, site.ledger.get(Decision, digest))
    return releases.report_of(site, digest, submission.model, submission.version)


def _of_release(request: Request, digest: str) -> str:
    return f"/decisions/{site_of(request).ledger.get(Release, digest).decision}"


def _of_decision(_: Request, digest: str) -> str:
    return f"/decisions/{digest}"


for _what, _create in (("revocations", releases.create_revocation), ("rollbacks", releases.create_rollback)):
    form_route(router, f"/releases/{{digest}}/{_what}", "approver", _create, releases.ReleaseActionRequest, _of_release)
for _what, _needs, _create, _draft in (
    ("approvals", "approver", decisions.create_approval, decisions.ApprovalRequest),
    ("objections", "approver", decisions.create_objection, decisions.ObjectionRequest),
    ("waivers", "approver", decisions.create_waiver, decisions.WaiverRequest),
    ("release", "auditor", decisions.create_release, None),
):
    form_route(router, f"/decisions/{{digest}}/{_what}", _needs, _create, _draft, _of_decision)
