"""The pruning methods by name: structured (channels) and unstructured (single weights).

Structured pruning removes whole channels and keeps the parent's class; ``auditsvc.models`` rebuilds it from the tensor
shapes.  Each result is verified: it must give the answers of the unpruned weights with the same channels masked, at
two batch sizes.

Unstructured pruning sets the smallest weights to zero, except in depthwise filters, the first convolution and the last
linear layers, which hold few weights.  Zeros compress well and give no speed in dense kernels,
nor does N:M on a processor without a kernel for it.

Channels are ranked by one of eight criteria; those with low scores are pruned first.  Each layer that takes part in a
set of coupled channels scores them from its own weights (and gradients, if the criterion needs them); the scores are
averaged over the layers, summed over the parts of a unit, and divided by their mean so that layers can be compared.

References: H. Li et al. (2017), "Pruning Filters for Efficient ConvNets", arXiv:1608.08710 (L1, L2).
Z. Liu et al. (2017), "Learning Efficient Convolutional Networks through Network Slimming", arXiv:1708.06519
(batch-norm scale).  Y. He et al. (2019), "Filter Pruning via Geometric Median", arXiv:1811.00250 (FPGM).
J. Lee et al. (2021), "Layer-Adaptive Sparsity for the Magnitude-Based Pruning", arXiv:2010.07611 (LAMP).
P. Molchanov et al. (2019), "Importance Estimation for Neural Network Pruning", arXiv:1906.10771 (Taylor).
Y. LeCun et al. (1990), "Optimal Brain Damage", NIPS 2 (Hessian, by its Fisher diagonal).
S. Han et al. (2015), "Learning both Weights and Connections for Efficient Neural Networks", arXiv:1506.02626.
M. Zhu and S. Gupta (2017), "To prune, or not to prune", arXiv:1710.01878 (cubic schedule).
A. Mishra et al. (2021), "Accelerating Sparse Deep Neural Networks", arXiv:2104.08378 (N:M).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, cast

import numpy as np
import torch
from torch import Tensor, nn

from auditsvc.datasets import Dataset
from auditsvc.errors import InvalidInput, Refused
from auditsvc.models import Model, assemble
from auditsvc.models.complexity import ShapeCounter
from auditsvc.ports import Progress
from auditsvc.pruning.channel_removal import (
    RemovedChannels,
    differs,
    kept_shapes,
    mask_channels,
    remove_channels,
    with_weights,
)
from auditsvc.pruning.channel_selection import choose, pruning_steps_of
from auditsvc.pruning.dependency_graph import Coupled, Cut, dependency_graph_of
from auditsvc.pruning.plan import Channels, NofM, Nothing, Recovery, Sources, Sparsity, targets_of
from auditsvc.pruning.recovery import AfterStep, Masks, masks_of
from auditsvc.records import Recipe
from auditsvc.tasks import task_named

Criterion = Literal["l1", "l2", "bn", "fpgm", "lamp", "taylor", "hessian", "random"]
CRITERIA: tuple[Criterion, ...] = ("bn", "fpgm", "hessian", "l1", "l2", "lamp", "random", "taylor")

TAYLOR_IMAGES, HESSIAN_IMAGES, BATCH = 512, 64, 64
_EPSILON = 1e-12

Rows = Callable[[Tensor, Tensor], Tensor]
"""Scores of the rows of a weight matrix ``(channels, numbers)``, given the matrix of gradients."""

_ROWS: dict[Criterion, Rows] = {
    "l1": lambda weight, _: weight.abs().sum(1),
    "l2": lambda weight, _: weight.square().sum(1),
    "lamp": lambda weight, _: weight.square().sum(1),
    "bn": lambda weight, _: weight.abs().sum(1),
    "fpgm": lambda weight, _: torch.cdist(weight, weight).sum(1),
    "taylor": lambda weight, gradient: (weight * gradient).abs().sum(1),
    "hessian": lambda weight, gradient: (weight.square() * gradient).sum(1),
}


@dataclass(frozen=True)
class Scorer:
    """A criterion with the gradients that it needs (none for most)."""

    criterion: Criterion
    weights: dict[str, Tensor]
    gradients: dict[str, Tensor]
    generator: torch.Generator

    def units(self, coupled: Coupled) -> Tensor:
        """A score for each unit of these coupled channels, mean 1."""
        if self.criterion == "random":
            return torch.rand(coupled.units, generator=self.generator)
        chosen = [cut for cut in coupled.cuts if self._counts(cut)]
        if not chosen:
            return torch.ones(coupled.units)
        scores = torch.stack([self._channels(coupled, cut) for cut in chosen]).mean(0)
        units = scores.view(coupled.parts, coupled.units).sum(0)
        return _lamp(units) if self.criterion == "lamp" else units / (units.mean() + _EPSILON)

    def _counts(self, cut: Cut) -> bool:
        """Weights count, biases and running statistics do not; for ``bn`` only the scales of normalisation."""
        weight = self.weights[cut.tensor]
        return cut.tensor.endswith(".weight") and (weight.dim() == 1 or self.criterion != "bn")

    def _channels(self, coupled: Coupled, cut: Cut) -> Tensor:
        rows = self.weights[cut.tensor].transpose(0, cut.dimension).flatten(1) if self._wide(cut) else (
            self.weights[cut.tensor].unsqueeze(1)
        )  # fmt: skip
        gradient = self.gradients.get(cut.tensor, torch.zeros(()))
        gradient = gradient.transpose(0, cut.dimension).reshape(rows.shape) if gradient.dim() else gradient
        scores = _ROWS[self.criterion](rows.float(), gradient)
        return torch.zeros(coupled.channels).index_add_(0, cut.channels, scores[cut.places])

    def _wide(self, cut: Cut) -> bool:
        return self.weights[cut.tensor].dim() > 1


def _lamp(scores: Tensor) -> Tensor:
    """Each score as a share of what is left when all smaller ones are gone."""
    order = torch.argsort(scores, stable=True)
    left = scores[order].flip(0).cumsum(0).flip(0)
    ranked = torch.empty_like(scores)
    ranked[order] = scores[order] / (left + _EPSILON)
    return ranked


def scorer_of(model: Model, criterion: Criterion, data: Dataset | None, seed: int) -> Scorer:
    """The criterion, ready to score; gradients are taken on labelled images where it needs them."""
    generator = torch.Generator().manual_seed(seed)
    gradients: dict[str, Tensor] = {}
    if criterion in ("taylor", "hessian") and data is not None:
        gradients = _gradients(model, data, seed, squared=criterion == "hessian")
    return Scorer(criterion, model.weights(), gradients, generator)


def needs_labels(criterion: str) -> bool:
    """Whether this criterion uses labelled images."""
    return criterion in ("taylor", "hessian")


def _gradients(model: Model, data: Dataset, seed: int, *, squared: bool) -> dict[str, Tensor]:
    """Gradients of the loss for each parameter: their mean, or the mean of their squares image by image."""
    parameters = dict(model.module.named_parameters())
    sums = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    number = min(data.ref.images, HESSIAN_IMAGES if squared else TAYLOR_IMAGES)
    chosen = np.sort(np.random.default_rng(seed).permutation(data.ref.images)[:number]).astype(np.int64)
    task = task_named(model.card.task, model.card.classes)
    model.module.requires_grad_(True)
    try:
        for batch in data.batches(1 if squared else BATCH, chosen):
            with torch.enable_grad():
                loss = task.loss(model(batch.images), batch.targets).sum()
            found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
            for total, part in zip(sums.values(), found, strict=True):
                if part is not None:
                    total += part.square() if squared else part
    finally:
        model.module.requires_grad_(False)
    return {name: total / number for name, total in sums.items()}


PROOF_SIZES = (2, 5)

AfterChannelStep = Callable[[Model, int], Model]
"""What is done after each step: recovery; given the pruned model and the number of the step, from 0."""


def shrink(
    parent: Model, criterion: Criterion, targets: Channels, data: Dataset | None, seed: int, between: AfterChannelStep
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
        smaller = assemble(remove_channels(model.weights(), removals), model.card)
        reasons = _unlike(smaller, with_weights(model, mask_channels(model.weights(), removals)))
    except RuntimeError as error:
        line = str(error).splitlines()[0][:200]
        raise Refused(f"{model.card.architecture} does not run with fewer channels: {line}") from error
    if reasons:
        raise Refused(f"{model.card.architecture} was pruned incorrectly and is not returned", reasons)
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


AfterSparsityStep = Callable[[Model, int, Masks], Model]
"""Recovery after a step: the pruned model, the number of the step from 0, and where weights may be other than 0."""


def prunable(module: nn.Module) -> tuple[str, ...]:
    """The names of the weights that may be zeroed, in the module's own order."""
    convolutions = [(path, layer) for path, layer in module.named_modules() if isinstance(layer, nn.Conv2d)]
    linears = [(path, layer) for path, layer in module.named_modules() if isinstance(layer, nn.Linear)]
    chosen = [path for path, layer in convolutions[1:] if layer.groups == 1]
    for place, (path, layer) in enumerate(linears):
        if any(later.in_features == layer.out_features for _, later in linears[place + 1 :]):
            chosen.append(path)
    return tuple(f"{path}.weight" for path in chosen)


