"""ONNX operators as torch functions, for inference graphs of vision models.

Each takes its numbers as ``at`` (already constant: the converter has done all shape arithmetic) and tensors.  What is
not in the table is refused by name when the graph is converted, never guessed.

Reference: the ONNX operator schemas, https://onnx.ai/onnx/operators/.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
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
    corners = {"align_corners": bool(at["corners"])} if at["mode"] == "bilinear" else {}
    return functional.interpolate(x, scale_factor=tuple(at["scales"]), mode=at["mode"], **corners)


OPERATORS: dict[str, Operator] = {
    "Abs": lambda _at, x: x.abs(),
    "Add": lambda _at, x, y: x + y,
    "AveragePool": _average_pool,
    "Clip": lambda at, x: x.clamp(at["min"], at["max"]),
    "Concat": lambda at, *xs: torch.cat(xs, at["axis"]),
    "Div": lambda _at, x, y: x / y,
    "Elu": lambda at, x: functional.elu(x, at["alpha"]),
    "Erf": lambda _at, x: torch.erf(x),
    "Exp": lambda _at, x: torch.exp(x),
    "Flatten": _flatten,
    "Gather": lambda at, x: x.select(at["axis"], at["index"]),
    "Gelu": lambda at, x: functional.gelu(x, approximate=at["approximate"]),
    "GlobalAveragePool": lambda _at, x: functional.adaptive_avg_pool2d(x, 1),
    "GlobalMaxPool": lambda _at, x: functional.adaptive_max_pool2d(x, 1),
    "HardSigmoid": lambda at, x: (x * at["alpha"] + at["beta"]).clamp(0, 1),
    "HardSwish": lambda _at, x: functional.hardswish(x),
    "Identity": lambda _at, x: x,
    "LeakyRelu": lambda at, x: functional.leaky_relu(x, at["alpha"]),
    "Log": lambda _at, x: torch.log(x),
    "LogSoftmax": lambda at, x: x.log_softmax(at["axis"]),
    "MatMul": lambda _at, x, y: x @ y,
    "MaxPool": _max_pool,
    "Mul": lambda _at, x, y: x * y,
    "Neg": lambda _at, x: -x,
    "PRelu": lambda _at, x, slope: torch.where(x > 0, x, x * slope),
    "Pad": lambda at, x: functional.pad(x, at["pads"], at["mode"], at["value"] if at["mode"] == "constant" else None),
    "Pow": lambda _at, x, y: x**y,
    "Reciprocal": lambda _at, x: 1 / x,
    "ReduceMax": lambda at, x: x.amax(at["axes"], bool(at["keep"])),
    "ReduceMean": lambda at, x: x.mean(at["axes"], bool(at["keep"])),
    "ReduceSum": lambda at, x: x.sum(at["axes"], bool(at["keep"])),
    "Relu": lambda _at, x: functional.relu(x),
    "Reshape": _reshape,
    "Resize": _resize,
    "Sigmoid": lambda _at, x: torch.sigmoid(x),
    "Slice": _slice,
    "Softmax": lambda at, x: x.softmax(at["axis"]),
    "Softplus": lambda _at, x: functional.softplus(x),
    "Split": lambda at, x: torch.split(x, at["split"], at["axis"]),
    "Sqrt": lambda _at, x: torch.sqrt(x),
    "Squeeze": _squeeze,
    "Sub": lambda _at, x, y: x - y,
    "Tanh": lambda _at, x: torch.tanh(x),
    "Transpose": lambda at, x: x.permute(at["perm"]),
    "Unsqueeze": _unsqueeze,
}
"""By name; ``at`` first, then tensors."""
