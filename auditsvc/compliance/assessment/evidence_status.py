"""The status of one kind of evidence about one candidate, and the topics that tests cover.

``supported`` needs evidence about exactly this digest that is recent, has enough images and meets a limit fixed by a
rule before the measurement.  Everything less has its own status and a reason.  Records that are evidence themselves
(identity, decision, approvals, signature, incidents) count only where the signature of the release was verified.

A topic is a kind of evidence of ``policies/frameworks``.  Evidence covers the topics that its check declares, and no
others, so that a report can state what was *not* tested.

Reference: Regulation (EU) 2024/1689, Art. 9, 15, 72 and 73; NIST AI 100-1 (2023), "AI Risk Management Framework".
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Sequence

from auditsvc.compliance.assessment.assessment_context import AssessmentContext, expiry
from auditsvc.compliance.assessment.attestations import Watch
from auditsvc.compliance.assessment.framework import WORST_FIRST, Status
from auditsvc.records import OVERALL, Digest, Evidence, Judgement, Measured, Monitoring, Value, Watched
from auditsvc.records.licences import Use, reviewed

TOPICS = {
    "ip.watermark": "ownership watermark",
    "robust.adversarial": "deliberate attacks",
    "robust.lighting": "lighting",
    "robust.occlusion": "occlusion",
    "robust.corruption": "noise and blur",
    "robust.shift": "other cameras",
    "robust.ood": "images outside its use",
    "perf.calibration": "confidence",
    "perf.latency": "speed",
    "env.energy": "energy",
    "explain.attribution": "explanations",
    "privacy.membership": "privacy",
    "sec.backdoor": "back doors",
    "sec.extraction": "model extraction",
    "perf.accuracy": "accuracy",
    "fairness.slices": "differences between groups",
}
"""Kinds of evidence with their titles, in the order in which a report lists them."""

_TITLES = {kind: title.capitalize() for kind, title in TOPICS.items()} | {
    "doc.authorised_rep": "Mandate of the authorised representative",
    "doc.dpia": "Data protection impact assessment",
    "doc.fria": "Fundamental rights impact assessment",
    "doc.pmm_plan": "Post-market monitoring plan",
    "doc.tech_file": "Technical documentation",
    "meta.gate_selftest": "Self-test of the gate",
    "perf.delta_vs_parent": "Loss against the parent",
    "privacy.membership": "Membership inference",
    "repro.rerun": "Independent rerun",
    "screen.high_risk": "Questionnaire: high-risk uses",
    "screen.prohibited": "Questionnaire: prohibited uses",
    "screen.role": "Questionnaire: your role",
    "screen.transparency": "Questionnaire: transparency",
    "sec.artifact_scan": "Scan of model files",
    "sec.mlbom": "Bill of materials",
    "sec.vuln": "Known vulnerabilities in dependencies",
    "stat.testset": "Test set",
}


def kind_title(kind: str) -> str:
    """The title of a kind of evidence, as reports print it: ``doc.incident_plan`` is ``Incident plan``."""
    return _TITLES.get(kind) or kind.partition(".")[2].replace("_", " ").capitalize() or kind


_ACCURACY = ("perf.accuracy", "perf.delta_vs_parent", "fairness.slices")
_BEFORE_DECLARATIONS: dict[str, tuple[str, ...]] = {
    "accuracy": _ACCURACY,
    "adversarial": ("robust.adversarial",),
    "average_precision": ("perf.accuracy",),
    "calibration": ("perf.calibration",),
    "corruption": ("robust.corruption",),
    "damage": ("perf.delta_vs_parent", "fairness.slices"),
    "domain_shift": ("robust.shift",),
    "fairness": ("fairness.slices",),
    "lighting": ("robust.lighting",),
    "objects": ("perf.accuracy",),
    "occlusion": ("robust.occlusion",),
    "regions": ("perf.accuracy",),
    "tracks": ("perf.accuracy",),
    "transcription": ("perf.accuracy",),
    "watermark": ("ip.watermark",),
}
"""The topics of the checks of version 0.1.0, whose evidence carries no declarations, by their exact ids."""

NEVER_TESTED = ("the system around the model and the people who use it", "images unlike those of the test set")
"""What no check of a model can test; printed in every report."""


def topics_of(evidence: Evidence) -> tuple[str, ...]:
    """The kinds of evidence that the run's check declared; empty for a check that declared none."""
    if evidence.declared is None:
        return _BEFORE_DECLARATIONS.get(evidence.key.check, ())
    return evidence.declared.topics


