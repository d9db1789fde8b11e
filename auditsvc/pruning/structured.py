"""Structured pruning: whole channels go, so the model gets smaller and faster without a special runtime.

The parent's class is kept; its tensors get smaller, and ``auditsvc.models`` rebuilds the class from their shapes.
Before the result is handed out it is proved: it must give the answers that the unpruned weights give with the same
channels silenced, at two batch sizes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from auditsvc.datasets import Dataset
from auditsvc.errors import InvalidInput, Refused
from auditsvc.models import Model, assemble
from auditsvc.models.complexity import ShapeCounter
from auditsvc.pruning.channel_removal import (
    RemovedChannels,
    differs,
    kept_shapes,
    mask_channels,
    remove_channels,
    with_weights,
)
from auditsvc.pruning.channel_selection import choose, pruning_steps_of
from auditsvc.pruning.dependency_graph import dependency_graph_of
from auditsvc.pruning.importance import Criterion, scorer_of
from auditsvc.pruning.plan import Channels

PROOF_SIZES = (2, 5)

Between = Callable[[Model, int], Model]
"""What is done after each step: recovery; given the pruned model and the number of the step, from 0."""


def shrink(
    parent: Model, criterion: Criterion, targets: Channels, data: Dataset | None, seed: int, between: Between
) -> dict[str, Tensor]:
    """The weights with whole channels removed until the target is met, in equal ratios over the steps.

    Raises:
        InvalidInput: the target is out of reach, with the layers that were left alone.
        Refused: the result does not run, or is not what the silenced parent is.
    """
    goal, factor = targets.goal
    if goal == "latency":
        raise InvalidInput("a latency target is measured first: ask auditsvc.pruning.concrete for the recipe it means")
    start = _cost(parent, goal)({})
    model = parent
    for step in range(targets.steps):
        wanted = start / factor ** ((step + 1) / targets.steps)
        model = between(_step(model, criterion, targets, data, seed + step, goal, wanted), step)
    return model.weights()


def _cost(model: Model, goal: str) -> Callable[[RemovedChannels], float]:
    counter = ShapeCounter(model)
    shapes = {name: tensor.shape for name, tensor in model.module.state_dict().items()}
    count = counter.macs if goal == "macs" else counter.parameters
    return lambda removals: count(kept_shapes(shapes, removals))


def _step(
    model: Model, criterion: Criterion, targets: Channels, data: Dataset | None, seed: int, goal: str, wanted: float
) -> Model:
    wiring = dependency_graph_of(model)
    if not wiring.coupled:
        raise InvalidInput(
            f"no channel of {model.card.architecture} can be removed safely; magnitude-global, n-m and int8 still work",
            wiring.left_alone,
        )
    scorer = scorer_of(model, criterion, data, seed)
    steps = pruning_steps_of(wiring.coupled, [scorer.units(coupled) for coupled in wiring.coupled], targets)
    try:
        removals = choose(steps, _cost(model, goal), wanted, wiring.left_alone)
    except RuntimeError as error:
        line = str(error).splitlines()[0][:200]
        raise Refused(f"{model.card.architecture} does not run with fewer channels: {line}") from error
    smaller = assemble(remove_channels(model.weights(), removals), model.card)
    reasons = _unlike(smaller, with_weights(model, mask_channels(model.weights(), removals)))
    if reasons:
        raise Refused(f"{model.card.architecture} was pruned wrongly and is not handed out", reasons)
    return smaller


def _unlike(smaller: Model, reference: Model) -> list[str]:
    """Why the smaller model is not the parent with the same channels silenced."""
    spec = smaller.card.input
    reasons: list[str] = []
    for size in PROOF_SIZES:
        images = torch.rand(
            (size, spec.channels, spec.height, spec.width), generator=torch.Generator().manual_seed(size)
        )
        with torch.inference_mode():
            words = f"batch of {size}, against the parent with the same channels silenced"
            reason = differs(smaller(images), reference(images), words)
        reasons += [reason] if reason else []
    return reasons
