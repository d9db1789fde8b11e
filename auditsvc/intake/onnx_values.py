"""What an ONNX graph knows without running, and the list of nodes that grows from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from auditsvc.errors import Refused

Array = NDArray[Any]


@dataclass
class Values:
    """What is known without running the network: stored tensors, whole numbers at two batch sizes, shapes."""

    stored: dict[str, Array]
    wholes: dict[str, tuple[Array, Array]]
    batches: tuple[int, int]
    sizes: dict[str, list[int]]

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
    was_fixed: bool
    nodes: list[dict[str, Any]] = field(default_factory=list)
    weights: dict[str, Array] = field(default_factory=dict)
    constants: dict[str, str] = field(default_factory=dict)

    def add(self, op: str, inputs: list[str], outputs: list[str], at: dict[str, Any], **weights: Array | None) -> None:
        """One node of ours; its weights are stored under its number."""
        place = len(self.nodes)
        names = [self._source(name) for name in inputs]
        out: str | list[str] = outputs[0] if len(outputs) == 1 and op != "Split" else outputs
        self.nodes.append({"op": op, "in": names, "out": out, "at": at})
        for name, value in weights.items():
            if value is not None:
                self.weights[f"layers.{place}.{name}"] = value.astype(np.float32)

    def _source(self, name: str) -> str:
        """The name of a value; a stored tensor becomes a constant of ours."""
        if name not in self.values.stored:
            return name
        if name not in self.constants:
            self.constants[name] = f"constant_{len(self.constants)}"
            self.weights[self.constants[name]] = self.values.stored[name].astype(np.float32)
        return self.constants[name]


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
