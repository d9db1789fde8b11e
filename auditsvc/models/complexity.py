"""Model complexity, counted exactly: parameters, zeros, multiply-accumulates, bytes.

Multiply-accumulates (MACs) are counted while the operations run, so a matrix product inside attention counts as
much as a layer.  Convolutions and matrix products are counted; normalisation and activations are not, as is usual.
"""

from __future__ import annotations

import copy
import math
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from auditsvc.models.model import Model
from auditsvc.models.model_files import WEIGHTS, model_files
from auditsvc.models.resize_layers import resize
from auditsvc.records.architecture import InputSpec

COMPRESSION = 6
"""zlib's level for ``bytes_compressed``: what a zip archive or a compressed transfer makes of the weights."""


def macs(model: Model) -> float:
    """Multiply-accumulates for one image; a module that needs numbers to run is counted while it computes."""
    try:
        return ShapeCounter(model).macs({})
    except (NotImplementedError, RuntimeError):
        return _counted(model.module, model.card.input, "cpu")


class ShapeCounter:
    """Counts a model at other shapes than its own without computing.

    One run on torch's ``meta`` device says at how many positions each layer is applied; with other channels its MACs
    are that many times its weights.  Where such layers are not all that is counted (attention), each count is a run.
    """

    def __init__(self, model: Model) -> None:
        self._module = copy.deepcopy(model.module).to("meta")
        self._own = {name: tensor.shape for name, tensor in model.module.state_dict().items()}
        self._names = tuple(name for name, _ in model.module.named_parameters())
        self._input = model.card.input
        self._positions: dict[str, int] = {}
        with self._counting_positions():
            self._total = _counted(self._module, self._input)
        self._closed = self._total == self._sum(self._own)

    @contextmanager
    def _counting_positions(self) -> Iterator[None]:
        """While this lasts, a run adds to ``_positions``: output pixels or rows of each layer, for one image."""

        def seen(name: str, layer: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> None:
            if isinstance(layer, nn.Linear):
                found = made.numel() // layer.out_features
            else:
                found = math.prod((given[0] if isinstance(layer, nn.ConvTranspose2d) else made).shape[2:])
            self._positions[name] = self._positions.get(name, 0) + found

        hooks = [
            layer.register_forward_hook(
                lambda layer, given, made, name=name: seen(f"{name}.weight", layer, given, made)
            )
            for name, layer in self._module.named_modules()
            if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear))
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _sum(self, shapes: Mapping[str, torch.Size]) -> float:
        return float(sum(shapes[name].numel() * positions for name, positions in self._positions.items()))

    def macs(self, shapes: Mapping[str, torch.Size]) -> float:
        """Multiply-accumulates for one image, with these shapes in place of the model's own."""
        wanted = {**self._own, **shapes}
        if self._closed:
            return self._sum(wanted)
        resize(self._module, {name: torch.empty(shape, device="meta") for name, shape in wanted.items()})
        return _counted(self._module, self._input)

    def parameters(self, shapes: Mapping[str, torch.Size]) -> float:
        """The number of parameters with these shapes in place of the model's own."""
        return float(sum({**self._own, **shapes}[name].numel() for name in self._names))


def _counted(module: nn.Module, spec: InputSpec, device: str = "meta") -> float:
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        module(torch.zeros(1, spec.channels, spec.height, spec.width, device=device))
    return counter.get_total_flops() / 2


def facts(model: Model, saved: bytes | None = None) -> dict[str, float]:
    """The card of a candidate: parameters, non-zeros, MACs, bytes as saved and bytes when compressed.

    ``saved`` is the weights' file, where that is in another number format than the model computes in.
    """
    data = model_files(model.weights(), model.card)[WEIGHTS] if saved is None else saved
    return model.counts() | {
        "macs": macs(model),
        "bytes_dense": float(len(data)),
        "bytes_compressed": float(len(zlib.compress(data, COMPRESSION))),
    }