def sparse(
    parent: Model, sparsity: float, steps: int, between: AfterSparsityStep, *, everywhere: bool
) -> dict[str, Tensor]:
    """Zero this share of the prunable weights with the smallest absolute value, by a cubic schedule.

    ``everywhere``: the share is one of all prunable weights together, else one of each layer.

    Raises:
        InvalidInput: the model has no weight that may be zeroed.
    """
    names = _prunable(parent)
    model = parent
    for step in range(steps):
        share = sparsity * (1 - (1 - (step + 1) / steps) ** 3)
        weights = (_together if everywhere else _apart)(model.weights(), names, share)
        model = between(with_weights(parent, weights), step, masks_of(weights, names))
    return model.weights()


def n_of_m(parent: Model, keep: int, of: int, between: AfterSparsityStep) -> dict[str, Tensor]:
    """Keep the largest ``keep`` of every ``of`` consecutive input channels, at each place of a filter.

    Raises:
        InvalidInput: nothing would go, or no layer has a number of input channels that ``of`` divides.
    """
    weights = parent.weights()
    names = tuple(name for name in _prunable(parent) if weights[name].shape[1] % of == 0)
    if keep >= of or not names:
        raise InvalidInput(f"{keep} of {of} can't be kept: keep must be smaller, and {of} must divide input channels")
    for name in names:
        runs = torch.unflatten(weights[name].movedim(1, -1).contiguous(), -1, (-1, of))
        order = torch.argsort(runs.abs(), dim=-1, descending=True, stable=True)
        mask = torch.zeros_like(runs, dtype=torch.bool).scatter_(-1, order[..., :keep], value=True)
        weights[name] = (runs * mask).flatten(-2).movedim(-1, 1).contiguous()
    return between(with_weights(parent, weights), 0, masks_of(weights, names)).weights()


