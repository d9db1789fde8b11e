"""Child process that proves that an ONNX graph answers each image as if it were alone, or fixes its batch size at 1.

No number of batches that are tried shows this: a graph can compute the size of the batch and act at one size only.  So
the graph is followed, operator by operator: where is the axis of the images, and does an operator join its rows or use
its length as a number?  Shape arithmetic is exact: each size is a whole number, or a multiple of the batch size.  What
is not in the tables is not proven.  A batch size that is fixed at 1 needs no proof: ONNX Runtime refuses any other.

Run by ``onnx_session.batch_bound`` only.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import inliner, numpy_helper
from safetensors.numpy import load_file

from auditsvc.errors import Refused
from auditsvc.importing.convert_onnx import ImagePort, evaluate
from auditsvc.importing.onnx_operators import attributes
from auditsvc.importing.process_limits import confine
from auditsvc.importing.subprocess_runtime import in_one_line, read
from auditsvc.runtimes import JOIN

FIXED = "fixed.onnx"
BATCH = 2
"""The batch size at which constant values and the other sizes are read."""
_END = 2**31 - 1

Size = tuple[int, int]
"""``(k, 0)``: the number k; ``(k, 1)``: k times the batch size."""
Sizes = tuple[Size, ...]


@dataclass(frozen=True)
class Rows:
    """A value with ``times`` rows for each image along ``axis``, in the order of the images, and nothing of others."""

    axis: int
    times: int = 1


State = Rows | Sizes | None
"""What is known of a value: rows of the images, numbers made of the batch size, or None: the same for every batch."""


class Unproven(Exception):
    """An operator that may join images, or that no table has."""


@dataclass
class Graph:
    """The states of all values so far, and every value at one batch size."""

    values: dict[str, NDArray[Any]]
    opset: int
    states: dict[str, State] = field(default_factory=dict)

    def state(self, name: str) -> State:
        """What is known of this value."""
        return self.states.get(name)

    def rank(self, name: str) -> int:
        """The number of its axes."""
        return self.values[name].ndim

    def constant(self, name: str) -> list[int]:
        """Whole numbers that are the same for every batch."""
        if self.state(name) is not None:
            raise Unproven("its numbers depend on the batch")
        return [int(number) for number in self.values[name].reshape(-1)]

    def sizes(self, name: str) -> Sizes:
        """Whole numbers, of which some may be multiples of the batch size."""
        found = self.state(name)
        if isinstance(found, Rows):
            raise Unproven("its sizes depend on what is in the images")
        return tuple((number, 0) for number in self.constant(name)) if found is None else found

    def shape(self, name: str) -> Sizes:
        """The shape of a value."""
        found, shape = self.state(name), self.values[name].shape
        rows = found if isinstance(found, Rows) else Rows(-1)
        return tuple((rows.times, 1) if axis == rows.axis else (size, 0) for axis, size in enumerate(shape))


Rule = Callable[["Graph", onnx.NodeProto, dict[str, Any], Rows], State]


def _elementwise(graph: Graph, node: onnx.NodeProto, _at: dict[str, Any], _rows: Rows) -> State:
    """Broadcasting: the axis of the images is the same in all inputs, and of length 1 in constants."""
    names = [name for name in node.input if name]
    rank, found = max(graph.rank(name) for name in names), set[Rows]()
    for name in names:
        state = graph.state(name)
        if isinstance(state, tuple):
            raise Unproven("the batch size is used as a number")
        if state is not None:
            found.add(Rows(state.axis + rank - graph.rank(name), state.times))
    if len(found) != 1:
        raise Unproven("the images are along different axes")
    (rows,) = found
    for name in names:
        place = rows.axis - (rank - graph.rank(name))
        if graph.state(name) is None and place >= 0 and graph.values[name].shape[place] != 1:
            raise Unproven("a constant has a row for each image")
    return rows


def _by_image(graph: Graph, node: onnx.NodeProto, at: dict[str, Any], rows: Rows) -> State:
    """Layers whose first axis is that of the images, with constant weights.

    Not in training, and without a second output, which for MaxPool counts through the whole batch.
    """
    _constants(graph, node)
    dropping = node.op_type == "Dropout" and any(graph.values[name].any() for name in node.input[2:3] if name)
    if rows.axis or dropping or at.get("training_mode", 0) or (node.output[1:] and node.op_type != "Dropout"):
        raise Unproven("it is no layer over single images")
    return rows


def _along(default: int, *, rest: bool = False) -> Rule:
    """Operators over one axis (with ``rest`` over all from it on), which may not be that of the images."""

    def rule(graph: Graph, node: onnx.NodeProto, at: dict[str, Any], rows: Rows) -> State:
        rank = graph.rank(node.input[0])
        old = node.op_type in ("Softmax", "LogSoftmax", "Hardmax") and graph.opset < 13
        axis = at.get("axis", 1 if old else default) % rank
        _constants(graph, node)
        if axis == rows.axis or ((old or rest) and axis <= rows.axis):
            raise Unproven("it works over the axis of the images")
        return rows

    return rule


def _constants(graph: Graph, node: onnx.NodeProto) -> None:
    if any(graph.state(name) is not None for name in node.input[1:]):
        raise Unproven("its numbers depend on the batch")


def _without(axes: Sequence[int], rank: int, rows: Rows, *, kept: bool) -> Rows:
    """The rows after these axes were reduced or removed."""
    places = {axis % rank for axis in axes}
    if not places or rows.axis in places:
        raise Unproven("it works over the axis of the images")
    return rows if kept else Rows(rows.axis - sum(place < rows.axis for place in places), rows.times)


def _axes(graph: Graph, node: onnx.NodeProto, at: dict[str, Any]) -> list[int]:
    return at["axes"] if "axes" in at else graph.constant(node.input[1]) if node.input[1:] else []


def _reduce(graph: Graph, node: onnx.NodeProto, at: dict[str, Any], rows: Rows) -> State:
    kept, rank = bool(at.get("keepdims", 1)), graph.rank(node.input[0])
    axes = [at.get("axis", 0)] if node.op_type.startswith("Arg") else _axes(graph, node, at)
    return _without(axes, rank, rows, kept=kept)


def _squeeze(graph: Graph, node: onnx.NodeProto, at: dict[str, Any], rows: Rows) -> State:
    return _without(_axes(graph, node, at), graph.rank(node.input[0]), rows, kept=False)


def _unsqueeze(graph: Graph, node: onnx.NodeProto, at: dict[str, Any], rows: Rows) -> State:
    rank = graph.rank(node.output[0])
    new = {axis % rank for axis in _axes(graph, node, at)}
    return Rows([place for place in range(rank) if place not in new][rows.axis], rows.times)


def _transpose(graph: Graph, node: onnx.NodeProto, at: dict[str, Any], rows: Rows) -> State:
    return Rows(list(at.get("perm") or reversed(range(graph.rank(node.input[0])))).index(rows.axis), rows.times)


def _concat(graph: Graph, node: onnx.NodeProto, at: dict[str, Any], rows: Rows) -> State:
    if any(graph.state(name) != rows for name in node.input) or at["axis"] % graph.rank(node.input[0]) == rows.axis:
        raise Unproven("it joins images, or images and constants")
    return rows


def _gather(graph: Graph, node: onnx.NodeProto, at: dict[str, Any], rows: Rows) -> State:
    data, index = node.input
    axis = at.get("axis", 0) % graph.rank(data)
    if graph.state(index) is not None:
        if graph.state(data) is not None:
            raise Unproven("what is taken depends on the images")
        return Rows(rows.axis + axis, rows.times)
    if axis == rows.axis:
        raise Unproven("it takes some of the images")
    return Rows(rows.axis + (graph.rank(index) - 1 if axis < rows.axis else 0), rows.times)


def _slice(graph: Graph, node: onnx.NodeProto, at: dict[str, Any], rows: Rows) -> State:
    given = [graph.constant(name) if name else [] for name in node.input[1:]]
    starts, ends, axes, steps = [*(given or [at["starts"], at["ends"], at.get("axes", [])]), [], [], []][:4]
    axes = [axis % graph.rank(node.input[0]) for axis in axes or range(len(starts))]
    for start, end, axis, step in zip(starts, ends, axes, steps or [1] * len(axes), strict=True):
        if axis == rows.axis and (start != 0 or end < _END or step != 1):
            raise Unproven("it takes some of the images")
    return rows


def _pad(graph: Graph, node: onnx.NodeProto, at: dict[str, Any], rows: Rows) -> State:
    _constants(graph, node)
    pads = at["pads"] if "pads" in at else graph.constant(node.input[1])
    half = len(pads) // 2
    if half != graph.rank(node.input[0]) or pads[rows.axis] or pads[rows.axis + half]:
        raise Unproven("it adds images")
    return rows


def _resize(graph: Graph, node: onnx.NodeProto, at: dict[str, Any], rows: Rows) -> State:
    rank, inputs = graph.rank(node.input[0]), [*node.input, "", "", "", ""]
    scales, sizes = (inputs[1], "") if len(node.input) == 2 else (inputs[2], inputs[3])
    given = at.get("scales") or (graph.values[scales].reshape(-1).tolist() if scales else [])
    kept = len(given) == rank and given[rows.axis] == 1 and (not scales or graph.state(scales) is None)
    if sizes and not given:
        found = graph.sizes(sizes)
        others = [size for place, size in enumerate(found) if place != rows.axis]
        kept = len(found) == rank and found[rows.axis] == (rows.times, 1) and not any(times for _, times in others)
    if not kept or "axes" in at or at.get("coordinate_transformation_mode") == "tf_crop_and_resize":
        raise Unproven("it may scale the axis of the images")
    return rows


def _tile(graph: Graph, node: onnx.NodeProto, _at: dict[str, Any], rows: Rows) -> State:
    if graph.constant(node.input[1])[rows.axis] != 1:
        raise Unproven("it repeats images")
    return rows


def _mat_mul(graph: Graph, node: onnx.NodeProto, _at: dict[str, Any], _rows: Rows) -> State:
    left, right = node.input[:2]
    ranks, rank = [graph.rank(name) for name in (left, right)], max(graph.rank(name) for name in (left, right))
    found = set()
    for name, own, joined in ((left, ranks[0], ranks[0] - 1), (right, ranks[1], ranks[1] - 2)):
        state = graph.state(name)
        if isinstance(state, tuple) or own < 2 or (state and state.axis == joined):
            raise Unproven("it multiplies over the axis of the images")
        if state:
            found.add(Rows(state.axis + rank - own, state.times))
    if len(found) != 1 or (graph.state(left) and graph.state(right) and next(iter(found)).axis >= rank - 2):
        raise Unproven("it multiplies images with each other")
    (rows,) = found
    for name, own in zip((left, right), ranks, strict=True):
        place = rows.axis - (rank - own)
        if graph.state(name) is None and rows.axis < rank - 2 and place >= 0 and graph.values[name].shape[place] != 1:
            raise Unproven("a constant has a row for each image")
    return rows


def _gemm(graph: Graph, node: onnx.NodeProto, at: dict[str, Any], rows: Rows) -> State:
    _constants(graph, node)
    bias = graph.values[node.input[2]].shape if node.input[2:] and node.input[2] else ()
    if rows.axis or at.get("transA", 0) or (len(bias) == 2 and bias[0] != 1):
        raise Unproven("it is no layer over single images")
    return rows


def _reshape(graph: Graph, node: onnx.NodeProto, at: dict[str, Any], rows: Rows) -> State:
    own = graph.shape(node.input[0])
    if node.op_type == "Flatten":
        axis = at.get("axis", 1) % (len(own) + 1)
        target = [_product(own[:axis]), _product(own[axis:])]
    else:
        target = list(graph.sizes(node.input[1]))
        if not at.get("allowzero", 0):
            target = [own[place] if size == (0, 0) else size for place, size in enumerate(target)]
    if (-1, 0) in target:
        number, times = _product([size for size in target if size != (-1, 0)])
        whole = _product(own)
        if not number or whole[0] % number or not 0 <= whole[1] - times <= 1:
            raise Unproven("its sizes are not known")
        target[target.index((-1, 0))] = whole[0] // number, whole[1] - times
    places = [place for place, (_, times) in enumerate(target) if times]
    kept = len(places) == 1 and _product(own) == _product(target)
    if not kept or _product(own[: rows.axis]) != _product(target[: places[0]]):
        raise Unproven("it mixes the rows of different images")
    return Rows(places[0], target[places[0]][0])


def _product(sizes: Sequence[Size]) -> Size:
    return math.prod(number for number, _ in sizes), sum(times for _, times in sizes)


def _expand(graph: Graph, node: onnx.NodeProto, _at: dict[str, Any], _rows: Rows) -> State:
    """Constants or rows that are repeated; a constant that is repeated for each image is rows."""
    name, own = node.input[0], graph.shape(node.input[0])
    wanted = graph.sizes(node.input[1])
    rank = max(len(own), len(wanted))
    aligned = ([(1, 0)] * (rank - len(sizes)) + list(sizes) for sizes in (own, wanted))
    pairs = list(zip(*aligned, strict=True))
    places = {place for place, pair in enumerate(pairs) if any(times for _, times in pair)}
    if len(places) != 1 or isinstance(graph.state(name), tuple):
        raise Unproven("it repeats images")
    (place,) = places
    before, after = pairs[place]
    if not (before == (1, 0) or (before[1] and after in (before, (1, 0)))):
        raise Unproven("it repeats images")
    return Rows(place, after[0] if before == (1, 0) else before[0])


def _filled(graph: Graph, node: onnx.NodeProto, _at: dict[str, Any], _rows: Rows) -> State:
    places = [(place, number) for place, (number, times) in enumerate(graph.sizes(node.input[0])) if times]
    if len(places) != 1:
        raise Unproven("it has several axes of the images")
    return Rows(*places[0])


def _shape(graph: Graph, node: onnx.NodeProto, at: dict[str, Any], _rows: Rows) -> State:
    if node.op_type == "Size":
        return (_product(graph.shape(node.input[0])),)
    return graph.shape(node.input[0])[at.get("start", 0) : at.get("end", _END)]


def _arithmetic(graph: Graph, node: onnx.NodeProto, at: dict[str, Any]) -> Sizes:
    """Shape arithmetic: only what gives whole numbers and multiples of the batch size at every batch size."""
    op, names = node.op_type, [name for name in node.input if name]
    if op in ("Identity", "Squeeze", "Unsqueeze", "Reshape") or (op == "Cast" and at["to"] in (6, 7)):
        return graph.sizes(names[0])
    if op == "Shape":
        return ((0, 0),)  # how many sizes there are is no matter of the batch
    if op == "Concat":
        return tuple(size for name in names for size in graph.sizes(name))
    if op == "Gather" and graph.state(names[1]) is None:
        return tuple(graph.sizes(names[0])[place] for place in graph.constant(names[1]))
    if op == "Slice":
        numbers = [graph.constant(name) for name in names[1:]] or [at["starts"], at["ends"]]
        step = numbers[3][0] if len(numbers) > 3 else 1
        return graph.sizes(names[0])[slice(numbers[0][0], numbers[1][0], step)]
    chosen = graph.constant(names.pop(0)) if op == "Where" else []
    if op in ("Mul", "Div", "Equal", "Where") and len(names) == 2:
        parts = [graph.sizes(name) for name in names]
        length = max(len(chosen), *map(len, parts))
        pairs = zip(*(part * length if len(part) == 1 else part for part in parts), strict=True)
        if op == "Where":
            return tuple(pair[not first] for first, pair in zip(chosen, pairs, strict=True))
        return tuple(_combined(op, *pair) for pair in pairs)
    raise Unproven("the batch size is used as a number")


def _combined(op: str, one: Size, other: Size) -> Size:
    """A product, an exact quotient, or whether both are equal at every batch size."""
    if op == "Equal" and (one[1] == other[1] or (one[0] > 0 and other[0] <= 0)):
        return int(one == other), 0
    if op == "Div" and not other[1] and other[0] > 0 and one[0] % other[0] == 0:
        return one[0] // other[0], one[1]
    if op == "Mul" and one[1] + other[1] <= 1:
        return one[0] * other[0], one[1] + other[1]
    raise Unproven("the batch size is used as a number")


_POINTWISE = (
    "Abs Acos Acosh Add And Asin Asinh Atan Atanh Cast Ceil Celu Clip Cos Cosh Div Elu Equal Erf Exp FastGelu Floor "
    "Gelu Greater GreaterOrEqual HardSigmoid HardSwish Identity IsInf IsNaN LeakyRelu Less LessOrEqual Log Max Mean "
    "Min Mish Mod Mul Neg Not Or PRelu Pow QuickGelu Reciprocal Relu Round Selu Sigmoid Sign Sin Sinh Softplus "
    "Softsign Sqrt Sub Sum Swish Tan Tanh ThresholdedRelu Where Xor"
)
_LAYERS = (
    "AveragePool BatchNormalization Conv ConvInteger ConvTranspose DepthToSpace Dropout FusedConv GlobalAveragePool "
    "GlobalLpPool GlobalMaxPool GroupNormalization InstanceNormalization LpPool LRN MaxPool QLinearConv SpaceToDepth"
)
_REDUCTIONS = (
    "ArgMax ArgMin ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum "
    "ReduceSumSquare"
)
_GROUPS: tuple[tuple[str, Rule], ...] = (
    (_POINTWISE, _elementwise),
    (_LAYERS, _by_image),
    (_REDUCTIONS, _reduce),
    ("Hardmax LogSoftmax LpNormalization Softmax TopK", _along(-1)),
    ("DequantizeLinear QuantizeLinear", _along(1)),
    ("LayerNormalization RMSNormalization", _along(-1, rest=True)),
    ("Split", _along(0)),
    ("Flatten Reshape", _reshape),
    ("Resize Upsample", _resize),
    ("Shape Size", _shape),
    ("Concat", _concat),
    ("ConstantOfShape", _filled),
    ("Expand", _expand),
    ("Gather", _gather),
    ("Gemm", _gemm),
    ("MatMul", _mat_mul),
    ("Pad", _pad),
    ("Slice", _slice),
    ("Squeeze", _squeeze),
    ("Tile", _tile),
    ("Transpose", _transpose),
    ("Unsqueeze", _unsqueeze),
)
RULES = {name: rule for names, rule in _GROUPS for name in names.split()}
"""What is understood, by the name that ONNX gives it."""
_CHANCE = ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli")


def follow(graph: Graph, node: onnx.NodeProto) -> State:
    """The state of a node's outputs.

    Raises:
        Unproven: it may join images.
    """
    if node.op_type in _CHANCE or any(one.HasField("g") for one in node.attribute):
        raise Unproven("no rule for random numbers and for graphs in graphs")
    given = [graph.state(name) for name in node.input if name]
    if all(state is None for state in given):
        return None
    at, rows = attributes(node), next((state for state in given if isinstance(state, Rows)), Rows(-1))
    if rows.axis < 0 and node.op_type not in ("Expand", "ConstantOfShape"):
        return _arithmetic(graph, node, at)
    if node.op_type not in RULES or node.domain not in ("", "ai.onnx", "com.microsoft"):
        raise Unproven("no rule for this operator")
    return RULES[node.op_type](graph, node, at, rows)


def objection(model: onnx.ModelProto, port: ImagePort, images: NDArray[Any], answer: str) -> str:
    """The first node that is not proven to treat each image alone; empty if the whole graph is."""
    names = [name for node in model.graph.node for name in node.output if name]
    found = dict(zip(names, evaluate(model, port.given(images, BATCH), names), strict=True))
    found |= {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    found[port.name] = port.given(images, BATCH)
    opset = max((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), default=0)
    graph = Graph(found, opset, {port.name: Rows(0)})
    for node in model.graph.node:
        try:
            state = follow(graph, node)
        except (Unproven, AttributeError, IndexError, KeyError, ValueError, TypeError) as error:
            why = str(error) if isinstance(error, Unproven) else "its numbers can't be read"
            return f"{node.op_type} {node.name or node.output[0]}: {why}"
        if isinstance(state, tuple) and not any(times for _, times in state):
            state = None
        graph.states |= dict.fromkeys(filter(None, node.output), state)
    parts = [answer] if answer in names else answer.split(JOIN)
    return "" if all(graph.state(one) == Rows(0) for one in parts) else f"{answer} has not one row for each image"


def main(job_file: Path) -> None:
    """Do the job; one JSON line: no objection, or which one; then ``fixed.onnx`` is the graph for a batch of 1."""
    confine()
    job: dict[str, Any] = json.loads(job_file.read_text("utf-8"))
    images, reason = load_file(job["images"])["images"], ""
    try:
        model = inliner.inline_local_functions(read(Path(job["onnx"])))
        port = ImagePort.of(model, images.shape[1:])
        if port.fixed is None:
            reason = objection(model, port, images, job["output"])
    except (Refused, ValueError) as error:
        reason = in_one_line(error)
    if reason:
        model = onnx.load(job["onnx"])
        stored = {tensor.name for tensor in model.graph.initializer}
        for item in (*(one for one in model.graph.input if one.name not in stored), *model.graph.output):
            if item.type.tensor_type.shape.dim:
                item.type.tensor_type.shape.dim[0].dim_value = 1
        del model.graph.value_info[:]
        onnx.save(model, str(job_file.parent / FIXED))
    sys.stdout.write(json.dumps({"objection": reason}) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
