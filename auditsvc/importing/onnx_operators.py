"""Translation of ONNX operators: constant values of a graph, operator attributes, and the weights of each layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from auditsvc.errors import Refused
from auditsvc.models.onnx_layers import OPERATORS

Array = NDArray[Any]


@dataclass
class Values:
    """What is known without running the network.

    ``stored``: tensors that are the same for every image and batch; ``wholes``: whole numbers at two batch sizes;
    ``rows``: one row of what is repeated for each image; ``sizes``: shapes, where the batch may read as 0; ``fixed``:
    the batch size that the graph fixes.
    """

    stored: dict[str, Array]
    wholes: dict[str, tuple[Array, Array]]
    batches: tuple[int, int]
    sizes: dict[str, list[int]]
    fixed: int | None
    rows: dict[str, Array]
    opset: int

    def numbers(self, name: str) -> list[int]:
        """Whole numbers that do not depend on the batch size; the batch size itself reads as -1.

        Raises:
            Refused: numbers that depend on the image or in another way on the batch size.
        """
        if name in self.stored:
            return [int(number) for number in self.stored[name].reshape(-1)]
        if name not in self.wholes:
            raise Refused(f"the numbers {name} are computed from the image; that can't be converted")
        first, second = (value.reshape(-1).tolist() for value in self.wholes[name])
        return [self._one(name, *pair) for pair in zip(first, second, strict=True)]

    def _one(self, name: str, first: int, second: int) -> int:
        if first == second:
            return first
        if (first, second) == self.batches:
            return -1
        raise Refused(f"the numbers {name} depend on the batch size in a way that can't be converted")

    def number(self, name: str, otherwise: float) -> float:
        """One stored number, or the default where an optional input is absent."""
        if not name:
            return otherwise
        if name not in self.stored:
            raise Refused(f"{name} is not a constant")
        return float(self.stored[name].reshape(-1)[0])


@dataclass
class Writer:
    """The network as it grows: nodes in order, weights by name, and the stored tensors that no layer owns."""

    values: Values
    image: str
    taken: set[str]
    nodes: list[dict[str, Any]] = field(default_factory=list)
    weights: dict[str, Array] = field(default_factory=dict)
    constants: dict[str, str] = field(default_factory=dict)

    def add(self, op: str, inputs: list[str], outputs: list[str], at: dict[str, Any], **weights: Array | None) -> None:
        """One node of the converted graph; its weights are stored under its number."""
        names = [self._source(name) for name in inputs]
        place = len(self.nodes)
        out: str | list[str] = outputs[0] if len(outputs) == 1 and op != "Split" else outputs
        self.nodes.append({"op": op, "in": names, "out": out, "at": at})
        for name, value in weights.items():
            if value is not None:
                self.weights[f"layers.{place}.{name}"] = value.astype(np.float32)

    def _source(self, name: str) -> str:
        """The name of a value; a stored tensor becomes a constant of the converted graph."""
        known = self.values.rows.get(name, self.values.stored.get(name))
        if known is None:
            return name
        if name not in self.constants:
            number = len(self.constants)
            while f"constant_{number}" in self.taken:
                number += 1
            self.constants[name] = f"constant_{number}"
            self.taken.add(self.constants[name])
            self.weights[self.constants[name]] = known.astype(np.float32)
            if name in self.values.rows:
                shape = [-1, *known.shape[1:]]
                self.nodes.append(
                    {"op": "Expand", "in": [self.constants[name], self.image], "out": name, "at": {"shape": shape}}
                )
        return name if name in self.values.rows else self.constants[name]


def attributes(node: NodeProto) -> dict[str, Any]:
    """The attributes of a node as plain values."""
    found = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    for name, value in found.items():
        if isinstance(value, bytes):
            found[name] = value.decode("utf-8", "replace")
        elif isinstance(value, TensorProto):
            found[name] = numpy_helper.to_array(value)
        elif not isinstance(value, int | float | str):
            found[name] = list(value)
    return found


_INT_MAX = 2**31 - 1


def translate(
    model: ModelProto, values: Values, image: str, answer: str, *, front: list[dict[str, Any]]
) -> tuple[dict[str, Any], dict[str, Array]]:
    """The arguments of ``OnnxGraph`` and its weights; ``front`` are nodes that come before those of the graph.

    Raises:
        Refused: with every operator that is not known and the nodes that it is needed for, or the first node that can't
            be converted.
    """
    wanted = _needed(model, answer, values)
    unknown: dict[str, list[str]] = {}
    for node in wanted:
        if node.domain not in ("", "ai.onnx"):
            unknown.setdefault(f"{node.domain}.{node.op_type}", []).append(node.name or node.output[0])
        elif node.op_type not in TRANSLATORS:
            unknown.setdefault(node.op_type, []).append(node.name or node.output[0])
    if unknown:
        reasons = [f"{op}: {', '.join(names[:3])}{f' and {len(names) - 3} more' if names[3:] else ''}"
                   for op, names in sorted(unknown.items())]  # fmt: skip
        raise Refused("operators that can't be converted", [*reasons, WHAT_WORKS])
    places = {front[0]["in"][0] if front else image}
    names = {name for node in model.graph.node for name in (*node.input, *node.output)} | places
    writer = Writer(values, image, names, nodes=[*front])
    for node in wanted:
        TRANSLATORS[node.op_type](node, writer)
    answer = writer._source(answer)
    shapes = {ours: list(writer.weights[ours].shape) for ours in writer.constants.values()}
    return {"nodes": writer.nodes, "constants": shapes, "image": places.pop(), "answer": answer}, writer.weights


WHAT_WORKS = (
    "ONNX Runtime runs the file as it is in `auditsvc audit`; to prune it, export the network without these operators, "
    "or give its weights with an architecture by name"
)


def _needed(model: ModelProto, answer: str, values: Values) -> list[NodeProto]:
    """The nodes that the answer depends on, without those whose whole numbers are known already."""
    needed, kept = {answer}, []
    for node in reversed(model.graph.node):
        known = all(name in values.wholes or name in values.stored or name in values.rows for name in node.output)
        if known or not needed & set(node.output):
            continue
        kept.append(node)
        needed |= set(node.input)
    return kept[::-1]


def _sides(at: dict[str, Any], node: NodeProto, values: Values, kernel: list[int]) -> list[int]:
    """ONNX pads (top, left, bottom, right) as left, right, top, bottom; SAME as the pads that it comes to."""
    auto = at.get("auto_pad", "NOTSET")
    if auto in ("NOTSET", "VALID"):
        top, left, bottom, right = at.get("pads", (0, 0, 0, 0)) if auto == "NOTSET" else (0, 0, 0, 0)
        return [left, right, top, bottom]
    shape = values.sizes.get(node.input[0], [])[2:]
    if len(shape) != 2 or 0 in shape:
        raise Refused(f"{node.op_type} {node.name}: auto_pad {auto} of an unknown size; export explicit pads")
    found: list[int] = []
    steps, spread = at.get("strides", [1, 1]), at.get("dilations", [1, 1])
    for size, reach, step, wide in zip(shape, kernel, steps, spread, strict=True):
        whole = max((-(-size // step) - 1) * step + (reach - 1) * wide + 1 - size, 0)
        small, large = whole // 2, whole - whole // 2
        found += [small, large] if auto == "SAME_UPPER" else [large, small]
    return [*found[2:], *found[:2]]


def _conv(node: NodeProto, writer: Writer) -> None:
    at, stored = attributes(node), writer.values.stored
    weight = stored.get(node.input[1])
    if weight is None or weight.ndim != 4:
        raise Refused(f"Conv {node.name}: only two-dimensional convolutions with stored weights can be converted")
    groups, bias = at.get("group", 1), stored.get(node.input[2]) if len(node.input) > 2 else None
    kernel = list(weight.shape[2:])
    sizes = {"out": weight.shape[0], "in": weight.shape[1] * groups, "kernel": kernel, "groups": groups,
             "stride": at.get("strides", [1, 1]), "dilation": at.get("dilations", [1, 1]),
             "pads": _sides(at, node, writer.values, kernel),
             "bias": int(bias is not None)}  # fmt: skip
    writer.add("conv", [node.input[0]], list(node.output), sizes, weight=weight, bias=bias)


def _conv_transpose(node: NodeProto, writer: Writer) -> None:
    at, stored = attributes(node), writer.values.stored
    weight = stored.get(node.input[1])
    top, left, bottom, right = at.get("pads", (0, 0, 0, 0))
    odd = (top, left) != (bottom, right) or at.get("auto_pad", "NOTSET") != "NOTSET" or "output_shape" in at
    if weight is None or weight.ndim != 4 or odd:
        raise Refused(f"ConvTranspose {node.name}: only in two dimensions, with stored weights and even, explicit pads")
    groups, bias = at.get("group", 1), stored.get(node.input[2]) if len(node.input) > 2 else None
    sizes = {"in": weight.shape[0], "out": weight.shape[1] * groups, "kernel": list(weight.shape[2:]), "groups": groups,
             "stride": at.get("strides", [1, 1]), "dilation": at.get("dilations", [1, 1]), "pads": [top, left],
             "more": at.get("output_padding", [0, 0]), "bias": int(bias is not None)}  # fmt: skip
    writer.add("conv_transpose", [node.input[0]], list(node.output), sizes, weight=weight, bias=bias)


def _gemm(node: NodeProto, writer: Writer) -> None:
    at, stored = attributes(node), writer.values.stored
    weight, bias = stored.get(node.input[1]), stored.get(node.input[2]) if len(node.input) > 2 else None
    if weight is None or at.get("transA", 0):
        raise Refused(f"Gemm {node.name}: only a linear layer with stored weights can be converted")
    weight = (weight if at.get("transB", 0) else weight.T) * at.get("alpha", 1.0)
    bias = None if bias is None else np.broadcast_to(bias.reshape(-1), (weight.shape[0],)) * at.get("beta", 1.0)
    sizes = {"out": weight.shape[0], "in": weight.shape[1], "bias": int(bias is not None)}
    writer.add("linear", [node.input[0]], list(node.output), sizes, weight=weight, bias=bias)


def _mat_mul(node: NodeProto, writer: Writer) -> None:
    weight = writer.values.stored.get(node.input[1])
    if weight is None or weight.ndim != 2:
        writer.add("MatMul", list(node.input), list(node.output), {})
        return
    sizes = {"out": weight.shape[1], "in": weight.shape[0], "bias": 0}
    writer.add("linear", [node.input[0]], list(node.output), sizes, weight=weight.T)


def _batch_norm(node: NodeProto, writer: Writer) -> None:
    at = attributes(node)
    if at.get("training_mode", 0) or len(node.output) > 1:
        raise Refused(f"BatchNormalization {node.name} is in training mode; export the model in eval mode")
    gain, bias, mean, variance = (writer.values.stored.get(name) for name in node.input[1:5])
    if gain is None or bias is None or mean is None or variance is None:
        raise Refused(f"BatchNormalization {node.name} has no stored weights")
    sizes = {"channels": gain.shape[0], "eps": at.get("epsilon", 1e-5)}
    counted = np.zeros((), np.int64)
    writer.add("batch_norm", [node.input[0]], list(node.output), sizes,
               weight=gain, bias=bias, running_mean=mean, running_var=variance)  # fmt: skip
    writer.weights[f"layers.{len(writer.nodes) - 1}.num_batches_tracked"] = counted


def _layer_norm(node: NodeProto, writer: Writer) -> None:
    at, stored = attributes(node), writer.values.stored
    gain = stored.get(node.input[1])
    bias = stored.get(node.input[2]) if len(node.input) > 2 else None
    if gain is None or at.get("axis", -1) not in (-1, -gain.ndim) or len(node.output) > 1:
        raise Refused(f"LayerNormalization {node.name}: only over the last dimensions, with stored weights")
    sizes = {"shape": list(gain.shape), "eps": at.get("epsilon", 1e-5)}
    bias = np.zeros_like(gain) if bias is None else bias
    writer.add("layer_norm", [node.input[0]], list(node.output), sizes, weight=gain, bias=bias)


def _pool(node: NodeProto, writer: Writer) -> None:
    at = attributes(node)
    kernel = at["kernel_shape"]
    sizes = {"kernel": kernel, "stride": at.get("strides", [1, 1]), "pads": _sides(at, node, writer.values, kernel),
             "dilation": at.get("dilations", [1, 1]), "ceil": at.get("ceil_mode", 0),
             "include": at.get("count_include_pad", 0)}  # fmt: skip
    left, right, top, bottom = sizes["pads"]
    if node.op_type == "AveragePool" and (left, top) != (right, bottom) and not sizes["include"]:
        raise Refused(f"AveragePool {node.name}: uneven pads that do not count can't be converted")
    writer.add(node.op_type, [node.input[0]], [node.output[0]], sizes)


def _reduce(node: NodeProto, writer: Writer) -> None:
    at = attributes(node)
    axes = at.get("axes") or (writer.values.numbers(node.input[1]) if len(node.input) > 1 and node.input[1] else None)
    if not axes:
        raise Refused(f"{node.op_type} {node.name}: over all dimensions, and so over the batch")
    writer.add(node.op_type, [node.input[0]], list(node.output), {"axes": axes, "keep": at.get("keepdims", 1)})


def _axes(node: NodeProto, writer: Writer) -> None:
    at = attributes(node)
    axes = at.get("axes") or (writer.values.numbers(node.input[1]) if len(node.input) > 1 else [])
    if not axes or 0 in axes:
        raise Refused(f"{node.op_type} {node.name}: the batch dimension can't be changed")
    writer.add(node.op_type, [node.input[0]], list(node.output), {"axes": axes})


def _reshape(node: NodeProto, writer: Writer) -> None:
    shape = writer.values.numbers(node.input[1])
    if attributes(node).get("allowzero", 0) and 0 in shape:
        raise Refused(f"Reshape {node.name}: to an empty tensor")
    if writer.values.fixed and shape and shape[0] == writer.values.fixed:
        shape = [-1 if -1 not in shape else 0, *shape[1:]]
    elif writer.values.fixed and shape and -1 not in shape and 0 not in shape:
        shape = [-1, *shape[1:]]  # the batch is part of the first dimension, as where channels are shuffled
    if shape.count(-1) == 2 and shape[0] == -1:
        shape = [0, *shape[1:]]
    if shape.count(-1) > 1:
        raise Refused(f"Reshape {node.name}: two sizes are unknown")
    writer.add("Reshape", [node.input[0]], list(node.output), {"shape": shape})


def _slice(node: NodeProto, writer: Writer) -> None:
    given = attributes(node)  # before opset 10 the numbers are attributes
    numbers = [writer.values.numbers(name) if name else [] for name in node.input[1:]]
    starts, ends, axes, steps = [*(numbers or [given["starts"], given["ends"], given.get("axes", [])]), [], [], []][:4]
    axes = axes or list(range(len(starts)))
    whole = [start == 0 and end >= _INT_MAX for start, end in zip(starts, ends, strict=True)]
    if any(step < 1 for step in steps) or any(axis == 0 and not all_ for axis, all_ in zip(axes, whole, strict=True)):
        raise Refused(f"Slice {node.name}: backwards, or of the batch")
    at = {"starts": starts, "ends": [min(end, _INT_MAX) for end in ends], "axes": axes,
          "steps": steps or [1] * len(axes)}  # fmt: skip
    writer.add("Slice", [node.input[0]], list(node.output), at)


def _split(node: NodeProto, writer: Writer) -> None:
    at = attributes(node)
    axis = at.get("axis", 0)
    sizes = at.get("split") or (writer.values.numbers(node.input[1]) if len(node.input) > 1 and node.input[1] else None)
    if not sizes:
        shapes = [writer.values.sizes.get(name, []) for name in node.output]
        sizes = [shape[axis] if len(shape) > abs(axis) else 0 for shape in shapes]
    if axis == 0 or 0 in sizes:
        raise Refused(f"Split {node.name}: the sizes are not known, or it is the batch that is split")
    writer.add("Split", [node.input[0]], list(node.output), {"split": sizes, "axis": axis})


def _clip(node: NodeProto, writer: Writer) -> None:
    at = attributes(node)
    given = [*node.input[1:], "", ""]
    low = at.get("min", writer.values.number(given[0], -3.4e38))
    high = at.get("max", writer.values.number(given[1], 3.4e38))
    writer.add("Clip", [node.input[0]], list(node.output), {"min": low, "max": high})


def _pad(node: NodeProto, writer: Writer) -> None:
    at = attributes(node)
    pads = at.get("pads") or writer.values.numbers(node.input[1])
    half = len(pads) // 2
    if len(node.input) > 3 or any(pads[:1] + pads[half : half + 1]) or at.get("mode", "constant") == "wrap":
        raise Refused(f"Pad {node.name}: of the batch, over chosen axes or around the edges can't be converted")
    turned = [side for axis in range(half - 1, 0, -1) for side in (pads[axis], pads[axis + half])]
    mode = {"edge": "replicate"}.get(at.get("mode", "constant"), at.get("mode", "constant"))
    if mode != "constant":
        turned = turned[:4]
    value = writer.values.number(node.input[2] if len(node.input) > 2 else "", 0.0)
    writer.add("Pad", [node.input[0]], list(node.output), {"pads": turned, "mode": mode, "value": value})


def _gather(node: NodeProto, writer: Writer) -> None:
    index, axis = writer.values.stored.get(node.input[1]), attributes(node).get("axis", 0)
    if index is None or index.ndim > 1:
        raise Refused(f"Gather {node.name}: only fixed places of one dimension can be taken")
    places = int(index) if index.ndim == 0 else [int(place) for place in index]
    writer.add("Gather", [node.input[0]], list(node.output), {"axis": axis, "index": places})


def _resize(node: NodeProto, writer: Writer) -> None:
    """By scales, or to sizes; that torch's and ONNX's rules for places between pixels agree is compared afterwards."""
    at, given, stored = attributes(node), [*node.input[1:], "", "", ""], writer.values.stored
    scales, sizes = stored.get(given[0 if len(node.input) == 2 else 1]), stored.get(given[2])
    if scales is None and "scales" in at:
        scales = np.array(at["scales"])
    mode = {"nearest": "nearest", "linear": "bilinear", "cubic": "bicubic"}.get(at.get("mode", "nearest"), "")
    corners = int(at.get("coordinate_transformation_mode", "half_pixel") == "align_corners")
    numbers: dict[str, Any] = {"mode": mode, "corners": corners}
    if sizes is not None and sizes.size == 4:
        numbers["sizes"] = [int(size) for size in sizes[2:]]
    elif scales is not None and scales.size == 4:
        numbers["scales"] = [float(scale) for scale in scales[2:]]
    else:
        raise Refused(f"{node.op_type} {node.name}: only of height and width, by fixed scales or to fixed sizes")
    writer.add("Resize", [node.input[0]], list(node.output), numbers)


_CASTS = {1: "Float", 10: "Float", 11: "Float", 16: "Float", 9: "Bool", 6: "Trunc", 7: "Trunc"}


def _cast(node: NodeProto, writer: Writer) -> None:
    to = attributes(node)["to"]
    if to not in _CASTS:
        raise Refused(f"Cast {node.name}: only to floats, whole numbers of 32 or 64 bits, and truth values")
    writer.add(_CASTS[to], [node.input[0]], list(node.output), {})


def _softmax(node: NodeProto, writer: Writer) -> None:
    """Before opset 13 over all dimensions from ``axis`` on, and from the second by default."""
    old = writer.values.opset < 13
    axis = attributes(node).get("axis", 1 if old else -1)
    writer.add(node.op_type, [node.input[0]], list(node.output), {"axis": axis, **({"from": 1} if old else {})})


def _expand(node: NodeProto, writer: Writer) -> None:
    shape = writer.values.numbers(node.input[1])
    if writer.values.fixed and len(shape) == 4 and shape[0] == writer.values.fixed:
        shape = [-1, *shape[1:]]
    writer.add("Expand", [node.input[0], writer.image], list(node.output), {"shape": shape})


def _tile(node: NodeProto, writer: Writer) -> None:
    repeats = writer.values.numbers(node.input[1])
    if repeats[0] != 1:
        raise Refused(f"Tile {node.name}: the batch dimension can't be changed")
    writer.add("Tile", [node.input[0]], list(node.output), {"repeats": repeats})


def _plain(**defaults: Any) -> Callable[[NodeProto, Writer], None]:
    """An operator whose numbers are attributes, with these defaults."""

    def write(node: NodeProto, writer: Writer) -> None:
        at = attributes(node)
        inputs = [name for name in node.input if name]
        writer.add(
            node.op_type, inputs, list(node.output), {name: at.get(name, value) for name, value in defaults.items()}
        )

    return write


def _identity(node: NodeProto, writer: Writer) -> None:
    writer.add("Identity", [node.input[0]], [node.output[0]], {})


TRANSLATORS: dict[str, Callable[[NodeProto, Writer], None]] = {
    **{name: _plain() for name in OPERATORS},
    "AveragePool": _pool,
    "BatchNormalization": _batch_norm,
    "Cast": _cast,
    "Celu": _plain(alpha=1.0),
    "Clip": _clip,
    "Concat": _plain(axis=1),
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "DepthToSpace": _plain(blocksize=1, mode="DCR"),
    "Dropout": _identity,
    "Elu": _plain(alpha=1.0),
    "Expand": _expand,
    "Flatten": _plain(axis=1),
    "Gather": _gather,
    "Gelu": _plain(approximate="none"),
    "Gemm": _gemm,
    "GroupNormalization": _plain(num_groups=1, epsilon=1e-5),
    "HardSigmoid": _plain(alpha=0.2, beta=0.5),
    "InstanceNormalization": _plain(epsilon=1e-5),
    "LayerNormalization": _layer_norm,
    "LeakyRelu": _plain(alpha=0.01),
    "LogSoftmax": _softmax,
    "LpNormalization": _plain(axis=-1, p=2),
    "MatMul": _mat_mul,
    "MaxPool": _pool,
    "Pad": _pad,
    "ReduceL2": _reduce,
    "ReduceMax": _reduce,
    "ReduceMean": _reduce,
    "ReduceMin": _reduce,
    "ReduceSum": _reduce,
    "Reshape": _reshape,
    "Resize": _resize,
    "Slice": _slice,
    "Selu": _plain(alpha=1.6732632, gamma=1.0507010),
    "Softmax": _softmax,
    "SpaceToDepth": _plain(blocksize=1),
    "Split": _split,
    "Squeeze": _axes,
    "Tile": _tile,
    "Transpose": _plain(perm=None),
    "Unsqueeze": _axes,
    "Upsample": _resize,
}
"""What can be converted, by the name that ONNX gives it."""
