"""Reads a suspect model and matches its tensors to the original's layers.

Weights are read from safetensors and ONNX, as floats or as 8-bit integers; nothing is unpickled, and external files
of an ONNX model are not opened.  Exporters rename tensors, so layers without a match by name are matched by what
renaming, permuting and scaling preserve: the kernel size, the distribution of the weights' magnitudes, and the order
of layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from auditsvc.errors import InvalidInput

Arrays = Mapping[str, NDArray[np.float32]]

QUANTILES = 64
"""Points of the sorted weights that are compared."""

BALANCING = 3
"""Rounds of bringing all filters, then all channels, to the same size."""

FAR = 0.02
"""How much the whole length of the network counts against a pair, in units of the spread's distance."""

# Where each operation of ONNX has its weight, scale and zero point; -1 where it has none.
_WEIGHTS = {
    "Conv": (1, -1, -1), "FusedConv": (1, -1, -1), "Gemm": (1, -1, -1), "MatMul": (1, -1, -1),
    "QLinearConv": (3, 4, 5), "QLinearMatMul": (3, 4, 5), "QGemm": (3, 4, 5), "ConvInteger": (1, -1, 3),
    "MatMulInteger": (1, -1, 3), "DynamicQuantizeMatMul": (1, 2, 3), "FusedMatMul": (1, -1, -1),
}  # fmt: skip
_ENDINGS = ("_quantized", "_DequantizeLinear_Output", "_q", "_dq")


def read_suspect(path: Path) -> dict[str, Tensor]:
    """The weights of a found model by name, as float32, layers in the order in which the file has them.

    Raises:
        InvalidInput: a file that is neither safetensors nor ONNX, or is damaged.
    """
    if not path.is_file():
        raise InvalidInput(f"there is no file {path}")
    if path.suffix == ".onnx":
        return _read_onnx(path)
    if path.suffix != ".safetensors":
        raise InvalidInput(f"{path.name}: only .safetensors and .onnx files are read; other formats can run code")
    try:
        return {name: tensor.float() for name, tensor in load_file(path).items()}
    except (SafetensorError, OSError, ValueError) as error:
        raise InvalidInput(f"{path.name} is not a safetensors file: {error}") from error


def _read_onnx(path: Path) -> dict[str, Tensor]:
    import onnx
    import onnx.numpy_helper
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        graph = onnx.load(str(path), load_external_data=False).graph
    except (DecodeError, OSError, ValueError) as error:
        raise InvalidInput(f"{path.name} is not an ONNX file: {error}") from error
    return _Graph(onnx, graph, path.name).weights()


class _Graph:
    """The weights of an ONNX graph, brought back to floats."""

    def __init__(self, onnx: ModuleType, graph: Any, name: str) -> None:
        self.onnx, self.graph, self.name = onnx, graph, name
        self.stored = {tensor.name: tensor for tensor in graph.initializer}
        self.makers = {output: node for node in graph.node for output in node.output}

    def weights(self) -> dict[str, Tensor]:
        """Layers in order, then every other float tensor (normalisation, biases) under its own name."""
        found: dict[str, NDArray[np.float32]] = {}
        for node in self.graph.node:
            position = _WEIGHTS.get(node.op_type)
            if position is None:
                continue
            weight = self.value(node, position[0])
            if weight is None:
                continue
            whole = _dequantised(weight, self.value(node, position[1]), self.value(node, position[2]), 0, node.op_type)
            if "Conv" not in node.op_type and not self.number(node, "transB", 0):
                whole = whole.T
            if whole.ndim >= 2:
                found.setdefault(self.source(node.input[position[0]]), whole)
        for name, tensor in self.stored.items():
            if tensor.data_type == self.onnx.TensorProto.FLOAT and name not in found:
                found[name] = self.array(tensor).astype(np.float32)
        if not found:
            raise InvalidInput(f"{self.name} holds no weights")
        return {name: torch.from_numpy(np.ascontiguousarray(array, np.float32)) for name, array in found.items()}

    def source(self, name: str) -> str:
        """The name of the stored tensor behind a value, without a quantiser's ending."""
        for _ in range(8):
            if name in self.stored or name not in self.makers:
                break
            name = self.makers[name].input[0] if self.makers[name].input else name
        for ending in _ENDINGS:
            name = name.removesuffix(ending)
        return name

    def value(self, node: Any, position: int, depth: int = 0) -> NDArray[Any] | None:
        """The constant at this input of a node, through quantisation, transposition and casts; None if computed."""
        if not 0 <= position < len(node.input) or depth > 8:
            return None
        name = node.input[position]
        if name in self.stored:
            return self.array(self.stored[name])
        maker = self.makers.get(name)
        if maker is None:
            return None
        if maker.op_type == "Constant":
            values = [attribute.t for attribute in maker.attribute if attribute.name == "value"]
            return self.array(values[0]) if values else None
        inner = self.value(maker, 0, depth + 1)
        if inner is None or maker.op_type not in ("DequantizeLinear", "Transpose", "Identity", "Cast"):
            return None
        if maker.op_type == "Transpose":
            order = [list(attribute.ints) for attribute in maker.attribute if attribute.name == "perm"]
            return inner.transpose(order[0] if order else None)
        if maker.op_type == "DequantizeLinear":
            scale, zero = self.value(maker, 1, depth + 1), self.value(maker, 2, depth + 1)
            return _dequantised(inner, scale, zero, self.number(maker, "axis", 1), maker.op_type)
        return inner

    def number(self, node: Any, name: str, default: int) -> int:
        """An integer attribute of a node."""
        return next((int(attribute.i) for attribute in node.attribute if attribute.name == name), default)

    def array(self, tensor: Any) -> NDArray[Any]:
        """A stored tensor.  Raises ``InvalidInput`` where it is in another file or is damaged."""
        if tensor.data_location == self.onnx.TensorProto.EXTERNAL:
            raise InvalidInput(f"{self.name} keeps its weights in another file; save it as one file")
        try:
            return np.asarray(self.onnx.numpy_helper.to_array(tensor))
        except (ValueError, TypeError) as error:
            raise InvalidInput(f"{self.name}: the tensor {tensor.name!r} is damaged: {error}") from error


