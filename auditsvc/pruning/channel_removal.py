"""Removing and masking channels of weight tensors, by position."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from auditsvc.models import Model
from auditsvc.models.resize_layers import resize

RemovedChannels = dict[tuple[str, int], Tensor]
"""For a tensor's name and a dimension: the positions that go."""

TOLERANCE = 1e-4
"""The largest difference between two ways to compute the same sum, for outputs of size 1."""


def merge_removals(*parts: RemovedChannels) -> RemovedChannels:
    """All positions of several removals together."""
    keys = {key for part in parts for key in part}
    return {key: torch.unique(torch.cat([part[key] for part in parts if key in part])) for key in keys}


def kept_shapes(shapes: dict[str, torch.Size], removals: RemovedChannels) -> dict[str, torch.Size]:
    """The shapes that are left."""
    left = {name: list(shape) for name, shape in shapes.items()}
    for (name, dimension), gone in removals.items():
        left[name][dimension] -= len(gone)
    return {name: torch.Size(shape) for name, shape in left.items()}


def remove_channels(weights: dict[str, Tensor], removals: RemovedChannels) -> dict[str, Tensor]:
    """The tensors without these positions; the others are the same objects."""
    left = dict(weights)
    for (name, dimension), gone in removals.items():
        keep = torch.ones(weights[name].shape[dimension], dtype=torch.bool)
        keep[gone] = False
        left[name] = left[name].index_select(dimension, keep.nonzero().flatten())
    return left


def mask_channels(weights: dict[str, Tensor], removals: RemovedChannels) -> dict[str, Tensor]:
    """The tensors with zeros at these positions; running statistics stay as they are."""
    left = dict(weights)
    for (name, dimension), gone in removals.items():
        if not name.endswith(("running_mean", "running_var")):
            left[name] = left[name].index_fill(dimension, gone, 0)
    return left


def with_weights(model: Model, weights: dict[str, Tensor]) -> Model:
    """A copy of the model with these tensors, resized to them."""
    module = copy.deepcopy(model.module)
    resize(module, weights)
    module.load_state_dict(weights)
    return Model(module, model.card)


def differs(found: Tensor, wanted: Tensor, words: str) -> str | None:
    """``words`` with the difference, if two ways to the same answers do not agree."""
    if found.shape != wanted.shape:
        return f"{words}: outputs are {tuple(found.shape)}, not {tuple(wanted.shape)}"
    if not bool(torch.isfinite(found).all()):
        return f"{words}: outputs are not finite"
    gap, size = float((found - wanted).abs().max()), max(1.0, float(wanted.abs().max()))
    return f"{words}: outputs differ by {gap:.2g}" if gap > TOLERANCE * size else None
