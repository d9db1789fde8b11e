"""The status of one kind of evidence about one candidate.

``supported`` needs evidence about exactly this digest that is recent, has enough images and meets a limit fixed by a
rule before the measurement.  Everything less has its own status and a reason.  Records that are evidence themselves
(identity, decision, approvals, signature, incidents) count only where the signature of the release was verified.

Reference: Regulation (EU) 2024/1689, Art. 9, 15, 72 and 73; NIST AI 100-1 (2023), "AI Risk Management Framework".
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Sequence

from auditsvc.compliance.assessment.assessment_context import AssessmentContext, expiry
from auditsvc.compliance.assessment.attestations import Watch
from auditsvc.compliance.assessment.framework import WORST_FIRST, Status
from auditsvc.compliance.assessment.topics import topics_of
from auditsvc.records import OVERALL, Digest, Evidence, Judgement, Monitoring, Value, Watched


class KindState(Value):
    """One kind of evidence: its status, why, and the records that it rests on."""

    kind: str
    status: Status
    words: str
    records: tuple[Digest, ...] = ()


def state(kind: str, status: Status, words: str, records: Iterable[Digest] = ()) -> KindState:
    """One state in one line."""
    return KindState(kind=kind, status=status, words=words, records=tuple(records))


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


pass


def _incidents(dossier: AssessmentContext) -> KindState:
    """The register: every incident with its clock, or that somebody watched and knows of none."""
    known = dossier.register()
    if not known:
        status, words = unwatched(dossier.watches, dossier.today)
        return state("ops.incident", status, words, (one.digest for one in dossier.watches))
    waiting = [one for one in known if one.reported is None]
    words = f"{len(known)} registered, {len(waiting)} not reported yet"
    return state("ops.incident", "partly" if waiting else "supported", words, (one.digest for one in known))


ROLLBACK_DAYS = 365
"""Days for which a way back, gone or rehearsed, counts."""


def _rollback(dossier: AssessmentContext) -> KindState:
    """The newest way back, timed, and to which release."""
    newest = max(dossier.rollbacks, key=lambda one: one.at, default=None)
    if newest is None:
        return state("ops.rollback", "missing", "nobody has gone back to an earlier release, or rehearsed it")
    told = f"{'rehearsed' if newest.rehearsal else 'gone'} to version {newest.version} in {newest.took_ms / 1000:.1f} s"
    old = (dossier.today - newest.at.date()).days > ROLLBACK_DAYS
    words = f"{told} on {newest.at.date().isoformat()}{', too long ago' if old else ''}"
    return state("ops.rollback", "stale" if old else "supported", words, [newest.digest])


MONITORING_DAYS = 92
"""Days for which a look at a release in use counts."""


def _newest_look(dossier: AssessmentContext) -> Monitoring | None:
    """The newest look at this candidate in use; None where nobody has looked."""
    about = [one for one in dossier.monitorings if one.candidate == dossier.inputs.candidate.digest]
    return max(about, key=lambda one: one.at, default=None)


def _monitored(dossier: AssessmentContext) -> KindState:
    """That somebody looks at the release while it is in use, and when last."""
    newest = _newest_look(dossier)
    if newest is None:
        return state("ops.monitoring", "missing", "nobody has looked at this release since it is in use")
    old = (dossier.today - newest.at.date()).days > MONITORING_DAYS
    told = f"last on {newest.at.date().isoformat()}, with {newest.dataset.images} images of {newest.dataset.name}"
    return state(
        "ops.monitoring", "stale" if old else "supported", f"{told}{', too long ago' if old else ''}", [newest.digest]
    )


_FOUND: dict[Watched, Status] = {"steady": "supported", "worse": "contradicted", "unknown": "insufficient"}


def _drift(dossier: AssessmentContext) -> KindState:
    """What the newest look found on newer images."""
    newest = _newest_look(dossier)
    if newest is None:
        return state("ops.drift", "missing", "nobody has looked at this release since it is in use")
    told = newest.reasons[0] if newest.reasons else "every rule that was asked again holds, and nothing fell"
    old = (dossier.today - newest.at.date()).days > MONITORING_DAYS
    return state(
        "ops.drift",
        "stale" if old else _FOUND[newest.outcome],
        f"{newest.at.date().isoformat()}: {told}",
        [newest.digest],
    )


RECORDED: dict[str, Callable[[AssessmentContext], KindState]] = {
    "model.identity": identity,
    "stat.testset": test_set,
    "sec.mlbom": ml_bom,
    "integrity.signature": signature,
    "data.provenance": origin,
    "data.licence": licences,
    "gov.policy": policy,
    "gov.decision": decided,
    "gov.approval": approvals,
    "gov.waiver": waivers,
    "ops.incident": _incidents,
    "ops.rollback": _rollback,
    "ops.monitoring": _monitored,
    "ops.drift": _drift,
}
"""Kinds that the records themselves are, each with the function that looks at them."""

MEASURES = {"robust.lighting": "robust.corruption"}
"""Topics that a framework knows under another kind."""


def worst(statuses: Iterable[Status]) -> Status:
    """The first of ``WORST_FIRST`` that occurs; nothing at all is ``not_assessed``."""
    found = set(statuses)
    return next((status for status in WORST_FIRST if status in found), "not_assessed")


def kind_state(kind: str, dossier: AssessmentContext) -> KindState:
    """How one kind of evidence stands on this day."""
    if kind in RECORDED:
        return RECORDED[kind](dossier)
    if kind.startswith("screen."):
        return _screen(kind, dossier)
    if kind.startswith("doc.") or kind in {"data.consent", "gov.risk_register"}:
        return _papers(kind, dossier)
    return _measured(kind, dossier)


def _measured(kind: str, dossier: AssessmentContext) -> KindState:
    runs = {digest: run for digest, run in dossier.inputs.runs.items() if _is(kind, digest, dossier)}
    if not runs:
        crashed = [failed.digest for failed in dossier.failed if kind.partition(".")[2] in failed.key.check]
        reason = "the check crashed" if crashed else "no check of this kind was run on this candidate"
        return state(kind, "missing", reason, crashed)
    old = [run for run in runs.values() if dossier.today > expiry(run, dossier.inputs.policy.max_age_days)]
    if old:
        return state(kind, "stale", f"measured on {old[0].finished.date().isoformat()}, too long ago", runs)
    judged = [
        line
        for line in dossier.inputs.decision.judgements
        if line.evidence in runs and _about(kind, line, runs[line.evidence])
    ]
    if not judged:
        return state(kind, "insufficient", "measured, but no rule fixed a limit beforehand", runs)
    return state(kind, *_verdict(judged), runs)


def _is(kind: str, digest: Digest, dossier: AssessmentContext) -> bool:
    return kind in {MEASURES.get(topic, topic) for topic in topics_of(dossier.inputs.runs[digest])}


def _about(kind: str, line: Judgement, run: Evidence) -> bool:
    metric = run.metric(line.metric.rpartition("/")[2])
    if kind == "fairness.slices":
        return line.slice != OVERALL
    if kind == "perf.delta_vs_parent":
        return metric.role == "loss"
    if kind == "perf.accuracy":
        return line.slice == OVERALL and metric.role in ("score", None) and metric.kind != "difference"
    return True


def _verdict(judged: Sequence[Judgement]) -> tuple[Status, str]:
    violated = [line for line in judged if line.verdict == "violated" and not line.waiver]
    unknown = [line for line in judged if line.verdict == "unknown" and not line.waiver]
    waived = [line for line in judged if line.verdict != "met" and line.waiver]
    if violated:
        return "contradicted", f"misses the limit on {_places(violated)}"
    if unknown:
        return "insufficient", f"too little is known on {_places(unknown)}"
    if waived:
        return "waived", f"waived on {_places(waived)}"
    return "supported", f"meets every limit that was fixed ({len(judged)} lines)"


def _places(lines: Sequence[Judgement]) -> str:
    names = list(dict.fromkeys(f"{line.slice} ({line.metric.rpartition('/')[2]})" for line in lines))
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _papers(kind: str, dossier: AssessmentContext) -> KindState:
    found = dossier.documents_of(kind)
    names = [document.digest for document in found]
    if not found and kind == "doc.change_plan" and (plan := dossier.latest_plan()):
        status: Status = "stale" if dossier.today > plan.expires else "attested" if plan.reviewer else "partly"
        return state(
            kind, status, f"change plan by {plan.person}, reviewed by {plan.reviewer or 'nobody'}", [plan.digest]
        )
    if not found and kind == "doc.change_assessment" and (word := dossier.latest_verdict()):
        return state(kind, "attested" if word.reviewer else "partly", f"{word.person}: {word.verdict}", [word.digest])
    if not found:
        return state(kind, "missing", "nobody has handed in such a document")
    expired = [document for document in found if dossier.today > document.expires]
    if expired:
        return state(kind, "stale", f"“{expired[0].title}” expired on {expired[0].expires.isoformat()}", names)
    alone = [document for document in found if not document.reviewer]
    if alone:
        return state(kind, "partly", f"“{alone[0].title}” by {alone[0].owner} was reviewed by nobody else", names)
    first = found[0]
    return state(kind, "attested", f"“{first.title}” by {first.owner}, reviewed by {first.reviewer}", names)


def _screen(kind: str, dossier: AssessmentContext) -> KindState:
    answers = dossier.latest_answers()
    if answers is None:
        return state(kind, "not_assessed", "nobody has answered the questionnaire")
    names = [answers.digest]
    if dossier.today > answers.expires:
        return state(kind, "stale", f"the answers of {answers.person} expired on {answers.expires.isoformat()}", names)
    asked = [question for question in dossier.questionnaire.questions if question.screen == kind]
    given = [answers.answer(question) for question in asked]
    if kind == "screen.prohibited" and "yes" in given:
        rows = ", ".join(q.row for q, answer in zip(asked, given, strict=True) if answer == "yes")
        return state(kind, "contradicted", f"{answers.person} declared a prohibited use: {rows}", names)
    if "unknown" in given:
        return state(kind, "not_assessed", f"{given.count('unknown')} of {len(given)} questions are open", names)
    if not answers.reviewer:
        return state(kind, "partly", f"{answers.person} answered all {len(given)} questions, reviewed by nobody", names)
    words = f"{answers.person} answered all {len(given)} questions, reviewed by {answers.reviewer}"
    return state(kind, "attested", words, names)


WATCH_DAYS = 31
"""Days after its end for which somebody's word that nothing happened still counts."""


def unwatched(watches: Iterable[Watch], today: datetime.date) -> tuple[Status, str]:
    """How a register without incidents stands: what the newest watch says."""
    newest = max(watches, key=lambda one: (one.until, one.at), default=None)
    if newest is None:
        return "missing", "no incident is registered, and nobody says that they watched for any"
    period = f"{newest.person} watched from {newest.since} to {newest.until}"
    if (today - newest.until).days > WATCH_DAYS:
        return "stale", f"{period}, too long ago"
    return "not_applicable", f"0 incidents; {period}"
