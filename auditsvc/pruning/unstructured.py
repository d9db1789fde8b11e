"""Unstructured magnitude pruning: the smallest weights are set to zero.

Depthwise filters, the first convolution and the last linear layers are left alone: they hold few weights, and
losing one of nine costs far more than losing one of thousands.  Zeros make a file smaller when it is
compressed.  They bring no speed in dense kernels, and none is claimed; nor does N:M on a processor without a
kernel for it.

Reference: S. Han et al. (2015), "Learning both Weights and Connections for Efficient Neural Networks",
arXiv:1506.02626.  M. Zhu and S. Gupta (2017), "To prune, or not to prune", arXiv:1710.01878 (cubic schedule).
A. Mishra et al. (2021), "Accelerating Sparse Deep Neural Networks", arXiv:2104.08378 (N:M).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from auditsvc.errors import InvalidInput
from auditsvc.models import Model
from auditsvc.pruning.channel_removal import with_weights
from auditsvc.pruning.recovery import Masks, masks_of

Between = Callable[[Model, int, Masks], Model]
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


def sparse(parent: Model, sparsity: float, steps: int, between: Between, *, everywhere: bool) -> dict[str, Tensor]:
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


def n_of_m(parent: Model, keep: int, of: int, between: Between) -> dict[str, Tensor]:
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