def topic_title(evidence: Evidence) -> str:
    """The title under which a report lists the run: that of its first topic, else the check's id."""
    kinds = topics_of(evidence)
    return next((title for kind, title in TOPICS.items() if kind in kinds), evidence.key.check)


def covered(evidence: tuple[Evidence, ...]) -> frozenset[str]:
    """The declared kinds of evidence for which at least one number was measured; of groups, on a group."""
    kinds: set[str] = set()
    for run in evidence:
        slices = {reading.slice for reading in run.readings if isinstance(reading.outcome, Measured)}
        kinds |= {kind for kind in topics_of(run) if slices - ({OVERALL} if kind == "fairness.slices" else set())}
    return frozenset(kinds)


def untested(evidence: tuple[Evidence, ...], *, timed: bool = False) -> tuple[str, ...]:
    """The titles of the topics for which nothing was measured, in order; ``timed``: there is a record of latency."""
    known = covered(evidence) | ({"perf.latency"} if timed else set())
    return tuple(title for kind, title in TOPICS.items() if kind not in known)


class EvidenceStatus(Value):
    """One kind of evidence: its status, the reason, and the records that it is based on."""

    kind: str
    status: Status
    message: str
    records: tuple[Digest, ...] = ()


def state(kind: str, status: Status, message: str, records: Iterable[Digest] = ()) -> EvidenceStatus:
    """An evidence status with its records."""
    return EvidenceStatus(kind=kind, status=status, message=message, records=tuple(records))


_OLD = ", too long ago to count"

NOT_STATED = frozenset({"", "unknown", "not stated", "none"})


def identity(context: AssessmentContext) -> EvidenceStatus:
    """Digests of candidate and parent, recipe, and counted facts."""
    candidate = context.inputs.candidate
    names = (candidate.digest, context.inputs.parent.digest)
    missing = [what for what, there in (("recipe", candidate.recipe), ("counted facts", candidate.card)) if not there]
    if missing:
        return state("model.identity", "insufficient", f"no {' and no '.join(missing)} recorded", names)
    return state("model.identity", "supported", "digests of candidate and parent, recipe and counted facts", names)


def test_set(context: AssessmentContext) -> EvidenceStatus:
    """The test set by digest; nothing here proves that it shares no image with the training data."""
    sets = {run.dataset.digest: run.dataset for run in context.inputs.evidence}
    if not sets:
        return state("stat.testset", "missing", "no test set was used")
    listed = "; ".join(f"{one.name}, {one.images} images" for one in sets.values())
    return state(
        "stat.testset",
        "insufficient",
        f"{listed}; no proof that they are disjoint from the parent's training data",
        sets,
    )


test_set.__test__ = False  # type: ignore[attr-defined]


def ml_bom(context: AssessmentContext) -> EvidenceStatus:
    """A bill of materials among the signed files."""
    release = context.inputs.release
    sealed = (*release.files, *release.attestations) if release else ()
    found = [file.digest for file in sealed if file.name.endswith((".cdx.json", "bom.json"))]
    if not found:
        if release is None:
            return state("sec.mlbom", "insufficient", "written with this report; it is signed with the release")
        return state("sec.mlbom", "missing", "the signed release contains no bill of materials")
    return state("sec.mlbom", *_signed(context, "the signed release contains a bill of materials"), found)


def signature(context: AssessmentContext) -> EvidenceStatus:
    """The result of the verification of the release."""
    found, release = context.inputs.verification, context.inputs.release
    if release is None:
        return state("integrity.signature", "missing", "the candidate is not released yet")
    statuses: dict[str, tuple[Status, str]] = {
        "VALID": ("supported", "the release was verified with its public key"),
        "INVALID": ("unverified", "the release does not verify"),
        "REVOKED": ("contradicted", "the release was revoked"),
    }
    unverified: tuple[Status, str] = ("insufficient", "released, but its signature was not verified for this report")
    status, message = statuses.get(found.verdict, unverified) if found else unverified
    return state("integrity.signature", status, message, [release.digest])


def _signed(context: AssessmentContext, message: str) -> tuple[Status, str]:
    """An event is supported only by a verified signature."""
    status = signature(context).status
    if status == "supported":
        return "supported", message
    if status in {"unverified", "contradicted"}:
        return status, f"{message}, but the release that contains it does not verify"
    return "insufficient", f"{message}, but no verified signature covers it"


