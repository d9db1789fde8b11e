"""Carry labels of channels along while a model runs; what each operation does to them is ``tracing``'s to say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from auditsvc.watermark.wiring import Norm, Span, Wire, Wiring


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
        """A new space of so many channels."""
        return Span(self._node(size), self._node(size))

    def _node(self, size: int) -> int:
        self.sizes.append(size)
        self.same.append(len(self.same))
        return len(self.same) - 1

    def root(self, node: int) -> int:
        """The node that stands for all that are the same."""
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

    def wiring(self) -> Wiring:
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
        return Wiring(tuple(steps), {space: self.sizes[space] for space in spaces}, frozenset(pinned & spaces))


def _reads(step: Wire | Norm) -> tuple[Span, ...]:
    return step.reads if isinstance(step, Wire) else (step.reads,)


Rule = Callable[[Tracer, Tensor, Any], "Label | None"]
"""What an operation makes of labels: given the tracer, the result and the arguments, the result's label."""
