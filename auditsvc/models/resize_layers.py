"""Resize a module's layers to the shapes of the given tensors.

Structured pruning removes channels, so its weights have other shapes than the class creates by default.  The original
class is rebuilt from the shapes, without pickling a changed module.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from auditsvc.errors import Refused


def resize(module: nn.Module, weights: dict[str, Tensor]) -> None:
    """Give every parameter and buffer the shape of its tensor, and the layers the sizes that follow.

    The number format stays the module's own: half-precision tensors are stored small and computed in float32.

    Raises:
        Refused: with every tensor whose number of dimensions is not the layer's.
    """
    reasons: list[str] = []
    for path, layer in module.named_modules():
        prefix = f"{path}." if path else ""
        changed = [
            _replace(layer, name, prefix, weights, reasons)
            for name, _ in (*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False))
        ]
        if any(changed):
            follow_shapes(layer)
    if reasons:
        raise Refused("tensors do not fit the architecture", reasons)


def _replace(layer: nn.Module, name: str, prefix: str, weights: dict[str, Tensor], reasons: list[str]) -> bool:
    """Whether this tensor has another shape than the layer's, which then has room for it."""
    old, new = getattr(layer, name), weights.get(prefix + name)
    if new is None or new.shape == old.shape:
        return False
    if new.dim() != old.dim():
        reasons.append(f"{prefix}{name} has {new.dim()} dimensions; the architecture has {old.dim()}")
        return False
    empty = torch.zeros(new.shape, dtype=old.dtype, device=new.device)
    setattr(layer, name, nn.Parameter(empty) if isinstance(old, nn.Parameter) else empty)
    return True


def follow_shapes(layer: nn.Module) -> None:
    """Make a layer's own numbers (channels, groups, features) agree with the shape of its weight."""
    weight: Any = getattr(layer, "weight", None)
    if isinstance(layer, _ConvTransposeNd):
        layer.in_channels, layer.out_channels = weight.shape[0], weight.shape[1] * layer.groups
    elif isinstance(layer, _ConvNd):
        outputs, inputs = weight.shape[:2]
        if layer.groups == layer.in_channels and layer.groups > 1:
            layer.groups = max(1, outputs * layer.in_channels // layer.out_channels)
        layer.out_channels, layer.in_channels = outputs, inputs * layer.groups
    elif isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = weight.shape
    elif isinstance(layer, nn.LayerNorm) and weight is not None:
        layer.normalized_shape = tuple(weight.shape)
    elif isinstance(layer, nn.GroupNorm) and weight is not None:
        layer.num_channels = weight.shape[0]
    elif isinstance(layer, _NormBase):
        size = weight if weight is not None else layer.running_mean
        layer.num_features = layer.num_features if size is None else size.shape[0]