def origin(context: AssessmentContext) -> EvidenceStatus:
    """The source of the test data, and of what made the candidate and its parent."""
    kind, sources, names = "data.provenance", *context.inputs.data("source")
    not_stated = [name for name, source in sources.items() if source.strip().lower() in NOT_STATED]
    if not sources or not_stated:
        return state(kind, "missing", f"no source for {', '.join(not_stated) or 'any data set'}", names)
    if gaps := context.inputs.unknown_data:
        return state(kind, "insufficient", f"the test set names its source; {gaps}", names)
    listed = "; ".join(f"{name}: {source}" for name, source in sources.items())
    return state(kind, "supported", f"every data set is known by digest and names its source: {listed}", names)


def licences(context: AssessmentContext) -> EvidenceStatus:
    """Licences of parent, test set and training data: by the table of ``licences``, and else as a person states."""
    kind, inputs = "data.licence", context.inputs
    stated, names = inputs.data("licence")
    stated |= {f"parent {inputs.parent.model}": inputs.parent.licence}
    names = (inputs.parent.digest, *names)
    if not_stated := [name for name, licence in stated.items() if licence.strip().lower() in NOT_STATED]:
        return state(kind, "missing", f"no licence for {', '.join(not_stated)}", names)
    settled = _documents(kind, context)
    if settled.status == "attested":
        return settled
    asked = [run.key.parameters.get("use") for run in inputs.evidence if run.key.check == "data_quality"]
    use: Use = "non-commercial" if "non-commercial" in asked else "commercial"
    found = reviewed(stated, use)
    if found.conflicts:
        return state(kind, "contradicted", f"for {use} use: {'; '.join(found.conflicts)}", names)
    gaps = [f"{one} is not in the table of licences" for one in found.open]
    if gaps := [*gaps, *filter(None, [inputs.unknown_data])]:
        message = f"{'; '.join(gaps)}; a person settles it in a document data.licence, which a second person reviews"
        return state(kind, "insufficient", message, names)
    duties = f"; the release owes {'; '.join(found.duties)}" if found.duties else ""
    return state(kind, "supported", f"{', '.join(stated.values())} permit {use} use{duties}", names)


def policy(context: AssessmentContext) -> EvidenceStatus:
    """The policy that was used; a policy is approved with the decision that names its digest."""
    rules = context.inputs.policy
    message = f"the decision names the policy {rules.policy}, version {rules.version}, by digest"
    return state("gov.policy", *_signed(context, message), [rules.digest])


def decided(context: AssessmentContext) -> EvidenceStatus:
    """The decision, in order: after its evidence."""
    decision = context.inputs.decision
    late = [run.key.check for run in context.inputs.evidence if run.finished > decision.at]
    if late:
        return state("gov.decision", "contradicted", f"decided before {late[0]} was measured", [context.inputs.decided])
    return state(
        "gov.decision", *_signed(context, f"the decision “{decision.outcome}” is recorded"), [context.inputs.decided]
    )


def approvals(context: AssessmentContext) -> EvidenceStatus:
    """Enough people other than the submitter, after the decision."""
    inputs = context.inputs
    names = [approval.digest for approval in inputs.approvals]
    people = {approval.approver for approval in inputs.approvals}
    if inputs.submitter and inputs.submitter in people:
        return state("gov.approval", "contradicted", f"{inputs.submitter} submitted and approved", names)
    if any(approval.at < inputs.decision.at for approval in inputs.approvals):
        return state("gov.approval", "contradicted", "approved before the decision was made", names)
    if len(people) < inputs.consent.approvals:
        return state(
            "gov.approval",
            "missing",
            f"{len(people)} of {inputs.consent.approvals} required approvals were given",
            names,
        )
    return state("gov.approval", *_signed(context, f"approved by {' and '.join(sorted(people))}"), names)


def waivers(context: AssessmentContext) -> EvidenceStatus:
    """Waivers with owner, reason and end."""
    found = context.inputs.waivers
    names = [waiver.digest for waiver in found]
    if not found:
        return state("gov.waiver", "not_applicable", "there is no waiver")
    over = [waiver for waiver in found if context.today > waiver.until]
    if over:
        return state("gov.waiver", "stale", f"the waiver of {over[0].rule} ended on {over[0].until.isoformat()}", names)
    message = f"{len(found)} with owner, reason and end date; no compensating measure is recorded"
    return state("gov.waiver", "insufficient", message, names)


