"""Compression sweep: the smallest candidate of a parent that a policy approves, and the frontier of all trials.

Each trial is a whole candidate: pruned, watermarked, admitted.  The cheapest check of the policy runs first; the full
audit finds its evidence again, so running it first costs nothing.  Only ``approved`` passes; ``inconclusive`` does not,
because what is not known is not passed.

Latency is a record of its own and never part of a candidate: the same bytes run at another speed on another machine.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from torch import Tensor

from auditsvc import pruning
from auditsvc.checks import check_named
from auditsvc.compliance.render.charts import SweepPoint, standalone, sweep_chart
from auditsvc.datasets import Dataset
from auditsvc.datasets.scaling import scaled_for
from auditsvc.errors import InvalidInput, Refused, Unavailable
from auditsvc.evaluation.latency import latencies
from auditsvc.gate import decide
from auditsvc.models import Model
from auditsvc.models.complexity import facts
from auditsvc.ports import Context
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
    Timing,
    digest_of,
)
from auditsvc.services.audit import audit_candidate
from auditsvc.services.candidates import prune_candidate, submit
from auditsvc.services.holdout import index_images, level_for, record_holdout_use
from auditsvc.services.measurement import measure_candidate
from auditsvc.services.model_store import load_stored, stored_tensors
from auditsvc.services.policies import slice_dataset
from auditsvc.services.power import undersized_slices

RUNS = 100
_FEW_ZEROS = 0.01


def measure_latency(ctx: Context, candidate: Candidate, parent: Parent, data: Dataset, *, runs: int = RUNS) -> Timing:
    """The latency of one image, candidate and parent in turns, in ONNX Runtime on one thread; kept in the ledger.

    ONNX Runtime is compared with torch on some images of ``data`` first.

    Raises:
        Refused: one of the two can't be written as ONNX, or answers otherwise there.
    """
    models = [load_stored(ctx, item.files) for item in (candidate, parent)]
    images = next(scaled_for(data, models[1].card).batches(64)).images
    turns = latencies(models, images, runs=runs)
    mine, dense, ratio = turns[0], turns[1], turns.ratio(1, 0)
    timing = Timing(
        candidate=candidate.digest,
        parent=parent.digest,
        median_ms=mine.median_ms,
        iqr_ms=mine.iqr_ms,
        parent_median_ms=dense.median_ms,
        parent_iqr_ms=dense.iqr_ms,
        runs=mine.runs,
        ratio=ratio.value,
        ratio_low=ratio.low,
        ratio_high=ratio.high,
        how=f"ONNX Runtime {version('onnxruntime')}, one thread, one image, in turns of alternating order",
        at=ctx.clock.now(),
    )
    ctx.ledger.append(timing, actor="auditsvc")
    return timing


def cost_lines(ctx: Context, candidate: Candidate, parent: Parent, timing: Timing | None) -> tuple[str, ...]:
    """The cost of a candidate compared with its parent, as text: counts, then the latency."""
    mine, dense = candidate.card, facts(load_stored(ctx, parent.files))
    lines = [
        f"{mine['parameters']:,.0f} parameters, {_zeros(mine):.0%} of them zero ({_of(mine, dense, 'parameters')})",
        f"{mine['macs']:,.0f} multiply-accumulates ({_of(mine, dense, 'macs')})",
        f"{mine['bytes_dense']:,.0f} bytes ({_of(mine, dense, 'bytes_dense')}), "
        f"{mine['bytes_compressed']:,.0f} compressed ({_of(mine, dense, 'bytes_compressed')})",
    ]
    if timing is not None:
        lines.append(
            f"{timing.median_ms:.3g} ms (IQR {timing.iqr_ms:.2g}) vs. the parent's {timing.parent_median_ms:.3g} ms "
            f"(IQR {timing.parent_iqr_ms:.2g}) in the same {timing.runs} turns: {timing.speed}; {timing.how}"
        )
    if _zeros(mine) > _FEW_ZEROS:
        lines.append("dense kernels gain no speed from zeros; a recipe's sparsity is of the layers that it may prune")
    return tuple(lines)


def _zeros(card: Mapping[str, float]) -> float:
    return 1 - card["nonzero"] / card["parameters"]


def _of(mine: Mapping[str, float], dense: Mapping[str, float], name: str) -> str:
    return f"the parent has {dense[name] / mine[name]:.2f} times as many"


GOALS = ("bytes_compressed", "bytes_dense", "macs", "parameters")
ACCURACY, SLICE_LOSS, LATENCY = "accuracy", "worst_slice_loss", "latency_ms"


@dataclass(frozen=True)
class SweepResult:
    """What a sweep found; ``best`` and ``decision`` are None if nothing passed.  The files are in ``folder``."""

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
    ctx: Context
    data: Sequence[Dataset] = ()
    goal: str = "bytes_compressed"
    _made: dict[str, Candidate] = field(default_factory=dict)
    _decided: dict[str, Decision] = field(default_factory=dict)

    def run(self, ladders: Sequence[Ladder]) -> SweepResult:
        """Search the ladders and write ``frontier.json`` and ``frontier.svg``.

        Raises:
            InvalidInput: no ladder, an unknown goal, images of another task or other classes than the parent's, or
                too few of them for this policy, whatever is pruned.
            Unavailable: a disk or a library failed.
        """
        if self.goal not in GOALS:
            raise InvalidInput(f"a sweep makes one of {', '.join(GOALS)} small, not {self.goal!r}")
        undersized = undersized_slices(self.policy, slice_dataset(self.policy, self.audited))
        if undersized:
            raise InvalidInput(f"{self.policy.policy} can't approve anything on {self.audited.ref.name}", undersized)
        dense = load_stored(self.ctx, self.parent.files)
        frontier = pruning.sweep(
            dense, ladders, self._make, self._audit, cheap=self._cheap, goal=self.goal, progress=self.ctx.progress
        )
        best = None if frontier.best is None else frontier.best.recipe.digest
        folder = self._written(frontier)
        if best is None:
            return SweepResult(frontier, None, None, folder)
        return SweepResult(frontier, self._made[best], self._decided[best], folder)

    def submit(self, found: SweepResult, version: str, submitter: str) -> Submission | None:
        """Ask for the release of the best; None if nothing passed."""
        if found.best is None:
            return None
        submission = submit(self.ctx, found.best, version, submitter)
        audit_candidate(self.ctx, found.best, self.policy, self.audited)
        return submission

    def _make(self, recipe: Recipe) -> dict[str, Tensor]:
        candidate = prune_candidate(self.ctx, self.parent, recipe, self.calibration, self.data)
        self._made[recipe.digest] = candidate
        return stored_tensors(self.ctx, candidate.files)[0]

    def _cheap(self, recipe: Recipe, _model: Model) -> Outcome:
        """The policy's cheapest check alone; failing it is failing the policy."""
        first = cheapest(self.policy)
        if first is None:
            return Outcome(passed=True)
        candidate, images = self._made[recipe.digest], self.audited.ref.digest
        index_images(self.ctx, self.audited)
        record_holdout_use(self.ctx, candidate, images)
        level = level_for(self.policy, candidate, images, self.ctx.ledger) * len(self.policy.stages or (1.0,))
        first = first.model_copy(update={"alpha": level, "spend_alpha": None, "max_evaluations": None})
        evidence = measure_candidate(self.ctx, candidate, first, self.audited)
        measured = [item for item in evidence if isinstance(item, Evidence)]
        decision = decide(first, candidate, measured, at=self.ctx.clock.now())
        return _outcome(decision, _readings(evidence))

    def _audit(self, recipe: Recipe, _model: Model) -> Outcome:
        candidate = self._made[recipe.digest]
        done = audit_candidate(self.ctx, candidate, self.policy, self.audited)
        self._decided[recipe.digest] = done.decision
        return _outcome(done.decision, _readings(done.evidence) | self._latency(candidate))

    def _latency(self, candidate: Candidate) -> dict[str, float]:
        try:
            return {LATENCY: measure_latency(self.ctx, candidate, self.parent, self.calibration).median_ms}
        except (Refused, Unavailable) as error:
            self.ctx.progress.say(f"latency was not measured: {str(error).splitlines()[0]}")
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
        folder = self.ctx.folder / "sweeps" / self.parent.model / digest_of(data).removeprefix("sha256:")[:12]
        readings = (ACCURACY, SLICE_LOSS, LATENCY)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "frontier.json").write_bytes(data + b"\n")
            if any(trial.readings for trial in frontier.trials):
                (folder / "frontier.svg").write_bytes(frontier_svg(frontier, self.goal, readings))
        except OSError as error:
            raise Unavailable(f"the frontier can't be written to {folder}: {error.strerror}") from error
        return folder


