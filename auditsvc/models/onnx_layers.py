"""``OnnxGraph``: an imported ONNX model as data, and the ONNX operators as torch functions.

``architecture.json`` lists the nodes; the weights are safetensors like those of any other model.  Neither contains
code: an operator is a name in a fixed table, and conversion refuses operators that are not in it.  Each operator takes
its constants as ``at`` (the converter has evaluated all shape arithmetic) and tensors.  Layers with weights are
ordinary torch layers, so such a model can be pruned, watermarked, attacked and exported like any other.

Reference: the ONNX operator schemas, https://onnx.ai/onnx/operators/.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

Numbers = Mapping[str, Any]
Operator = Callable[..., "Tensor | tuple[Tensor, ...]"]


def _max_pool(at: Numbers, x: Tensor) -> Tensor:
    padded = functional.pad(x, at["pads"], value=float("-inf")) if any(at["pads"]) else x
    return functional.max_pool2d(padded, at["kernel"], at["stride"], 0, at["dilation"], bool(at["ceil"]))


def _average_pool(at: Numbers, x: Tensor) -> Tensor:
    left, right, top, bottom = at["pads"]
    if (left, top) == (right, bottom):
        return functional.avg_pool2d(x, at["kernel"], at["stride"], (top, left), bool(at["ceil"]), bool(at["include"]))
    return functional.avg_pool2d(functional.pad(x, at["pads"]), at["kernel"], at["stride"], 0, bool(at["ceil"]))


def _slice(at: Numbers, x: Tensor) -> Tensor:
    for start, end, axis, step in zip(at["starts"], at["ends"], at["axes"], at["steps"], strict=True):
        index: list[slice] = [slice(None)] * x.dim()
        index[axis] = slice(start, end, step)
        x = x[tuple(index)]
    return x


def _squeeze(at: Numbers, x: Tensor) -> Tensor:
    for axis in sorted((axis % x.dim() for axis in at["axes"]), reverse=True):
        x = x.squeeze(axis)
    return x


def _unsqueeze(at: Numbers, x: Tensor) -> Tensor:
    rank = x.dim() + len(at["axes"])
    for axis in sorted(axis % rank for axis in at["axes"]):
        x = x.unsqueeze(axis)
    return x


def _reshape(at: Numbers, x: Tensor) -> Tensor:
    return x.reshape([x.shape[place] if size == 0 else size for place, size in enumerate(at["shape"])])


def _flatten(at: Numbers, x: Tensor) -> Tensor:
    return x.flatten(1) if at["axis"] == 1 else x.reshape(int(torch.Size(x.shape[: at["axis"]]).numel()), -1)


def _resize(at: Numbers, x: Tensor) -> Tensor:
    corners = {} if at["mode"] == "nearest" else {"align_corners": bool(at["corners"])}
    if "sizes" in at:
        return functional.interpolate(x, size=_checked(at["sizes"]), mode=at["mode"], **corners)
    return functional.interpolate(x, scale_factor=tuple(at["scales"]), mode=at["mode"], **corners)


def _concat(at: Numbers, *xs: Tensor) -> Tensor:
    """What is the same for every image has one row, which is repeated."""
    rows = max(len(x) for x in xs)
    return torch.cat([x.expand(rows, *x.shape[1:]) if len(x) == 1 and at["axis"] else x for x in xs], at["axis"])


def _expand(at: Numbers, x: Tensor, images: Tensor) -> Tensor:
    """To a shape in which -1 is the number of images; sizes that ``x`` has and the shape does not are kept."""
    shape = _checked([len(images) if size == -1 else size for size in at["shape"]])
    missing = max(0, len(shape) - x.dim()), max(0, x.dim() - len(shape))
    sizes = zip([*[1] * missing[0], *x.shape], [*[1] * missing[1], *shape], strict=True)
    return x.expand([own if size == 1 else size for own, size in sizes])


def _softmax(at: Numbers, x: Tensor, *, log: bool = False) -> Tensor:
    flat = x.flatten(at["axis"]) if "from" in at else x
    axis = -1 if "from" in at else at["axis"]
    return (flat.log_softmax(axis) if log else flat.softmax(axis)).reshape(x.shape)


def _depth_to_space(at: Numbers, x: Tensor) -> Tensor:
    if at["mode"] == "CRD":
        return functional.pixel_shuffle(x, at["blocksize"])
    size, (_, channels, height, width) = at["blocksize"], x.shape
    parts = x.reshape(-1, size, size, channels // size**2, height, width).permute(0, 3, 4, 1, 5, 2)
    return parts.reshape(-1, channels // size**2, height * size, width * size)


def _space_to_depth(at: Numbers, x: Tensor) -> Tensor:
    size, (_, channels, height, width) = at["blocksize"], x.shape
    parts = x.reshape(-1, channels, height // size, size, width // size, size).permute(0, 3, 5, 1, 2, 4)
    return parts.reshape(-1, channels * size**2, height // size, width // size)


def _gather(at: Numbers, x: Tensor) -> Tensor:
    if isinstance(at["index"], int):
        return x.select(at["axis"], at["index"])
    places = torch.tensor(at["index"], device=x.device)
    return x.index_select(at["axis"], places % x.shape[at["axis"]])


def _folded(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    """An operator of any number of tensors, two at a time."""
    return lambda _at, *xs: reduce(function, xs)


OPERATORS: dict[str, Operator] = {
    "Abs": lambda _at, x: x.abs(),
    "Add": lambda _at, x, y: x + y,
    "And": lambda _at, x, y: x.bool() & y.bool(),
    "AveragePool": _average_pool,
    "Bool": lambda _at, x: x != 0,
    "Ceil": lambda _at, x: x.ceil(),
    "Celu": lambda at, x: functional.celu(x, at["alpha"]),
    "Clip": lambda at, x: x.clamp(at["min"], at["max"]),
    "Concat": _concat,
    "Cos": lambda _at, x: x.cos(),
    "DepthToSpace": _depth_to_space,
    "Div": lambda _at, x, y: x / y,
    "Elu": lambda at, x: functional.elu(x, at["alpha"]),
    "Equal": lambda _at, x, y: x == y,
    "Erf": lambda _at, x: torch.erf(x),
    "Exp": lambda _at, x: torch.exp(x),
    "Expand": _expand,
    "Flatten": _flatten,
    "Float": lambda _at, x: x.float(),
    "Floor": lambda _at, x: x.floor(),
    "Gather": _gather,
    "Gelu": lambda at, x: functional.gelu(x, approximate=at["approximate"]),
    "GlobalAveragePool": lambda _at, x: functional.adaptive_avg_pool2d(x, 1),
    "GlobalMaxPool": lambda _at, x: functional.adaptive_max_pool2d(x, 1),
    "Greater": lambda _at, x, y: x > y,
    "GreaterOrEqual": lambda _at, x, y: x >= y,
    "GroupNormalization": lambda at, x, gain, bias: functional.group_norm(
        x,
        at["num_groups"],
        gain.repeat_interleave(x.shape[1] // len(gain)),
        bias.repeat_interleave(x.shape[1] // len(bias)),
        at["epsilon"],
    ),
    "HardSigmoid": lambda at, x: (x * at["alpha"] + at["beta"]).clamp(0, 1),
    "HardSwish": lambda _at, x: functional.hardswish(x),
    "Identity": lambda _at, x: x,
    "InstanceNormalization": lambda at, x, gain, bias: functional.instance_norm(
        x, weight=gain, bias=bias, eps=at["epsilon"]
    ),
    "IsNaN": lambda _at, x: x.isnan(),
    "LeakyRelu": lambda at, x: functional.leaky_relu(x, at["alpha"]),
    "Less": lambda _at, x, y: x < y,
    "LessOrEqual": lambda _at, x, y: x <= y,
    "Log": lambda _at, x: torch.log(x),
    "LogSoftmax": lambda at, x: _softmax(at, x, log=True),
    "LpNormalization": lambda at, x: functional.normalize(x, p=at["p"], dim=at["axis"]),
    "MatMul": lambda _at, x, y: x @ y,
    "Max": _folded(torch.maximum),
    "MaxPool": _max_pool,
    "Min": _folded(torch.minimum),
    "Mish": lambda _at, x: functional.mish(x),
    "Mul": lambda _at, x, y: x * y,
    "Neg": lambda _at, x: -x,
    "Not": lambda _at, x: ~x.bool(),
    "Or": lambda _at, x, y: x.bool() | y.bool(),
    "PRelu": lambda _at, x, slope: torch.where(x > 0, x, x * slope),
    "Pad": lambda at, x: functional.pad(x, at["pads"], at["mode"], at["value"] if at["mode"] == "constant" else None),
    "Pow": lambda _at, x, y: x**y,
    "Reciprocal": lambda _at, x: 1 / x,
    "ReduceL2": lambda at, x: x.pow(2).sum(at["axes"], bool(at["keep"])).sqrt(),
    "ReduceMax": lambda at, x: x.amax(at["axes"], bool(at["keep"])),
    "ReduceMean": lambda at, x: x.mean(at["axes"], bool(at["keep"])),
    "ReduceMin": lambda at, x: x.amin(at["axes"], bool(at["keep"])),
    "ReduceSum": lambda at, x: x.sum(at["axes"], bool(at["keep"])),
    "Relu": lambda _at, x: functional.relu(x),
    "Reshape": _reshape,
    "Resize": _resize,
    "Round": lambda _at, x: x.round(),
    "Scale": lambda at, x: x * at["factor"],
    "Selu": lambda at, x: at["gamma"] * functional.elu(x, at["alpha"]),
    "Sigmoid": lambda _at, x: torch.sigmoid(x),
    "Sign": lambda _at, x: x.sign(),
    "Sin": lambda _at, x: x.sin(),
    "Slice": _slice,
    "Softmax": _softmax,
    "Softplus": lambda _at, x: functional.softplus(x),
    "Softsign": lambda _at, x: functional.softsign(x),
    "SpaceToDepth": _space_to_depth,
    "Split": lambda at, x: torch.split(x, at["split"], at["axis"]),
    "Sqrt": lambda _at, x: torch.sqrt(x),
    "Squeeze": _squeeze,
    "Sub": lambda _at, x, y: x - y,
    "Sum": _folded(torch.add),
    "Tanh": lambda _at, x: torch.tanh(x),
    "Tile": lambda at, x: x.repeat(at["repeats"]),
    "Transpose": lambda at, x: x.permute(at["perm"] or range(x.dim())[::-1]),
    "Trunc": lambda _at, x: x.float().trunc(),
    "Unsqueeze": _unsqueeze,
    "Where": lambda _at, chosen, x, y: torch.where(chosen.bool(), x, y),
}
"""By name; ``at`` first, then tensors."""


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
    if node["op"] == "conv_transpose":
        _checked([at["in"], at["out"] // at["groups"], *at["kernel"]])
        return nn.ConvTranspose2d(
            at["in"], at["out"], tuple(at["kernel"]), tuple(at["stride"]), tuple(at["pads"]), tuple(at["more"]),
            at["groups"], bool(at["bias"]), tuple(at["dilation"]),
        )  # fmt: skip
    if node["op"] == "linear":
        _checked([at["in"], at["out"]])
        return nn.Linear(at["in"], at["out"], bool(at["bias"]))
    if node["op"] == "batch_norm":
        return nn.BatchNorm2d(_checked([at["channels"]])[0], at["eps"])
    if node["op"] == "layer_norm":
        return nn.LayerNorm(_checked(at["shape"]), at["eps"])
    return None


NETWORKS = {"onnx_graph": OnnxGraph}