def _incidents(context: AssessmentContext) -> EvidenceStatus:
    """The incident register: every incident with its deadline, or the statement that there were none."""
    known = context.current_incidents()
    if not known:
        status, message = unwatched(context.watches, context.today)
        return state("ops.incident", status, message, (one.digest for one in context.watches))
    waiting = [one for one in known if one.reported is None]
    message = f"{len(known)} registered, {len(waiting)} not reported yet"
    return state("ops.incident", "partly" if waiting else "supported", message, (one.digest for one in known))


ROLLBACK_DAYS, MONITORING_DAYS, WATCH_DAYS = 365, 92, 31
"""Days for which a rollback (executed or rehearsed), a monitoring run, and an incident watch after its end count."""


def _rollback(context: AssessmentContext) -> EvidenceStatus:
    """The newest rollback, its duration and its target release."""
    newest = max(context.rollbacks, key=lambda one: one.at, default=None)
    if newest is None:
        return state("ops.rollback", "missing", "no rollback was executed or rehearsed")
    done = f"rollback to version {newest.version} {'rehearsed' if newest.rehearsal else 'executed'}"
    old = (context.today - newest.at.date()).days > ROLLBACK_DAYS
    message = f"{done} on {newest.at.date().isoformat()} in {newest.took_ms / 1000:.1f} s{_OLD if old else ''}"
    return state("ops.rollback", "stale" if old else "supported", message, [newest.digest])


def _newest_monitoring(context: AssessmentContext) -> Monitoring | None:
    """The newest monitoring run of this candidate; None where there is none."""
    about = [one for one in context.monitorings if one.candidate == context.inputs.candidate.digest]
    return max(about, key=lambda one: one.at, default=None)


def _monitored(context: AssessmentContext) -> EvidenceStatus:
    """That the release is monitored in use, and when last."""
    newest = _newest_monitoring(context)
    if newest is None:
        return state("ops.monitoring", "missing", "this release was not monitored since it was deployed")
    old = (context.today - newest.at.date()).days > MONITORING_DAYS
    run = f"last run on {newest.at.date().isoformat()}, with {newest.looked_at}"
    return state("ops.monitoring", "stale" if old else "supported", f"{run}{_OLD if old else ''}", [newest.digest])


_FOUND: dict[Watched, Status] = {
    "steady": "supported", "changed": "contradicted", "worse": "contradicted", "unknown": "insufficient",
}  # fmt: skip


def _drift(context: AssessmentContext) -> EvidenceStatus:
    """The result of the newest monitoring run on recent images."""
    newest = _newest_monitoring(context)
    if newest is None:
        return state("ops.drift", "missing", "this release was not monitored since it was deployed")
    found = newest.reasons[0] if newest.reasons else "every re-evaluated rule is met, no alarm is open"
    old = (context.today - newest.at.date()).days > MONITORING_DAYS
    return state(
        "ops.drift",
        "stale" if old else _FOUND[newest.outcome],
        f"{newest.at.date().isoformat()}: {found}",
        [newest.digest],
    )


