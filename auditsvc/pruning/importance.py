"""Channel importance, by one of eight criteria; channels with low scores are pruned first.

Each layer that takes part in a set of coupled channels scores them from its own weights (and gradients, where the
criterion wants them); the scores are averaged over the layers, summed over the parts of a unit, and divided by their
mean so that layers can be compared.

Reference: H. Li et al. (2017), "Pruning Filters for Efficient ConvNets", arXiv:1608.08710 (L1, L2).
Z. Liu et al. (2017), "Learning Efficient Convolutional Networks through Network Slimming", arXiv:1708.06519
(batch-norm scale).  Y. He et al. (2019), "Filter Pruning via Geometric Median", arXiv:1811.00250 (FPGM).
J. Lee et al. (2021), "Layer-Adaptive Sparsity for the Magnitude-Based Pruning", arXiv:2010.07611 (LAMP).
P. Molchanov et al. (2019), "Importance Estimation for Neural Network Pruning", arXiv:1906.10771 (Taylor).
Y. LeCun et al. (1990), "Optimal Brain Damage", NIPS 2 (Hessian, by its Fisher diagonal).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from auditsvc.datasets import Dataset
from auditsvc.models import Model
from auditsvc.pruning.dependency_graph import Coupled, Cut
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
