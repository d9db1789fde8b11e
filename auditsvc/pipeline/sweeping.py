"""The smallest candidate of a parent that a policy approves, and the frontier of what was tried.

Every rung is a whole candidate: pruned, marked, admitted.  The check of the policy that costs least is asked first;
its evidence is found again by the full audit, so asking first costs nothing.  What ends ``approved`` passed;
``inconclusive`` did not, because what is not known is not passed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from auditsvc import pruning
from auditsvc.checks import check_named
from auditsvc.errors import InvalidInput, Refused, Unavailable
from auditsvc.gate import decide
from auditsvc.measuring import Answers, Dataset
from auditsvc.models import Model
from auditsvc.pipeline.auditing import audit
from auditsvc.pipeline.deciding import judge
from auditsvc.pipeline.making import make, submit
from auditsvc.pipeline.planning import sliced_for, undecidable
from auditsvc.pipeline.stored import load_stored, stored_tensors
from auditsvc.pipeline.timing import timed
from auditsvc.ports import Ports
from auditsvc.pruning import Frontier, Ladder, Outcome
from auditsvc.records import (
    OVERALL,
    Candidate,
    CheckFailed,
    Decision,
    Evidence,
    Measured,
    Parent,
    Policy,
    Recipe,
    Submission,
    digest_of,
)

GOALS = ("bytes_compressed", "bytes_dense", "macs", "parameters")
ACCURACY, SLICE_LOSS, LATENCY = "accuracy", "worst_slice_loss", "latency_ms"


@dataclass(frozen=True)
class Swept:
    """What a sweep found; ``best`` and ``decision`` are None if nothing passed.  The files lie in ``folder``."""

    frontier: Frontier
    best: Candidate | None
    decision: Decision | None
    folder: Path


@dataclass
class Sweep:
    """A parent, the images for marking and for auditing, the data that recipes name, and the policy."""

    parent: Parent
    calibration: Dataset
    audited: Dataset
    policy: Policy
    ports: Ports
    data: Sequence[Dataset] = ()
    goal: str = "bytes_compressed"
    _made: dict[str, Candidate] = field(default_factory=dict)
    _decided: dict[str, Decision] = field(default_factory=dict)
    _remembered: dict[str, Answers] = field(default_factory=dict)

    def run(self, ladders: Sequence[Ladder]) -> Swept:
        """Search the ladders and write ``frontier.json`` and ``frontier.png``.

        Raises:
            InvalidInput: no ladder, an unknown goal, images of another task or other classes than the parent's, or
                too few of them for this policy, whatever is pruned.
            Unavailable: a disk or a library failed.
        """
        if self.goal not in GOALS:
            raise InvalidInput(f"a sweep makes one of {', '.join(GOALS)} small, not {self.goal!r}")
        hopeless = undecidable(self.policy, sliced_for(self.policy, self.audited))
        if hopeless:
            raise InvalidInput(f"{self.policy.policy} can't approve anything on {self.audited.ref.name}", hopeless)
        dense = load_stored(self.parent.files, self.ports)
        frontier = pruning.sweep(
            dense, ladders, self._make, self._audit, cheap=self._cheap, goal=self.goal, progress=self.ports.progress
        )
        best = None if frontier.best is None else frontier.best.recipe.digest
        folder = self._written(frontier)
        if best is None:
            return Swept(frontier, None, None, folder)
        return Swept(frontier, self._made[best], self._decided[best], folder)

    def submit(self, found: Swept, version: str, submitter: str) -> Submission | None:
        """Ask for the release of the best; None if nothing passed."""
        if found.best is None:
            return None
        submission = submit(found.best, version, submitter, self.ports)
        judge(found.best, self.policy, audit(found.best, self.policy, self.audited, self.ports), self.ports)
        return submission

    def _make(self, recipe: Recipe) -> dict[str, Tensor]:
        candidate = make(self.parent, recipe, self.calibration, self.ports, self.data)
        self._made[recipe.digest] = candidate
        return stored_tensors(candidate.files, self.ports)[0]

    def _cheap(self, recipe: Recipe, _model: Model) -> Outcome:
        """The policy's cheapest check alone; failing it is failing the policy."""
        first = cheapest(self.policy)
        if first is None:
            return Outcome(passed=True)
        candidate = self._made[recipe.digest]
        evidence = audit(candidate, first, self.audited, self.ports, self._remembered)
        measured = [item for item in evidence if isinstance(item, Evidence)]
        decision = decide(first, candidate, measured, at=self.ports.clock.now())
        return _outcome(decision, _readings(evidence))

    def _audit(self, recipe: Recipe, _model: Model) -> Outcome:
        candidate = self._made[recipe.digest]
        evidence = audit(candidate, self.policy, self.audited, self.ports, self._remembered)
        decision = judge(candidate, self.policy, evidence, self.ports)
        self._decided[recipe.digest] = decision
        return _outcome(decision, _readings(evidence) | self._latency(candidate))

    def _latency(self, candidate: Candidate) -> dict[str, float]:
        try:
            images = next(self.calibration.batches(64)).images
            return {LATENCY: timed(candidate, self.parent, images, self.ports).median_ms}
        except (Refused, Unavailable) as error:
            self.ports.progress.say(f"latency was not measured: {str(error).splitlines()[0]}")
            return {}

    def _written(self, frontier: Frontier) -> Path:
        rows = pruning.rows(frontier)
        content = {
            "parent": self.parent.digest,
            "policy": self.policy.digest,
            "dataset": self.audited.ref.digest,
            "goal": self.goal,
            "audits": frontier.audits,
            "trials": rows,
        }
        data = json.dumps(content, indent=2, sort_keys=True).encode()
        folder = self.ports.folder / "sweeps" / self.parent.model / digest_of(data).removeprefix("sha256:")[:12]
        readings = (ACCURACY, SLICE_LOSS, LATENCY)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "frontier.json").write_bytes(data + b"\n")
            if any(trial.readings for trial in frontier.trials):
                (folder / "frontier.png").write_bytes(pruning.draw(frontier, size=self.goal, readings=readings))
        except OSError as error:
            raise Unavailable(f"the frontier can't be written to {folder}: {error.strerror}") from error
        return folder