RECORDED: dict[str, Callable[[AssessmentContext], EvidenceStatus]] = {
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
"""Kinds of evidence that are records themselves, each with the function that assesses them."""

MEASURES = {"robust.lighting": "robust.corruption"}
"""Topics that a framework lists under another kind of evidence."""


def worst(statuses: Iterable[Status]) -> Status:
    """The first of ``WORST_FIRST`` that occurs; nothing at all is ``not_assessed``."""
    found = set(statuses)
    return next((status for status in WORST_FIRST if status in found), "not_assessed")


def evidence_status(kind: str, context: AssessmentContext) -> EvidenceStatus:
    """The status of one kind of evidence on the day of the assessment."""
    if kind in RECORDED:
        return RECORDED[kind](context)
    if kind.startswith("screen."):
        return _screen(kind, context)
    if kind.startswith("doc.") or kind in {"data.consent", "gov.risk_register"}:
        return _documents(kind, context)
    return _measured(kind, context)


def _measured(kind: str, context: AssessmentContext) -> EvidenceStatus:
    runs = {
        digest: run
        for digest, run in context.inputs.runs.items()
        if kind in {MEASURES.get(topic, topic) for topic in topics_of(run)}
    }
    if not runs:
        crashed = [failed.digest for failed in context.failed if kind.partition(".")[2] in failed.key.check]
        reason = "the check crashed" if crashed else "no check of this kind was run on this candidate"
        return state(kind, "missing", reason, crashed)
    old = [run for run in runs.values() if context.today > expiry(run, context.inputs.policy.max_age_days)]
    if old:
        return state(kind, "stale", f"measured on {old[0].finished.date().isoformat()}{_OLD}", runs)
    judged = [
        line
        for line in context.inputs.decision.judgements
        if line.evidence in runs and _about(kind, line, runs[line.evidence])
    ]
    if not judged:
        return state(kind, "insufficient", "measured, but no rule of the policy sets a limit", runs)
    return state(kind, *_verdict(judged), runs)


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
        return "contradicted", f"limit violated on {_slices(violated)}"
    if unknown:
        return "insufficient", f"inconclusive on {_slices(unknown)}"
    if waived:
        return "waived", f"violated and waived on {_slices(waived)}"
    return "supported", f"meets every limit of the policy ({len(judged)} rule evaluations)"


def _slices(lines: Sequence[Judgement]) -> str:
    names = list(dict.fromkeys(f"{line.slice} ({line.metric.rpartition('/')[2]})" for line in lines))
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _reviewed(reviewer: str | None) -> str:
    return f"reviewed by {reviewer}" if reviewer else "not reviewed"


def _documents(kind: str, context: AssessmentContext) -> EvidenceStatus:
    found = context.documents_of(kind)
    names = [document.digest for document in found]
    if not found and kind == "doc.change_plan" and (plan := context.latest_plan()):
        status: Status = "stale" if context.today > plan.expires else "attested" if plan.reviewer else "partly"
        return state(kind, status, f"change plan by {plan.person}, {_reviewed(plan.reviewer)}", [plan.digest])
    if not found and kind == "doc.change_assessment" and (word := context.latest_verdict()):
        return state(kind, "attested" if word.reviewer else "partly", f"{word.person}: {word.verdict}", [word.digest])
    if not found:
        return state(kind, "missing", "no such document was submitted")
    expired = [document for document in found if context.today > document.expires]
    if expired:
        return state(kind, "stale", f"“{expired[0].title}” expired on {expired[0].expires.isoformat()}", names)
    alone = [document for document in found if not document.reviewer]
    if alone:
        return state(
            kind, "partly", f"“{alone[0].title}” by {alone[0].owner} was not reviewed by a second person", names
        )
    first = found[0]
    return state(kind, "attested", f"“{first.title}” by {first.owner}, reviewed by {first.reviewer}", names)


def _screen(kind: str, context: AssessmentContext) -> EvidenceStatus:
    answers = context.latest_answers()
    if answers is None:
        return state(kind, "not_assessed", "the questionnaire was not answered")
    names = [answers.digest]
    if context.today > answers.expires:
        return state(kind, "stale", f"the answers of {answers.person} expired on {answers.expires.isoformat()}", names)
    asked = [question for question in context.questionnaire.questions if question.screen == kind]
    given = [answers.answer(question) for question in asked]
    if kind == "screen.prohibited" and "yes" in given:
        rows = ", ".join(q.row for q, answer in zip(asked, given, strict=True) if answer == "yes")
        return state(kind, "contradicted", f"{answers.person} declared a prohibited use: {rows}", names)
    if "unknown" in given:
        unanswered = f"{given.count('unknown')} of {len(given)} questions are not answered"
        return state(kind, "not_assessed", unanswered, names)
    if not answers.reviewer:
        return state(kind, "partly", f"{answers.person} answered all {len(given)} questions, not reviewed", names)
    message = f"{answers.person} answered all {len(given)} questions, reviewed by {answers.reviewer}"
    return state(kind, "attested", message, names)


def unwatched(watches: Iterable[Watch], today: datetime.date) -> tuple[Status, str]:
    """The status of a register without incidents: what the newest incident watch states."""
    newest = max(watches, key=lambda one: (one.until, one.at), default=None)
    if newest is None:
        return "missing", "no incident is registered, and no person states that they watched for incidents"
    period = f"{newest.person} watched for incidents from {newest.since} to {newest.until}"
    if (today - newest.until).days > WATCH_DAYS:
        return "stale", f"{period}{_OLD}"
    return "not_applicable", f"0 incidents; {period}"
