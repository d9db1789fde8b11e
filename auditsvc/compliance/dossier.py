"""Everything that an assessment may rest on: the records of a decision, and what people added."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from auditsvc.compliance.framework import Questionnaire
from auditsvc.compliance.human import Answers, ChangePlan, ChangeVerdict, Document, Risk, risk_of
from auditsvc.compliance.incidents import Incident, Watch, current
from auditsvc.compliance.inputs import ReportInputs
from auditsvc.records import CheckFailed, Moment, Monitoring, Rollback


@dataclass(frozen=True)
class Dossier:
    """Records for an assessment as of ``at``.

    ``policy_at`` is when the ledger first held the policy, by a trusted clock.
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
        """The newest answers for this model, or None: that nobody has answered is an ordinary state."""
        about = [answers for answers in self.answers if answers.model == self.inputs.model]
        return max(about, key=lambda answers: answers.at, default=None)

    def documents_of(self, kind: str) -> tuple[Document, ...]:
        """Documents of one kind for this model line or this very candidate; the newest for each title."""
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
        about = [plan for plan in self.plans if plan.model == self.inputs.model]
        return max(about, key=lambda plan: plan.at, default=None)

    def latest_verdict(self) -> ChangeVerdict | None:
        """The newest word on this change, or None where nobody gave one."""
        candidate = self.inputs.candidate.digest
        about = [verdict for verdict in self.verdicts if verdict.candidate == candidate]
        return max(about, key=lambda verdict: verdict.at, default=None)

    def register(self) -> tuple[Incident, ...]:
        """Every known incident with this model, as it was last written down."""
        return current(one for one in self.incidents if one.model == self.inputs.model and one.at <= self.at)

    def risk(self) -> Risk:
        """The declared risk class."""
        return risk_of(self.questionnaire, self.latest_answers(), self.today)

    def outside_plan(self, plan: ChangePlan) -> tuple[str, ...]:
        """Every way in which the candidate leaves the plan; what was not measured counts as outside."""
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
                faults.append(f"the loss on {name} is not known")
            elif loss.high > limit:
                faults.append(f"the loss on {name} may be {loss.high:.3f}, over {limit:g}")
        return tuple(faults)
