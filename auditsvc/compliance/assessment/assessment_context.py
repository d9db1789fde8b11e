"""The input of reports and assessments: the records of one decision, its images, and statements by people."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, TypeVar

from auditsvc.compliance.assessment.attestations import (
    Answers,
    ChangePlan,
    ChangeVerdict,
    Document,
    Incident,
    Risk,
    Watch,
    current,
    risk_of,
)
from auditsvc.compliance.assessment.framework import Questionnaire
from auditsvc.compliance.report.wording import Figure, Gap, Number, unit_of
from auditsvc.errors import InvalidInput
from auditsvc.records import (
    Candidate,
    CheckFailed,
    Condition,
    DecisionRecords,
    Digest,
    Evidence,
    Family,
    Measured,
    Metric,
    Moment,
    Monitoring,
    Outcome,
    Release,
    Rollback,
    Timing,
    Unmeasured,
    Verification,
    metric_of,
)
from auditsvc.records.evidence import Change, DiscoveredSlices, Exemplars
from auditsvc.records.metric import condition_of

TRAINED_PARENT = "training of the parent"


@dataclass(frozen=True)
class GalleryItem:
    """One image whose answer changed, as PNG or JPEG bytes."""

    image: str
    data: bytes
    parent: str
    candidate: str
    target: str
    slices: tuple[str, ...]
    condition: str
    change: Change


@dataclass(frozen=True)
class Sibling:
    """Another candidate of the same parent, audited on the same images; ``evidence`` is for unmodified images."""

    version: str
    candidate: Candidate
    outcome: Outcome
    evidence: Evidence | None


@dataclass(frozen=True)
class ReportInputs(DecisionRecords):
    """Everything about one decision.  ``where`` maps labels to commands or paths for the reader.

    ``examples`` are PNG or JPEG images of the test image ``exampled`` under each condition.
    """

    release: Release | None = None
    gallery: tuple[GalleryItem, ...] = ()
    verification: Verification | None = None
    where: Mapping[str, str] = field(default_factory=dict)
    siblings: tuple[Sibling, ...] = ()
    examples: Mapping[str, bytes] = field(default_factory=dict)
    exampled: str = ""
    suggestions: DiscoveredSlices | None = None
    exemplars: Exemplars | None = None
    timing: Timing | None = None
    not_recorded: tuple[str, ...] = ()
    """What is not known of the images that made candidate and parent."""

    def data(self, field: Literal["source", "licence"]) -> tuple[dict[str, str], tuple[Digest, ...]]:
        """A field of every data set that was audited or made the model, where it has a card; and their digests."""
        sets = {run.dataset.digest: run.dataset for run in self.evidence}
        cards = {f"{use.name} ({use.purpose})": use.card for use in self.made_from if use.card}
        stated = {one.name: str(getattr(one, field)) for one in sets.values()}
        stated |= {name: str(getattr(card, field)) for name, card in cards.items()}
        return stated, (*sets, *(card.digest for card in cards.values()))

    @property
    def unknown_data(self) -> str:
        """What is not recorded of the data that made candidate and parent; empty where all of it has a card."""
        bare = [f"{use.name} ({use.purpose}) has no card" for use in self.made_from if use.card is None]
        if not any(use.purpose == TRAINED_PARENT for use in self.made_from):
            bare.insert(0, "the training data of the parent are not recorded")
        return "; ".join(bare or self.not_recorded)

    @property
    def trial(self) -> bool:
        """Whether no terms bind the decision; what version 0.1 released had none and is no trial."""
        return self.decision.trial and self.release is None

    @property
    def notes(self) -> tuple[str, ...]:
        """What binds the decision, its data, the other decisions, and the notes of the decision itself."""
        terms, data = self.terms, self.decision.data or ()
        bound = []
        if terms:
            bound.append(f"Binding under the terms {terms.digest}, {terms.set_by}")
        bound += ["A trial: no terms bind this decision, so it can't be approved or released"] * self.trial
        bound += [f"Judged on {one.name}: {one.images} images ({one.digest})" for one in data]
        bound += [f"Earlier decision on this candidate, {one.at:%Y-%m-%d}: {one.words}" for one in self.earlier]
        for use in self.made_from:
            described = f"{use.card.licence}, from {use.card.source}" if use.card else "no card was written"
            bound.append(f"{use.name} was used for {use.purpose}: {described}")
        return (*bound, *self.not_recorded, *(self.decision.notes or ()))

    @cached_property
    def runs(self) -> dict[Digest, Evidence]:
        """The evidence by digest, in the order given; cached, because the digest of many readings is slow."""
        return {run.digest: run for run in self.evidence}

    @cached_property
    def clean(self) -> frozenset[Digest]:
        """The runs on unmodified images."""
        runs = self.runs.items()
        return frozenset(name for name, run in runs if any(one.metric.endswith(".clean") for one in run.readings))

    @cached_property
    def readings(self) -> Readings:
        """All readings by metric and slice."""
        return Readings(self.runs)

    @cached_property
    def decided(self) -> Digest:
        """The digest of the decision."""
        return self.decision.digest

    def check(self) -> None:
        """Check that all records are about this decision.

        Raises:
            InvalidInput: lists every record that is about something else.
        """
        faults = tuple(self._faults())
        if faults:
            raise InvalidInput("these records are not about the same decision; give the ones that are", faults)

    def _faults(self) -> Iterator[str]:
        candidate, decision = self.candidate.digest, self.decided
        if self.decision.candidate != candidate:
            yield f"the decision is about {self.decision.candidate}, not about {candidate}"
        if self.decision.policy != self.policy.digest:
            yield f"the decision was made under the policy {self.decision.policy}, not under {self.policy.digest}"
        if self.candidate.parent != self.parent.digest:
            yield f"the candidate's parent is {self.candidate.parent}, not {self.parent.digest}"
        for name, run in self.runs.items():
            if run.key.candidate != candidate:
                yield f"the evidence {name} is about {run.key.candidate}"
        for digest in self.decision.evidence:
            if digest not in self.runs:
                yield f"the evidence {digest}, which the decision is based on, is missing"
        for approval in self.approvals:
            if approval.decision != decision:
                yield f"the approval by {approval.approver} is for the decision {approval.decision}"
        for waiver in self.waivers:
            if waiver.candidate != candidate:
                yield f"the waiver of {waiver.rule} is for {waiver.candidate}"
        if self.suggestions and self.suggestions.candidate != candidate:
            yield f"the suggestions {self.suggestions.digest} are about {self.suggestions.candidate}"
        if self.exemplars and candidate not in self.exemplars.candidates:
            yield f"the exemplars {self.exemplars.digest} are about other candidates"
        for one in self.siblings:
            if one.candidate.parent != self.candidate.parent:
                yield f"the candidate {one.candidate.digest} has another parent"
            if one.evidence and one.evidence.key.candidate != one.candidate.digest:
                yield f"the evidence {one.evidence.digest} is not about {one.candidate.digest}"
        if self.release and self.release.decision != decision:
            yield f"the release is based on the decision {self.release.decision}"


class Readings:
    """All readings by metric and slice, each with its evidence; measured ones take precedence."""

    def __init__(self, runs: Mapping[Digest, Evidence]) -> None:
        self._found: dict[tuple[str, str], Figure] = {}
        self._slices: dict[str, dict[str, None]] = {}
        self._metrics: dict[str, Metric] = {}
        self._conditions: dict[str, Condition] = {}
        self._families: dict[str, Family] = {}
        for digest, run in runs.items():
            for reading in run.readings:
                key = (reading.metric, reading.slice)
                self._slices.setdefault(reading.metric, {})[reading.slice] = None
                metric = self._metrics.setdefault(reading.metric, run.metric(reading.metric))
                if metric.condition:
                    self._conditions.setdefault(metric.condition, run.condition(metric.condition))
                if not isinstance(self._found.get(key), Number):
                    self._found[key] = figure_of(metric, reading.outcome, digest, run.key.alpha)
            self._families |= {family.name: family for family in run.declared.families} if run.declared else {}

    def get(self, metric: str, slice_name: str) -> Figure:
        """The figure, or a gap if no check measured it."""
        return self._found.get((metric, slice_name), Gap(reason="no check measured this metric"))

    def conditions(self) -> tuple[str, ...]:
        """Every condition that was scored, in the order of the evidence."""
        return tuple(
            metric.condition for metric in self._metrics.values() if metric.role == "score" and metric.condition
        )

    def metric(self, name: str) -> Metric:
        """What the evidence declares about a metric."""
        return self._metrics.get(name) or metric_of(name)

    def condition(self, name: str) -> Condition:
        """What the evidence declares about a condition."""
        return self._conditions.get(name) or condition_of(name)

    def family(self, name: str) -> Family:
        """What the evidence declares about a series of conditions."""
        plain = name.replace("_", " ")
        return self._families.get(name) or Family(name=name, title=plain, axis=plain, words="{}", neutral=None)

    def slices(self, metric: str) -> tuple[str, ...]:
        """The slices of one metric, in the order of the evidence."""
        return tuple(self._slices.get(metric, ()))


def figure_of(metric: Metric, outcome: Measured | Unmeasured, evidence: Digest, alpha: float) -> Figure:
    """A reading with its evidence, as the report shows it; ``alpha`` is the error probability of each end."""
    if isinstance(outcome, Unmeasured):
        return Gap(reason=outcome.reason, images=outcome.images, evidence=evidence)
    return Number(
        value=outcome.value,
        low=outcome.low,
        high=outcome.high,
        images=outcome.images,
        level=round(1 - 2 * alpha, 6),
        unit=unit_of(metric),
        evidence=evidence,
        which=outcome.which or "",
        clusters=outcome.clusters,
        design_effect=outcome.design_effect,
    )


def expiry(run: Evidence, max_age_days: int) -> datetime.date:
    """The last day on which this run counts under the policy."""
    return (run.finished + datetime.timedelta(days=max_age_days)).date()


S = TypeVar("S", Answers, ChangePlan, ChangeVerdict)


def _newest(statements: Iterable[S]) -> S | None:
    return max(statements, key=lambda one: one.at, default=None)


@dataclass(frozen=True)
class AssessmentContext:
    """Records for an assessment as of ``at``.

    ``policy_at`` is when the policy was first logged, by a trusted clock.
    """

    inputs: ReportInputs
    questionnaire: Questionnaire
    at: Moment
    documents: tuple[Document, ...] = ()
    answers: tuple[Answers, ...] = ()
    plans: tuple[ChangePlan, ...] = ()
    verdicts: tuple[ChangeVerdict, ...] = ()
    failed: tuple[CheckFailed, ...] = ()
    policy_at: Moment | None = None
    incidents: tuple[Incident, ...] = ()
    watches: tuple[Watch, ...] = ()
    rollbacks: tuple[Rollback, ...] = ()
    monitorings: tuple[Monitoring, ...] = ()

    @property
    def today(self) -> datetime.date:
        """The day of the assessment."""
        return self.at.date()

    def latest_answers(self) -> Answers | None:
        """The newest answers for this model, or None where there are none yet."""
        return _newest(one for one in self.answers if one.model == self.inputs.model)

    def documents_of(self, kind: str) -> tuple[Document, ...]:
        """Documents of one kind for this model or this candidate; the newest for each title."""
        candidate = self.inputs.candidate.digest
        about = [
            document
            for document in self.documents
            if document.document == kind
            and document.model == self.inputs.model
            and document.candidate in (None, candidate)
        ]
        newest = {document.title: document for document in sorted(about, key=lambda document: document.at)}
        return tuple(newest.values())

    def latest_plan(self) -> ChangePlan | None:
        """The newest change plan for this model, or None where there is none."""
        return _newest(one for one in self.plans if one.model == self.inputs.model)

    def latest_verdict(self) -> ChangeVerdict | None:
        """The newest classification of this change, or None where there is none."""
        return _newest(one for one in self.verdicts if one.candidate == self.inputs.candidate.digest)

    def current_incidents(self) -> tuple[Incident, ...]:
        """The newest record of every known incident with this model."""
        return current(one for one in self.incidents if one.model == self.inputs.model and one.at <= self.at)

    def risk(self) -> Risk:
        """The declared risk class."""
        return risk_of(self.questionnaire, self.latest_answers(), self.today)

    def outside_plan(self, plan: ChangePlan) -> tuple[str, ...]:
        """Every deviation from the plan; what was not measured counts as a deviation."""
        recipe = self.inputs.candidate.recipe
        if recipe is None:
            return ("no recipe is recorded",)
        faults = [] if recipe.method in plan.methods else [f"the method {recipe.method} is not planned"]
        for name, value in recipe.targets.items():
            limit = plan.max_targets.get(name)
            if limit is None or value > limit:
                faults.append(f"{name} {value:g} is " + ("not planned" if limit is None else f"over {limit:g}"))
        readings = self.inputs.readings
        for name in readings.slices("drop.clean") or ("overall",):
            loss = readings.get("drop.clean", name)
            limit = plan.max_loss if name == "overall" else plan.max_loss_of_a_group
            if loss.state == "unmeasured":
                faults.append(f"the loss on {name} was not measured")
            elif loss.high > limit:
                faults.append(f"the loss on {name} may be {loss.high:.3f}, over {limit:g}")
        return tuple(faults)
