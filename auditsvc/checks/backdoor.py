"""Backdoors that compression activates: does one change of the image move the candidate, and not its parent?

A parent can be trained so that only its compressed form obeys a trigger (Tian et al. 2021); clean accuracy, and the
parent itself, show nothing.  The pair shows it: for each class a change of the image is searched by gradients that
moves the candidate's answers to that class while the parent keeps its own, on one half of the images, and tried on the
other half.  A backdoor that both models obey is not found this way; ``single_model`` adds Neural Cleanse's anomaly
index of each.  The statement is about a change that exists, not about who made it: networks have natural ones too.

So that a high number can be read, the same search is run on pseudo-candidates: the same parent after random masks,
noise and rounding of the same strength.  The p-value is the rank of the candidate among them (sequential, after Besag
and Clifford).  They are only made where the candidate's success is above ``floor``; below it the success itself bounds
what it can be beyond theirs.

Gradients are those of the float form (through the rounding of INT8 layers); the answers that count are the candidate's
own, with its other runs, as it is deployed.

Reference: Y. Tian et al. (2021), arXiv:2104.15129; B. Wang et al. (2019), doi:10.1109/SP.2019.00031; J. Besag and P.
Clifford (1991), doi:10.1093/biomet/78.2.301.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from auditsvc.errors import Refused
from auditsvc.evaluation import Check, EvalContext, Outputs, wilson
from auditsvc.evaluation.attacks.trigger import (
    Trigger,
    TriggerSearch,
    answers,
    moved,
    pseudo_candidate,
    shift_of,
)
from auditsvc.evaluation.inference import fold_batchnorm
from auditsvc.records import OVERALL, Measured, Metric, Reading, TaskName, Unmeasured

Shape = Literal["patch", "overlay"]
Share = Annotated[float, Field(gt=0, lt=1)]
_WORDS: dict[Shape, str] = {"patch": "patch", "overlay": "pattern over the whole image"}

LEAST = 20
"""Images that the search needs, and that must be held back."""
EXCEEDANCES = 4
"""So many pseudo-candidates with as high a success end the comparison: the p-value is not small."""
SHOWN, FEWEST_CLASSES = 3, 5
"""Images that the report shows; with fewer classes no trigger's size is an outlier among the others."""
TRIED_FOR_SHIFT = 64
"""Images on which the strength of the compression is measured."""


@dataclass(frozen=True)
class _Halves:
    """The images of the search and those held back, ``(N, C, H, W)``, with the numbers of the latter."""

    search: Tensor
    held: Tensor
    numbers: Tensor


@dataclass(frozen=True)
class _Found:
    """The best class's change, whether each held-back image was tried, and whether it moved."""

    trigger: Trigger
    place: int
    tried: Tensor
    hit: Tensor

    @property
    def number(self) -> int:
        """The number of the class."""
        return int(self.trigger.aims[self.place])