def cheapest(policy: Policy) -> Policy | None:
    """The policy with only the check that costs least, of those that block; None if it has no other."""
    blocking = {rule.check for rule in policy.rules if rule.severity == "block"}
    ordered = sorted(blocking, key=lambda name: (check_named(name, policy.checks[name]).cost(), name))
    if len(policy.checks) < 2:
        return None
    first = ordered[0]
    return policy.model_copy(
        update={
            "policy": f"{policy.policy}-first",
            "why": f"The check of {policy.policy} that costs least, asked first by a sweep; it approves nothing.",
            "checks": {first: policy.checks[first]},
            "rules": tuple(rule for rule in policy.rules if rule.check == first),
        }
    )


def _outcome(decision: Decision, readings: dict[str, float]) -> Outcome:
    """Approved or not, and the findings that block, in their own words."""
    words = [f"{item.rule}: {item.words}" for item in decision.findings if item.severity == "block"]
    return Outcome(decision.outcome == "approved", readings, "; ".join(words))


def _readings(evidence: Sequence[Evidence | CheckFailed]) -> dict[str, float]:
    """Accuracy over all images, and the worst loss of any slice under any condition that was measured."""
    found: dict[str, float] = {}
    losses: list[float] = []
    for item in evidence:
        for reading in item.readings if isinstance(item, Evidence) else ():
            if isinstance(reading.outcome, Measured):
                if reading.metric == "score.clean" and reading.slice == OVERALL:
                    found[ACCURACY] = reading.outcome.value
                if reading.metric.startswith("drop."):
                    losses.append(reading.outcome.value)
    return found | ({SLICE_LOSS: max(losses)} if losses else {})