def _prunable(parent: Model) -> tuple[str, ...]:
    names = prunable(parent.module)
    if not names:
        raise InvalidInput(f"{parent.card.architecture} has no weight that may be zeroed; int8 or float16 still work")
    return names


def _together(weights: dict[str, Tensor], names: tuple[str, ...], share: float) -> dict[str, Tensor]:
    sizes = [weights[name].numel() for name in names]
    zeros = _smallest(torch.cat([weights[name].abs().flatten() for name in names]), share)
    for name, mask in zip(names, torch.split(zeros, sizes), strict=True):
        weights[name] = weights[name].masked_fill(mask.view_as(weights[name]), 0)
    return weights


def _apart(weights: dict[str, Tensor], names: tuple[str, ...], share: float) -> dict[str, Tensor]:
    for name in names:
        mask = _smallest(weights[name].abs().flatten(), share).view_as(weights[name])
        weights[name] = weights[name].masked_fill(mask, 0)
    return weights


def _smallest(magnitudes: Tensor, share: float) -> Tensor:
    """A mask of exactly ``round(share * n)`` smallest entries; ties fall to the earlier weight."""
    mask = torch.zeros(magnitudes.numel(), dtype=torch.bool)
    mask[torch.argsort(magnitudes, stable=True)[: round(share * magnitudes.numel())]] = True
    return mask


@dataclass(frozen=True)
class Work:
    """All that a method is given."""

    parent: Model
    recipe: Recipe
    recovery: Recovery
    sources: Sources
    progress: Progress

    def after(self, steps: int) -> AfterStep:
        """The recovery, divided over this many steps."""
        return AfterStep(self.parent, self.recovery, self.sources, steps, self.recipe.seed, self.progress)


def _sparse(work: Work, *, everywhere: bool) -> dict[str, Tensor]:
    targets = cast(Sparsity, targets_of(work.recipe, Sparsity))
    return sparse(work.parent, targets.sparsity, targets.steps, work.after(targets.steps), everywhere=everywhere)


def _n_of_m(work: Work) -> dict[str, Tensor]:
    targets = cast(NofM, targets_of(work.recipe, NofM))
    return n_of_m(work.parent, targets.keep, targets.of, work.after(1))


def _structured(work: Work, *, criterion: Criterion) -> dict[str, Tensor]:
    targets = cast(Channels, targets_of(work.recipe, Channels))
    data = work.sources.of(None, f"the criterion {criterion}") if needs_labels(criterion) else None
    after = work.after(targets.steps)
    return shrink(work.parent, criterion, targets, data, work.recipe.seed, lambda model, step: after(model, step, {}))


def _nothing(work: Work) -> dict[str, Tensor]:
    targets_of(work.recipe, Nothing)
    if work.recipe.number_format is None and not work.recipe.recovery:
        raise InvalidInput("this recipe changes nothing: name a method, a number format or a recovery")
    weights = work.after(1)(work.parent, 0, {}).weights()
    if work.recipe.number_format is None and all(
        torch.equal(weights[name], tensor) for name, tensor in work.parent.weights().items()
    ):
        raise InvalidInput("this recipe changed nothing: the parent's normalisation statistics are the better ones")
    return weights


METHODS: dict[str, Callable[[Work], dict[str, Tensor]]] = {
    "magnitude-global": partial(_sparse, everywhere=True),
    "magnitude-per-layer": partial(_sparse, everywhere=False),
    "n-m": _n_of_m,
    "none": _nothing,
    **{f"structured-{criterion}": partial(_structured, criterion=criterion) for criterion in CRITERIA},
}
"""Every method that a recipe can name."""
