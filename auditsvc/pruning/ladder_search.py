"""The largest compression that still passes, found with few full audits.

Each method has a ladder of strengths; passing is assumed to be monotone along it (what fails at 4x fails at 6x), so
bisection needs about log2 of the rungs.  Three things save audits:

- a cheap check runs first; it must be *necessary* for passing, so its failure makes the audit unnecessary;
- rungs that would not beat the best candidate so far are never tried, across all methods;
- methods are tried in the given order, so the most promising one comes first.

The rung above the winner is always known to fail, or is the end of its ladder.  Each trial records what was done with
it; rungs skipped by monotonicity are not reported as audited.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from auditsvc.errors import InvalidInput
from auditsvc.models import WEIGHTS, Model, assemble, model_files
from auditsvc.models.complexity import facts
from auditsvc.ports import NoProgress, Progress
from auditsvc.records import Recipe

Ending = Literal[
    "passed", "failed", "inconclusive", "failed the cheap check", "inconclusive in the cheap check",
    "no smaller than the best", "can't be made",
]  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What an audit says: whether the policy is satisfied, readings to draw (accuracy, slice loss, ...), and why.

    ``inconclusive``: it did not pass because something is not known, and not because a limit was broken.
    """

    passed: bool
    readings: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""
    inconclusive: bool = False


@dataclass(frozen=True)
class Ladder:
    """One method at rising strengths: the recipes, weakest first."""

    name: str
    recipes: tuple[Recipe, ...]


@dataclass(frozen=True)
class Trial:
    """One candidate of a sweep; ``size`` is what the sweep makes small."""

    ladder: str
    recipe: Recipe
    ending: Ending
    size: float
    facts: Mapping[str, float]
    readings: Mapping[str, float]
    reason: str = ""


@dataclass(frozen=True)
class Frontier:
    """All trials in the order in which they were made, the best that passed, and how many audits it took."""

    trials: tuple[Trial, ...]
    audits: int

    @property
    def best(self) -> Trial | None:
        """The smallest candidate that passed; None if none did."""
        passed = [trial for trial in self.trials if trial.ending == "passed"]
        return min(passed, key=lambda trial: trial.size, default=None)


def ladder(method: str, target: str, strengths: Sequence[float], **others: object) -> Ladder:
    """A method at these strengths of one target: ``ladder("structured-l1", "macs", (1.5, 2, 3), round_to=4)``.

    Keyword arguments named like a field of ``Recipe`` go there, the others are further targets.
    """
    fields = {name: value for name, value in others.items() if name in Recipe.model_fields}
    fixed = {name: value for name, value in others.items() if name not in Recipe.model_fields}
    made = [
        Recipe.model_validate({"method": method, "targets": {**fixed, target: value}, **fields})
        for value in sorted(strengths)
    ]
    return Ladder(method, tuple(made))


Audit = Callable[[Recipe, Model], Outcome]
"""Measures and judges one candidate."""

Maker = Callable[[Recipe], dict[str, Tensor]]
"""Makes the weights of a recipe: ``prune`` with parent and data filled in."""


def sweep(
    parent: Model,
    ladders: Sequence[Ladder],
    make: Maker,
    audit: Audit,
    *,
    cheap: Audit = lambda _recipe, _model: Outcome(passed=True),
    goal: str = "bytes_compressed",
    progress: Progress | None = None,
) -> Frontier:
    """Search all ladders; ``goal`` is the fact that is made small (``macs``, ``parameters``, ``bytes_compressed``).

    ``cheap`` runs before each full audit.

    Raises:
        InvalidInput: no ladder, or one without a rung.
    """
    if not ladders or any(not each.recipes for each in ladders):
        raise InvalidInput("a sweep needs at least one method with at least one strength")
    search = _Search(parent, make, audit, cheap, goal, progress or NoProgress())
    for each in ladders:
        search.along(each)
    return Frontier(tuple(search.trials), search.audits)


@dataclass
class _Search:
    parent: Model
    make: Maker
    audit: Audit
    cheap: Audit
    goal: str
    progress: Progress
    trials: list[Trial] = field(default_factory=list)
    audits: int = 0
    best: float = float("inf")

    def along(self, each: Ladder) -> None:
        """Bisection: all rungs up to ``low`` pass or are no better than the best, all from ``high`` on fail."""
        low, high = -1, len(each.recipes)
        with self.progress.step(f"sweep {each.name}", len(each.recipes).bit_length()) as tick:
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if self._holds(each, each.recipes[middle]) else (low, middle)
                tick()

    def _holds(self, each: Ladder, recipe: Recipe) -> bool:
        """Whether to go on to stronger rungs: this one passed, or is no smaller than what has passed already."""
        try:
            weights = self.make(recipe)
        except InvalidInput as error:
            self.trials.append(Trial(each.name, recipe, "can't be made", float("inf"), {}, {}, str(error)))
            return False
        model = assemble(weights, self.parent.card)
        counted = facts(model, model_files(weights, model.card)[WEIGHTS])
        size = counted[self.goal]
        if size >= self.best:
            self.trials.append(Trial(each.name, recipe, "no smaller than the best", size, counted, {}))
            return True
        first = self.cheap(recipe, model)
        outcome = first if not first.passed else self._audited(recipe, model)
        ending = _ending(outcome, cheap=not first.passed)
        readings = {**first.readings, **outcome.readings}
        self.trials.append(Trial(each.name, recipe, ending, size, counted, readings, outcome.reason))
        self.progress.say(f"{each.name} {recipe.targets}: {ending}, {self.goal} {size:.4g}")
        self.best = min(self.best, size) if outcome.passed else self.best
        return outcome.passed

    def _audited(self, recipe: Recipe, model: Model) -> Outcome:
        self.audits += 1
        return self.audit(recipe, model)


def _ending(outcome: Outcome, *, cheap: bool) -> Ending:
    if outcome.passed:
        return "passed"
    if outcome.inconclusive:
        return "inconclusive in the cheap check" if cheap else "inconclusive"
    return "failed the cheap check" if cheap else "failed"


def rows(frontier: Frontier) -> tuple[dict[str, object], ...]:
    """The frontier as plain data, one row for each trial, ready for JSON."""
    return tuple(
        {
            "method": trial.ladder,
            "recipe": trial.recipe.digest,
            "targets": trial.recipe.targets,
            "ending": trial.ending,
            "best": trial is frontier.best,
            **({"reason": trial.reason} if trial.reason else {}),
            **trial.facts,
            **trial.readings,
        }
        for trial in frontier.trials
    )
