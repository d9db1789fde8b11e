"""Kinds of evidence that the records themselves are: identity, decision, approvals, signature, origin.

An event counts only with a verified signature; where nobody verified the release, the record is there and its
status says that its signature was not checked.
"""

from __future__ import annotations

from auditsvc.compliance.assessment.assessment_context import AssessmentContext
from auditsvc.compliance.assessment.framework import Status
from auditsvc.compliance.assessment.kind_state import KindState, state

UNSAID = frozenset({"", "unknown", "not stated", "none"})


def identity(dossier: AssessmentContext) -> KindState:
    """Digests of candidate and parent, recipe, and counted facts."""
    candidate = dossier.inputs.candidate
    names = (candidate.digest, dossier.inputs.parent.digest)
    missing = [what for what, there in (("recipe", candidate.recipe), ("counted facts", candidate.card)) if not there]
    if missing:
        return state("model.identity", "insufficient", f"no {' and no '.join(missing)} recorded", names)
    return state("model.identity", "supported", "digests of candidate and parent, recipe and counted facts", names)


def test_set(dossier: AssessmentContext) -> KindState:
    """The test set by digest; that it shares no image with the training data is not proved here."""
    sets = {run.dataset.digest: run.dataset for run in dossier.inputs.evidence}
    if not sets:
        return state("stat.testset", "missing", "no test set was used")
    told = "; ".join(f"{one.name}, {one.images} images" for one in sets.values())
    return state("stat.testset", "insufficient", f"{told}; no proof that the parent was not trained on them", sets)


test_set.__test__ = False  # type: ignore[attr-defined]


def ml_bom(dossier: AssessmentContext) -> KindState:
    """A bill of materials among the sealed files."""
    release = dossier.inputs.release
    sealed = (*release.files, *release.attestations) if release else ()
    found = [file.digest for file in sealed if file.name.endswith((".cdx.json", "bom.json"))]
    if not found:
        return state("sec.mlbom", "missing", "no bill of materials is sealed with the release")
    return state("sec.mlbom", *_signed(dossier, "a bill of materials is sealed with the release"), found)


def signature(dossier: AssessmentContext) -> KindState:
    """What the verification found."""
    found, release = dossier.inputs.verification, dossier.inputs.release
    if release is None:
        return state("integrity.signature", "missing", "nothing is sealed yet")
    statuses: dict[str, tuple[Status, str]] = {
        "VALID": ("supported", "the release was verified from its folder and public key"),
        "INVALID": ("unverified", "the release does not verify"),
        "REVOKED": ("contradicted", "the release was revoked"),
    }
    unseen: tuple[Status, str] = ("insufficient", "sealed, but its signature was not verified here")
    status, words = statuses.get(found.verdict, unseen) if found else unseen
    return state("integrity.signature", status, words, [release.digest])


def _signed(dossier: AssessmentContext, words: str) -> tuple[Status, str]:
    """An event is supported by a verified signature only."""
    status = signature(dossier).status
    if status == "supported":
        return "supported", words
    if status in {"unverified", "contradicted"}:
        return status, f"{words}, but the release that holds it does not verify"
    return "insufficient", f"{words}, but no verified signature covers it"


def origin(dossier: AssessmentContext) -> KindState:
    """Where the data come from; the parent's training data are not part of any record."""
    sets = {run.dataset.digest: run.dataset for run in dossier.inputs.evidence}
    unsaid = [one.name for one in sets.values() if one.source.strip().lower() in UNSAID]
    if not sets or unsaid:
        return state("data.provenance", "missing", f"no source for {', '.join(unsaid) or 'any data set'}", sets)
    words = "the test set names its source; the data that the parent was trained on are not on record"
    return state("data.provenance", "insufficient", words, sets)


def licences(dossier: AssessmentContext) -> KindState:
    """Licences of parent and test set; whether they go together is for a person to say."""
    sets = {run.dataset.digest: run.dataset for run in dossier.inputs.evidence}
    told = {f"parent {dossier.inputs.parent.model}": dossier.inputs.parent.licence}
    told |= {one.name: one.licence for one in sets.values()}
    names = (dossier.inputs.parent.digest, *sets)
    unsaid = [name for name, licence in told.items() if licence.strip().lower() in UNSAID]
    if unsaid:
        return state("data.licence", "missing", f"no licence for {', '.join(unsaid)}", names)
    listed = ", ".join(f"{name} {licence}" for name, licence in told.items())
    return state("data.licence", "insufficient", f"{listed}; nobody has judged whether they go together", names)


def policy(dossier: AssessmentContext) -> KindState:
    """The policy that was used; a policy is approved with the decision that names its digest."""
    rules = dossier.inputs.policy
    words = f"the decision names the policy {rules.policy}, version {rules.version}, by digest"
    return state("gov.policy", *_signed(dossier, words), [rules.digest])


def decided(dossier: AssessmentContext) -> KindState:
    """The decision, in order: after its evidence."""
    decision = dossier.inputs.decision
    late = [run.key.check for run in dossier.inputs.evidence if run.finished > decision.at]
    if late:
        return state("gov.decision", "contradicted", f"decided before {late[0]} was measured", [dossier.inputs.decided])
    return state(
        "gov.decision", *_signed(dossier, f"the decision “{decision.outcome}” is recorded"), [dossier.inputs.decided]
    )


def approvals(dossier: AssessmentContext) -> KindState:
    """Enough people other than the submitter, after the decision."""
    inputs = dossier.inputs
    names = [approval.digest for approval in inputs.approvals]
    people = {approval.approver for approval in inputs.approvals}
    if inputs.submitter and inputs.submitter in people:
        return state("gov.approval", "contradicted", f"{inputs.submitter} submitted and approved", names)
    if any(approval.at < inputs.decision.at for approval in inputs.approvals):
        return state("gov.approval", "contradicted", "approved before the decision was made", names)
    if len(people) < inputs.policy.approvals:
        return state(
            "gov.approval", "missing", f"{len(people)} of {inputs.policy.approvals} approvals are there", names
        )
    return state("gov.approval", *_signed(dossier, f"approved by {' and '.join(sorted(people))}"), names)


def waivers(dossier: AssessmentContext) -> KindState:
    """Waivers with owner, reason and end."""
    found = dossier.inputs.waivers
    names = [waiver.digest for waiver in found]
    if not found:
        return state("gov.waiver", "not_applicable", "no waiver was asked for")
    over = [waiver for waiver in found if dossier.today > waiver.until]
    if over:
        return state("gov.waiver", "stale", f"the waiver of {over[0].rule} ended on {over[0].until.isoformat()}", names)
    words = f"{len(found)} with owner, reason and end date; no measure that makes up for them is on record"
    return state("gov.waiver", "insufficient", words, names)
