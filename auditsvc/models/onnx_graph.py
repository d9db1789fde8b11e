"""OnnxGraph: a network as data, for models that came as ONNX.

``architecture.json`` lists the nodes; the weights are safetensors like those of any other model.  There is no code in
either: an operator is a name in a fixed table.  Layers with weights are ordinary torch layers, so such a model can be
pruned, marked, attacked and exported like one that came with its class.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from auditsvc.models.onnx_ops import OPERATORS

MAX_NODES, MAX_NUMBERS = 20_000, 2**30


class _PaddedConv(nn.Conv2d):
    """A convolution whose padding may differ from side to side: left, right, top, bottom."""

    def __init__(self, pads: Sequence[int], **sizes: Any) -> None:
        super().__init__(**sizes)
        self.pads = tuple(pads)

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(functional.pad(input, self.pads))


class OnnxGraph(nn.Module):
    """Runs ``nodes`` in order, from ``image`` to ``answer``.

    A node is ``{"op", "in", "out", "at"}``: the operator, the names of its inputs, the name or names of its outputs,
    and its numbers.  ``constants`` gives the shape of each stored tensor that no layer owns.
    """

    def __init__(
        self, nodes: Sequence[Mapping[str, Any]], constants: Mapping[str, Sequence[int]], image: str, answer: str
    ) -> None:
        super().__init__()
        if len(nodes) > MAX_NODES:
            raise ValueError(f"more than {MAX_NODES} nodes")
        self.nodes = tuple(dict(node) for node in nodes)
        self.image, self.answer = image, answer
        self.layers = nn.ModuleDict()
        for place, node in enumerate(self.nodes):
            layer = _layer(node)
            if layer is not None:
                self.layers[str(place)] = layer
            elif node["op"] not in OPERATORS:
                raise ValueError(f"there is no operator {node['op']!r}")
        self.constants = tuple(constants)
        for name, shape in constants.items():
            if not name.isidentifier() or hasattr(self, name):
                raise ValueError(f"{name!r} is no name for a constant")
            self.register_buffer(name, torch.zeros(_checked(shape)))

    def forward(self, images: Tensor) -> Tensor:
        """The answer for these images."""
        values: dict[str, Tensor] = {self.image: images, **{name: getattr(self, name) for name in self.constants}}
        for place, node in enumerate(self.nodes):
            inputs = [values[name] for name in node["in"]]
            if str(place) in self.layers:
                values[node["out"]] = self.layers[str(place)](*inputs)
                continue
            given = OPERATORS[node["op"]](node["at"], *inputs)
            if isinstance(given, Tensor):
                values[node["out"]] = given
            else:
                values.update(zip(node["out"], given, strict=True))
        return values[self.answer]


def _checked(sizes: Sequence[int]) -> list[int]:
    """Sizes that a card may ask memory for."""
    if any(not isinstance(size, int) or size < 0 for size in sizes) or math.prod(sizes) > MAX_NUMBERS:
        raise ValueError(f"{sizes} is no shape of a tensor here")
    return list(sizes)


def _layer(node: Mapping[str, Any]) -> nn.Module | None:
    """The torch layer of a node that has weights; None for an operator without."""
    at: Mapping[str, Any] = node["at"]
    if node["op"] == "conv":
        _checked([at["out"], at["in"] // at["groups"], *at["kernel"]])
        sizes = {"in_channels": at["in"], "out_channels": at["out"], "kernel_size": tuple(at["kernel"]),
                 "stride": tuple(at["stride"]), "dilation": tuple(at["dilation"]), "groups": at["groups"],
                 "bias": bool(at["bias"])}  # fmt: skip
        left, right, top, bottom = at["pads"]
        if (left, top) == (right, bottom):
            return nn.Conv2d(padding=(top, left), **sizes)
        return _PaddedConv(at["pads"], **sizes)
    if node["op"] == "linear":
        _checked([at["in"], at["out"]])
        return nn.Linear(at["in"], at["out"], bool(at["bias"]))
    if node["op"] == "batch_norm":
        return nn.BatchNorm2d(_checked([at["channels"]])[0], at["eps"])
    if node["op"] == "layer_norm":
        return nn.LayerNorm(_checked(at["shape"]), at["eps"])
    return None