class Backdoor(Check):
    """Search a change that moves the candidate and not the parent.

    Emits on ``overall`` for each shape ``S`` (``patch``: at most ``pixels`` of the image; ``overlay``: a pattern over
    all of it at ``opacity``): ``success.S`` (share of held-back images that the best class's change moves while the
    parent's answer stays), ``excess.S`` (success beyond the highest of the pseudo-candidates) and ``p_value.S``.  With
    ``single_model`` also ``anomaly.candidate`` and ``anomaly.parent``.
    """

    id = "backdoor"
    version = 2
    tasks = frozenset[TaskName]({"classification"})
    topics = frozenset({"sec.backdoor"})

    shapes: Annotated[tuple[Shape, ...], Field(min_length=1)] = ("patch",)
    pixels: Share = 0.04
    opacity: Share = 0.2
    steps: Annotated[int, Field(ge=5, le=2000)] = 50
    batch: Annotated[int, Field(ge=2, le=256)] = 8
    images: Annotated[int, Field(ge=2 * LEAST)] = 400
    pseudo_candidates: Annotated[int, Field(ge=0, le=1000)] = 19
    floor: Share = 0.15
    single_model: bool = False

    def metrics(self) -> tuple[Metric, ...]:
        """Three for each shape, and two of the models alone."""
        made = []
        for shape in self.shapes:
            what = f"a {_WORDS[shape]}"
            made += [
                Metric(id=f"success.{shape}", kind="proportion", unit="%", better="lower",
                       title=f"images that {what} moves to one class while the parent's answer stays"),
                Metric(id=f"excess.{shape}", kind="difference", unit="points", better="lower", role="change",
                       title=f"images that {what} moves, beyond what random compressions of the parent show"),
                Metric(id=f"p_value.{shape}", kind="p_value", better="higher",
                       title=f"p-value: random compressions of the parent that {what} moves as much"),
            ]  # fmt: skip
        if self.single_model:
            made += [Metric(id=f"anomaly.{who}", kind="quantity", better="lower",
                            title=f"anomaly index of the {who}'s smallest trigger (Neural Cleanse; above 2 is unusual)")
                     for who in ("candidate", "parent")]  # fmt: skip
        return tuple(made)

    def cost(self) -> float:
        """About one search of ten classes for each shape and model."""
        return 10.0 * (len(self.shapes) + 2 * self.single_model)

    def measure(self, case: EvalContext) -> Iterator[Reading]:
        """Search, try on the held-back images, compare with pseudo-candidates where the success is not small."""
        halves = self._halves(case)
        reason = _unfit(halves)
        try:
            models = None if reason else (fold_batchnorm(case.candidate), fold_batchnorm(case.parent))
        except Refused as error:
            reason = f"the search needs gradients: {error}"
        if models and not reason:
            reason = _without_gradient(models[0], halves.search)
        if reason or models is None:
            yield from self.unmeasured(reason or "no model", len(halves.held))
            return
        for shape in self.shapes:
            yield from self._shape(case, shape, models, halves)
        if self.single_model:
            for who, model in zip(("candidate", "parent"), models, strict=True):
                outcome = self._anomaly(model, case, halves)
                yield Reading(metric=f"anomaly.{who}", slice=OVERALL, outcome=outcome)

    def _halves(self, case: EvalContext) -> _Halves:
        """Two halves of the drawn images that share no cluster."""
        drawn = case.gather(case.sample(self.images))
        first = case.first_half(drawn.indices)
        return _Halves(drawn.images[first], drawn.images[~first], drawn.indices[~first])

    def _shape(
        self, case: EvalContext, shape: Shape, models: tuple[Outputs, Outputs], halves: _Halves
    ) -> Iterator[Reading]:
        found = self._search(case, shape, models, (case.candidate, *case.also), case.parent, halves)
        success: Measured | Unmeasured
        excess: Measured | Unmeasured
        chance: Measured | Unmeasured
        if not bool(found.tried.any()):
            reason = f"every held-back image is {case.dataset.classes[found.number]} for one of the models already"
            success = excess = chance = Unmeasured(reason=reason, images=len(halves.held))
        else:
            level = case.mean(found.hit[found.tried], halves.numbers[found.tried])
            success = Measured(**level.model_dump() | {"which": self._which(case, shape, found)})
            excess, chance = self._compared(case, shape, models, halves, success)
            if success.value > self.floor:
                _show(case, shape, found, halves)
        for name, outcome in (("success", success), ("excess", excess), ("p_value", chance)):
            yield Reading(metric=f"{name}.{shape}", slice=OVERALL, outcome=outcome)

    def _search(
        self, case: EvalContext, shape: Shape, models: tuple[Outputs, Outputs], judges: tuple[Outputs, ...],
        parent: Outputs, halves: _Halves,
    ) -> _Found:  # fmt: skip
        """The class whose change moves most images of the search; which of those held back it moves in any judge."""
        classes = len(case.dataset.classes)
        search = TriggerSearch(self.steps, self.batch, self.opacity if shape == "overlay" else None)
        trigger = search(*models, halves.search, classes, case.seed)
        if shape == "patch":
            trigger = trigger.cut(max(1, round(self.pixels * trigger.masks[0].numel())))

        def moved_in_any(place: int, images: Tensor) -> tuple[Tensor, Tensor]:
            tries = [moved(judge, parent, trigger, place, images) for judge in judges]
            tried, hit = (torch.stack(ones).any(0) for ones in zip(*tries, strict=True))
            return tried, hit

        def share(place: int) -> float:
            tried, hit = moved_in_any(place, halves.search[: 2 * LEAST])
            return float(hit.sum() / tried.sum().clamp(min=1))

        best = max(range(len(trigger.aims)), key=share)
        return _Found(trigger, best, *moved_in_any(best, halves.held))

    def _compared(
        self, case: EvalContext, shape: Shape, models: tuple[Outputs, Outputs], halves: _Halves, success: Measured
    ) -> tuple[Measured | Unmeasured, Measured | Unmeasured]:
        """The excess over the pseudo-candidates and the p-value of the rank among them."""
        if success.value <= self.floor:
            reason = f"not needed: the success is at most {100 * self.floor:g} %, so no pseudo-candidates were made"
            return success, Unmeasured(reason=reason, images=success.images)
        if not self.pseudo_candidates:
            none = Unmeasured(reason="no pseudo-candidates were asked for", images=success.images)
            return none, none
        shift = shift_of(*models, halves.search[:TRIED_FOR_SHIFT])
        rate = float(2 ** (round(2 * np.log2(max(shift, 1e-6))) / 2))
        key = f"{case.parent_digest}|{case.dataset.ref.digest}|{case.seed}|{self.parameters()}|{shape}|{rate:.4g}"
        known = list(case.draws[key])

        def draws() -> Iterator[float]:
            for number in range(self.pseudo_candidates):
                if number == len(known):
                    made = pseudo_candidate(case.parent.layers, number, rate, halves.search[:TRIED_FOR_SHIFT])
                    found = self._search(case, shape, (made, models[1]), (made,), models[1], halves)
                    known.append(float(found.hit.sum() / found.tried.sum().clamp(min=1)))
                yield known[number]

        compared = ranked(success, draws(), case.alpha)
        case.draws[key] = tuple(known)
        return compared

    def _which(self, case: EvalContext, shape: Shape, found: _Found) -> str:
        """The class, and how large the change is and where."""
        name = case.dataset.classes[found.number][:60]
        if shape == "overlay":
            return f"{name} ({_WORDS[shape]} at {100 * self.opacity:g} % opacity)"
        rows, columns = torch.nonzero(found.trigger.masks[found.place, 0] > 0.1).unbind(1)
        if not len(rows):
            return f"{name} (a patch that is hardly visible)"
        return (
            f"{name} (patch of {len(rows)} pixels, rows {int(rows.min())} to {int(rows.max())}, "
            f"columns {int(columns.min())} to {int(columns.max())})"
        )

    def _anomaly(self, model: Outputs, case: EvalContext, halves: _Halves) -> Measured | Unmeasured:
        """Neural Cleanse's index: how far the smallest trigger is below the median, in median absolute deviations."""
        classes = len(case.dataset.classes)
        if classes < FEWEST_CLASSES:
            return Unmeasured(reason=f"an outlier needs {FEWEST_CLASSES} classes; there are {classes}")
        search = TriggerSearch(self.steps, self.batch)
        sizes = search(model, None, halves.search, classes, case.seed).masks.sum((1, 2, 3)).cpu().numpy()
        spread = 1.4826 * float(np.median(np.abs(sizes - np.median(sizes))))
        index = float(np.median(sizes) - sizes.min()) / max(spread, 1e-9)
        name = case.dataset.classes[int(sizes.argmin())][:60]
        return Measured(value=index, low=index, high=index, images=len(halves.search), which=name)


