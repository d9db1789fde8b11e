"""What happens after each step of pruning, as the recipe says: statistics first, then a part of the training."""

from __future__ import annotations

import math
from dataclasses import dataclass

from auditsvc.errors import InvalidInput
from auditsvc.models import Model
from auditsvc.ports import Progress
from auditsvc.pruning.plan import Distillation, Recovery, Sources
from auditsvc.pruning.renormalising import renormalised
from auditsvc.pruning.training import Masks, trained


@dataclass(frozen=True)
class AfterStep:
    """Recovers a pruned model; the epochs of the training are shared out evenly over the steps."""

    parent: Model
    recovery: Recovery
    sources: Sources
    steps: int
    seed: int
    progress: Progress

    def __call__(self, model: Model, step: int, masks: Masks) -> Model:
        """The model after the recovery that belongs to this step, counted from 0; masked weights stay zero.

        Raises:
            InvalidInput: data that was not given, or a training that diverged.
        """
        if statistics := self.recovery.batch_norm:
            data = self.sources.of(statistics.data, "batch-norm")
            with self.progress.step("normalisation statistics", None):
                model = renormalised(self.parent, model, statistics, data, self.seed)
        training = self.recovery.training
        if training is None:
            return model
        part = (training.epochs * step // self.steps, training.epochs * (step + 1) // self.steps)
        if part[0] == part[1]:
            return model
        name = "distillation" if isinstance(training, Distillation) else "fine-tuning"
        data = self.sources.of(training.data, name)
        if data.ref.images < 2 * training.batch:
            raise InvalidInput(f"{name} needs at least two batches of {training.batch}; there are {data.ref.images}")
        ticks = (part[1] - part[0]) * math.ceil(data.ref.images / training.batch)
        with self.progress.step(f"{name}, epochs {part[0] + 1} to {part[1]}", ticks) as tick:
            return trained(self.parent, model, training, data, masks=masks, seed=self.seed + step, part=part, tick=tick)