def _dequantised(
    weight: NDArray[Any], scale: NDArray[Any] | None, zero: NDArray[Any] | None, axis: int, operation: str
) -> NDArray[np.float32]:
    """``(weight - zero) * scale``, with one scale or one for each place along ``axis``."""
    if operation in ("QLinearMatMul", "QGemm", "MatMulInteger", "DynamicQuantizeMatMul"):
        axis = weight.ndim - 1

    def spread(values: NDArray[Any]) -> NDArray[np.float32]:
        flat = values.astype(np.float32).reshape(-1)
        if flat.size != weight.shape[axis]:
            return flat[:1] if flat.size else np.zeros(1, np.float32)
        return flat.reshape([-1 if i == axis % weight.ndim else 1 for i in range(weight.ndim)])

    full = weight.astype(np.float32)
    if zero is not None:
        full = full - spread(zero)
    return full * spread(scale) if scale is not None else full


def renamed(suspect: Arrays, original: Arrays, weights: Sequence[str]) -> dict[str, NDArray[np.float32]]:
    """The suspect's tensors under the original's names, linear layers and 1x1 convolutions in the original's shape.

    Tensors of one name and kernel are one layer.  The rest is paired so that the sorted sizes of the weights
    are nearest; where that is ambiguous, the order of layers decides.
    """
    same = {name: array for name, array in suspect.items() if name in original}
    missing = [name for name in weights if name not in same or _kernel(same[name]) != _kernel(original[name])]
    kept = {name: array for name, array in same.items() if name not in missing}
    taken = set(weights) - set(missing)
    spare = [name for name, array in suspect.items() if array.ndim in (2, 4) and name not in taken]
    for kernel in {_kernel(original[name]) for name in missing}:
        ours = [name for name in missing if _kernel(original[name]) == kernel]
        theirs = [name for name in spare if _kernel(suspect[name]) == kernel]
        if theirs:
            cost = [[_distance(suspect[t], j / len(theirs), original[o], i / len(ours))
                     for j, t in enumerate(theirs)] for i, o in enumerate(ours)]  # fmt: skip
            for i, j in zip(*linear_sum_assignment(np.array(cost)), strict=True):
                kept[ours[i]] = suspect[theirs[j]]
    return {name: _shaped(array, original[name]) for name, array in kept.items()}


def _kernel(array: NDArray[np.float32]) -> tuple[int, ...]:
    """The size of the window, and whether there is one filter for each channel."""
    if array.ndim not in (2, 4):
        return ()
    return (*(array.shape[2:] if array.ndim == 4 else (1, 1)), int(array.shape[1] == 1))


def _shaped(array: NDArray[np.float32], like: NDArray[np.float32]) -> NDArray[np.float32]:
    if {array.ndim, like.ndim} == {2, 4} and _kernel(array) == _kernel(like):
        return array.reshape(*array.shape[:2], *like.shape[2:])
    return array


def _distance(theirs: NDArray[np.float32], their_place: float, ours: NDArray[np.float32], our_place: float) -> float:
    """How unlike two layers are, whatever the order and scale of their channels."""
    shapes = sum(
        abs(np.log((one + 1) / (other + 1))) for one, other in zip(theirs.shape[:2], ours.shape[:2], strict=True)
    )
    spread = float(np.abs(_spread(theirs) - _spread(ours)).mean())
    return float(4 * shapes) + spread + FAR * abs(their_place - our_place)


def _spread(array: NDArray[np.float32]) -> NDArray[np.float64]:
    """The sorted sizes of the weights, every filter and every channel brought to the same size first."""
    if not array.any():
        return np.zeros(QUANTILES)
    sizes = np.abs(array.reshape(*array.shape[:2], -1)).astype(np.float64)
    alive = sizes > 0
    for _ in range(BALANCING):
        for axes in ((1, 2), (0, 2)):
            mean = (sizes**2).sum(axes, keepdims=True) / np.maximum(alive.sum(axes, keepdims=True), 1)
            sizes /= np.sqrt(np.where(mean > 0, mean, 1))
    quantiles: NDArray[np.float64] = np.quantile(sizes[alive], np.linspace(0, 1, QUANTILES))
    return quantiles
