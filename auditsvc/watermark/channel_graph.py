"""Channel graph: which channels of which layers are coupled, so that a permutation must change them together.

Channels can be permuted, scaled or removed without training: the function stays and every weight moves.  The graph,
plain data stored with the unmarked weights, allows a suspect to be aligned from tensors alone.

One forward pass is traced: labels of channels follow the tensors through every operation that torch dispatches, so
control flow, padding that depends on sizes and reused layers need no special care.  Channels that reach an unknown
operation are *pinned*: their order is assumed to be unchanged.  So are those of grouped convolutions (other than
depthwise ones), and the model's inputs and outputs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from auditsvc.errors import InvalidInput


@dataclass(frozen=True)
class Span:
    """Channels of one tensor: a whole space of channels, each ``repeat`` times in a row.

    ``space`` is shared by all tensors whose channels have the same order; ``scale`` by those whose channels
    also have the same magnitude (a depthwise filter keeps the order and not the magnitude).
    """

    space: int
    scale: int
    repeat: int = 1


@dataclass(frozen=True)
class Wire:
    """A layer with weights: what it reads and what it writes.  Depthwise layers read and write one space."""

    weight: str
    reads: tuple[Span, ...]
    writes: Span
    depthwise: bool


@dataclass(frozen=True)
class Norm:
    """A normalisation with running statistics between two magnitudes of the same channels."""

    gain: str
    variance: str
    epsilon: float
    reads: Span
    writes: Span


@dataclass(frozen=True)
class ChannelGraph:
    """Layers and normalisations in the order in which they run; size and freedom of every space."""

    steps: tuple[Wire | Norm, ...]
    sizes: dict[int, int]
    pinned: frozenset[int]

    def as_json(self) -> bytes:
        """The wiring as JSON, to be stored with the unmarked weights."""
        steps = [{"kind": type(step).__name__, **asdict(step)} for step in self.steps]
        sizes = sorted(self.sizes.items())
        return json.dumps({"steps": steps, "sizes": sizes, "pinned": sorted(self.pinned)}).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """The wiring back from its JSON.

        Raises:
            InvalidInput: something else.
        """
        try:
            fields = json.loads(data)
            steps = tuple(_step(step) for step in fields["steps"])
            return cls(steps, {int(k): int(v) for k, v in fields["sizes"]}, frozenset(fields["pinned"]))
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidInput(f"not the wiring of a model: {error}") from error


def _step(fields: dict[str, Any]) -> Wire | Norm:
    kind = fields.pop("kind")
    writes = Span(**fields.pop("writes"))
    if kind == "Norm":
        return Norm(reads=Span(**fields.pop("reads")), writes=writes, **fields)
    return Wire(reads=tuple(Span(**span) for span in fields.pop("reads")), writes=writes, **fields)


@dataclass(frozen=True)
class Label:
    """Which dimension of a tensor holds channels, and which they are."""

    dim: int
    spans: tuple[Span, ...]


class Tracer(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every operation, in order, and carries labels from its arguments to its result."""

    def __init__(self, names: dict[int, str], rules: Mapping[str, Rule]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names = names
        self.rules = rules
        self.labels: dict[int, Label] = {}
        self.kept: list[Tensor] = []  # an id is only good while the tensor lives
        self.steps: list[Wire | Norm] = []
        self.sizes: list[int] = []
        self.same: list[int] = []
        self.pins: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation, then label what came out."""
        result = func(*args, **(kwargs or {}))
        name = func._schema.name.removeprefix("aten::")
        rule = self.rules.get(name.rstrip("_") if not name.startswith("_") else name)
        first = result[0] if isinstance(result, tuple | list) else result
        if rule is None:
            self.pin_all(args)
        elif isinstance(first, Tensor):
            self.kept.append(first)
            label = rule(self, first, args)
            if label is not None:
                self.labels[id(first)] = label
        return result

    def fresh(self, size: int) -> Span:
        """A new space of this many channels."""
        return Span(self._node(size), self._node(size))

    def _node(self, size: int) -> int:
        self.sizes.append(size)
        self.same.append(len(self.same))
        return len(self.same) - 1

    def root(self, node: int) -> int:
        """The representative node of an equivalence class."""
        while self.same[node] != node:
            self.same[node] = self.same[self.same[node]]
            node = self.same[node]
        return node

    def label(self, tensor: Tensor, label: Label) -> None:
        """Remember what a tensor's channels are."""
        self.kept.append(tensor)
        self.labels[id(tensor)] = label

    def of(self, value: object) -> Label | None:
        """The label of a tensor, if it has one."""
        return self.labels.get(id(value)) if isinstance(value, Tensor) else None

    def pin(self, label: Label | None) -> None:
        """These channels keep their order."""
        self.pins.update(span.space for span in label.spans) if label else None

    def pin_all(self, values: object) -> None:
        """Pin every labelled tensor in a nest of arguments."""
        if isinstance(values, Tensor):
            self.pin(self.of(values))
        elif isinstance(values, tuple | list):
            for value in values:
                self.pin_all(value)

    def fixed(self, size: int, dim: int) -> Label:
        """New channels whose order has a meaning: of images, of answers, of what nothing is known of."""
        label = Label(dim, (self.fresh(size),))
        self.pin(label)
        return label

    def write(self, wire: Wire, dim: int) -> Label:
        """Note a layer; one that is used twice has the same channels both times."""
        reads, writes = Label(dim, wire.reads), Label(dim, (wire.writes,))
        for step in self.steps:
            if isinstance(step, Wire) and step.weight == wire.weight:
                self.join(Label(dim, step.reads), reads)
                return self.join(Label(dim, (step.writes,)), writes)
        self.steps.append(wire)
        return writes

    def join(self, left: Label, right: Label) -> Label:
        """Two tensors are added or multiplied: their channels are the same channels."""
        fits = left.dim == right.dim and [self._width(s) for s in left.spans] == [self._width(s) for s in right.spans]
        if not fits:
            self.pin(left)
            self.pin(right)
            return left
        for one, other in zip(left.spans, right.spans, strict=True):
            self.same[self.root(other.space)] = self.root(one.space)
            self.same[self.root(other.scale)] = self.root(one.scale)
        return left

    def _width(self, span: Span) -> tuple[int, int]:
        return self.sizes[span.space], span.repeat

    def wiring(self) -> ChannelGraph:
        """What was found, every space under one number."""

        def settled(span: Span) -> Span:
            return Span(self.root(span.space), self.root(span.scale), span.repeat)

        steps: list[Wire | Norm] = []
        for step in self.steps:
            writes = settled(step.writes)
            if isinstance(step, Wire):
                steps.append(Wire(step.weight, tuple(map(settled, step.reads)), writes, step.depthwise))
            else:
                steps.append(Norm(step.gain, step.variance, step.epsilon, settled(step.reads), writes))
        spaces = {span.space for step in steps for span in (*_reads(step), step.writes)}
        pinned = {self.root(space) for space in self.pins}
        return ChannelGraph(tuple(steps), {space: self.sizes[space] for space in spaces}, frozenset(pinned & spaces))


def _reads(step: Wire | Norm) -> tuple[Span, ...]:
    return step.reads if isinstance(step, Wire) else (step.reads,)


Rule = Callable[[Tracer, Tensor, Any], "Label | None"]
"""What an operation makes of labels: given the tracer, the result and the arguments, the result's label."""


def trace_channels(model: nn.Module, images: Tensor) -> ChannelGraph:
    """Follow the channels of two images or more through the model, which is left as it was."""
    tracer = Tracer({id(tensor): name for name, tensor in model.state_dict(keep_vars=True).items()}, _RULES)
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad(), tracer:
            batch = images[:2].clone()
            tracer.label(batch, tracer.fixed(batch.shape[1], 1))
            tracer.pin_all(_values(model(batch)))
    finally:
        for module, training in modes:
            module.training = training
    return tracer.wiring()


def _values(outputs: Any) -> Any:
    return tuple(outputs.values()) if isinstance(outputs, dict) else outputs


def _kept(tracer: Tracer, result: Tensor, args: Any) -> Label | None:
    """Channels stay what they are: activations, pooling, padding, resizing."""
    label = tracer.of(args[0])
    if label and (result.dim() <= label.dim or result.shape[label.dim] != args[0].shape[label.dim]):
        tracer.pin(label)
        return None
    return label


def _both(tracer: Tracer, result: Tensor, args: Any) -> Label | None:
    left, right = tracer.of(args[0]), tracer.of(args[1])
    if left and right:
        return tracer.join(left, right)
    label = left or right
    return label if label and result.dim() > label.dim else None


def _mean(tracer: Tracer, result: Tensor, args: Any) -> Label | None:
    label = tracer.of(args[0])
    dims = args[1] if len(args) > 1 and args[1] is not None else list(range(args[0].dim()))
    axes = [dim % args[0].dim() for dim in ([dims] if isinstance(dims, int) else dims)]
    if label is None or label.dim in axes:
        tracer.pin(label)
        return None
    gone = 0 if result.dim() == args[0].dim() else sum(axis < label.dim for axis in axes)
    return Label(label.dim - gone, label.spans)


def _convolved(tracer: Tracer, result: Tensor, args: Any) -> Label | None:
    weight, transposed, groups = args[1], args[6], args[8]
    label, name = tracer.of(args[0]), tracer.names.get(id(weight))
    if name is None or transposed or (label and label.dim != 1):
        tracer.pin(label)
        return tracer.fixed(result.shape[1], 1)
    label = label or tracer.fixed(args[0].shape[1], 1)
    if groups == 1:
        return tracer.write(Wire(name, label.spans, tracer.fresh(weight.shape[0]), depthwise=False), 1)
    if weight.shape[0] != groups or weight.shape[1] != 1 or len(label.spans) != 1:
        tracer.pin(label)
        return tracer.fixed(result.shape[1], 1)
    (read,) = label.spans
    writes = Span(read.space, tracer.fresh(groups).scale, read.repeat)
    return tracer.write(Wire(name, label.spans, writes, depthwise=True), 1)


def _multiplied(tracer: Tracer, result: Tensor, args: Any) -> Label | None:
    left, weight = (args[1], args[2]) if len(args) > 2 else (args[0], args[1])
    label, name = tracer.of(left), tracer.names.get(id(weight))
    if name is None or (label and label.dim != left.dim() - 1):
        tracer.pin_all((left, weight))
        return None
    label = label or tracer.fixed(left.shape[-1], left.dim() - 1)
    return tracer.write(Wire(name, label.spans, tracer.fresh(result.shape[-1]), depthwise=False), result.dim() - 1)


def _turned(tracer: Tracer, result: Tensor, args: Any) -> Label | None:
    """The transpose of a weight goes by the weight's name."""
    if id(args[0]) in tracer.names:
        tracer.names[id(result)] = tracer.names[id(args[0])]
        return None
    return _moved(tracer, result, (args[0], [1, 0]))


def _moved(tracer: Tracer, result: Tensor, args: Any) -> Label | None:
    label = tracer.of(args[0])
    if label is None:
        return None
    order = [dim % result.dim() for dim in args[1]]
    return Label(order.index(label.dim), label.spans)


def _swapped(tracer: Tracer, result: Tensor, args: Any) -> Label | None:
    order = list(range(result.dim()))
    one, other = args[1] % result.dim(), args[2] % result.dim()
    order[one], order[other] = order[other], order[one]
    return _moved(tracer, result, (args[0], order))


def _normalised(tracer: Tracer, _result: Tensor, args: Any) -> Label | None:
    label = tracer.of(args[0])
    gain, variance = tracer.names.get(id(args[1])), tracer.names.get(id(args[4]))
    if label is None or gain is None or variance is None or len(label.spans) != 1:
        tracer.pin(label)
        return label
    (read,) = label.spans
    writes = Span(read.space, tracer.fresh(tracer.sizes[read.space]).scale, read.repeat)
    tracer.steps.append(Norm(gain, variance, float(args[-1]), read, writes))
    return Label(label.dim, (writes,))


def _joined(tracer: Tracer, result: Tensor, args: Any) -> Label | None:
    labels = [tracer.of(value) for value in args[0]]
    dim = (args[1] if len(args) > 1 else 0) % result.dim()
    known = [label for label in labels if label]
    if len(known) < len(labels) or any(label.dim != dim for label in known):
        for label in known:
            tracer.pin(label)
        return None
    return Label(dim, tuple(span for label in known for span in label.spans))


def _viewed(tracer: Tracer, result: Tensor, args: Any) -> Label | None:
    """Flattening repeats each channel for every place; adding or dropping places of size one changes nothing."""
    label, old, new = tracer.of(args[0]), tuple(args[0].shape), tuple(result.shape)
    if label is None:
        return None
    dim = label.dim
    if old[: dim + 1] == new[: dim + 1]:
        return label
    if dim == len(old) - 1 and old[-1] == new[-1]:
        return Label(len(new) - 1, label.spans)
    places = torch.Size(old[dim + 1 :]).numel()
    if len(new) == dim + 1 and old[:dim] == new[:dim]:
        return Label(dim, tuple(Span(span.space, span.scale, span.repeat * places) for span in label.spans))
    tracer.pin(label)
    return None


def _table() -> dict[str, Rule]:
    rules: dict[str, Rule] = {}
    groups: Sequence[tuple[Rule, str]] = (
        (_kept, "relu hardtanh hardswish hardsigmoid sigmoid tanh silu gelu leaky_relu elu mish clone detach alias "
                "constant_pad_nd reflection_pad2d replication_pad2d max_pool2d_with_indices avg_pool2d "
                "_adaptive_avg_pool2d adaptive_avg_pool2d adaptive_max_pool2d upsample_nearest2d upsample_bilinear2d "
                "_upsample_nearest_exact2d _to_copy neg abs clamp clamp_min clamp_max pow sqrt exp dropout lift_fresh "
                "native_dropout mkldnn_max_pool2d"),
        (_both, "add sub mul div maximum minimum"), (_mean, "mean sum amax"), (_convolved, "convolution"),
        (_multiplied, "addmm mm"), (_turned, "t"), (_moved, "permute"), (_swapped, "transpose"),
        (_normalised, "native_batch_norm _native_batch_norm_legit_no_training cudnn_batch_norm"),
        (_joined, "cat"), (_viewed, "view _unsafe_view reshape squeeze unsqueeze flatten"),
    )  # fmt: skip
    for rule, names in groups:
        rules.update(dict.fromkeys(names.split(), rule))
    return rules


_RULES = _table()