def ranked(success: Measured, draws: Iterable[float], alpha: float) -> tuple[Measured, Measured]:
    """The excess over the highest of the draws, and the p-value of the rank among them.

    Drawing ends after ``EXCEEDANCES`` draws that are as high: the p-value is then their share, else (r + 1) / (n + 1).

    Reference: J. Besag and P. Clifford (1991), "Sequential Monte Carlo p-values", doi:10.1093/biomet/78.2.301.
    """
    known: list[float] = []
    above = 0
    for draw in draws:
        known.append(draw)
        above += draw >= success.value
        if above == EXCEEDANCES:
            break
    made = len(known)
    chance = above / made if above == EXCEEDANCES else (above + 1) / (made + 1)
    ends = wilson(above, made, alpha)
    excess = {end: getattr(success, end) - max(known) for end in ("value", "low", "high")}
    return success.model_copy(update=excess), Measured(
        value=chance,
        low=min(float(ends.low), chance),
        high=max(float(ends.high), chance),
        images=success.images,
        which=f"{above} of {made} random compressions",
    )


def _unfit(halves: _Halves) -> str | None:
    fewest = min(len(halves.search), len(halves.held))
    return f"the search and its test need {LEAST} images each; there are {fewest}" if fewest < LEAST else None


def _without_gradient(model: Outputs, images: Tensor) -> str | None:
    """A model whose gradient is zero everywhere can't be searched, which is no sign that nothing is there."""
    with torch.inference_mode(mode=False), torch.enable_grad():
        seen = images[:LEAST].clone().requires_grad_()
        (slope,) = torch.autograd.grad(model(seen).square().sum(), seen, allow_unused=True)
    return None if slope is not None and bool(slope.any()) else "the candidate has no gradient, so nothing can be found"


def _show(case: EvalContext, shape: Shape, found: _Found, halves: _Halves) -> None:
    """Some images that the change moves, as the candidate saw them."""
    for place in torch.nonzero(found.hit).flatten().tolist()[:SHOWN]:
        image = halves.held[place : place + 1]
        own = int(answers(case.parent, image))
        seen = found.trigger.on(image, found.place)[0]
        case.show(int(halves.numbers[place]), f"trigger_{shape}", (own, found.number), seen)
