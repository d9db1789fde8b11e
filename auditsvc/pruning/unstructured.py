"""Unstructured magnitude pruning: the smallest weights become zero.

Depthwise filters, the first convolution and the last linear layers are left alone: they hold few weights, and
losing one of nine costs far more than losing one of thousands.  Zeros make a file smaller when it is
compressed.  They bring no speed in dense kernels, and none is claimed.

Reference: S. Han et al. (2015), "Learning both Weights and Connections for Efficient Neural Networks",
arXiv:1506.02626.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from auditsvc.errors import InvalidInput
from auditsvc.models import Model
from auditsvc.records import Recipe


def prunable(module: nn.Module) -> tuple[str, ...]:
    """The names of the weights that may be zeroed, in the module's own order."""
    convolutions = [(path, layer) for path, layer in module.named_modules() if isinstance(layer, nn.Conv2d)]
    linears = [(path, layer) for path, layer in module.named_modules() if isinstance(layer, nn.Linear)]
    chosen = [path for path, layer in convolutions[1:] if layer.groups == 1]
    for place, (path, layer) in enumerate(linears):
        if any(later.in_features == layer.out_features for _, later in linears[place + 1 :]):
            chosen.append(path)
    return tuple(f"{path}.weight" for path in chosen)


def magnitude_global(parent: Model, recipe: Recipe) -> dict[str, Tensor]:
    """Zero the ``sparsity`` share of all prunable weights with the smallest absolute value."""
    weights, names, sparsity = _prepared(parent, recipe)
    sizes = [weights[name].numel() for name in names]
    zeros = _smallest(torch.cat([weights[name].abs().flatten() for name in names]), sparsity)
    for name, mask in zip(names, torch.split(zeros, sizes), strict=True):
        weights[name] = weights[name].masked_fill(mask.view_as(weights[name]), 0)
    return weights


def magnitude_per_layer(parent: Model, recipe: Recipe) -> dict[str, Tensor]:
    """Zero the ``sparsity`` share of each layer's weights with the smallest absolute value."""
    weights, names, sparsity = _prepared(parent, recipe)
    for name in names:
        mask = _smallest(weights[name].abs().flatten(), sparsity).view_as(weights[name])
        weights[name] = weights[name].masked_fill(mask, 0)
    return weights


def _prepared(parent: Model, recipe: Recipe) -> tuple[dict[str, Tensor], tuple[str, ...], float]:
    if set(recipe.targets) != {"sparsity"} or not 0 < recipe.targets["sparsity"] < 1:
        raise InvalidInput(f"{recipe.method} takes one target, sparsity, between 0 and 1; got {recipe.targets}")
    if recipe.recovery:
        raise InvalidInput(f"{recipe.method} knows no recovery; got {recipe.recovery}")
    names = prunable(parent.module)
    if not names:
        raise InvalidInput(f"{parent.card.architecture} has no weight that {recipe.method} may zero")
    return parent.weights(), names, recipe.targets["sparsity"]


def _smallest(magnitudes: Tensor, share: float) -> Tensor:
    """A mask of exactly ``round(share * n)`` smallest entries; ties fall to the earlier weight."""
    mask = torch.zeros(magnitudes.numel(), dtype=torch.bool)
    mask[torch.argsort(magnitudes, stable=True)[: round(share * magnitudes.numel())]] = True
    return mask