def frontier_svg(frontier: Frontier, size: str, readings: Sequence[str]) -> bytes:
    """The trials as SVG: one panel over the fact ``size`` for each of the ``readings`` that was measured."""
    panels = {
        name.replace("_", " "): [
            SweepPoint(trial.ladder, trial.facts[size], trial.readings[name], trial.ending, best=trial is frontier.best)
            for trial in frontier.trials
            if size in trial.facts and name in trial.readings
        ]
        for name in readings
    }
    return standalone(sweep_chart(size.replace("_", " "), {name: found for name, found in panels.items() if found}))


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
    passed, unsure = decision.outcome == "approved", decision.outcome == "inconclusive"
    return Outcome(passed, readings, "; ".join(words), inconclusive=unsure)


def _readings(evidence: Sequence[Evidence | CheckFailed]) -> dict[str, float]:
    """Accuracy over all images, and the worst loss of any slice under any condition that was measured."""
    found: dict[str, float] = {}
    losses: list[float] = []
    for item in evidence:
        if not isinstance(item, Evidence):
            continue
        for reading in item.readings:
            if isinstance(reading.outcome, Measured):
                if reading.metric == "score.clean" and reading.slice == OVERALL:
                    found[ACCURACY] = reading.outcome.value
                if item.metric(reading.metric).role == "loss":
                    losses.append(reading.outcome.value)
    return found | ({SLICE_LOSS: max(losses)} if losses else {})
