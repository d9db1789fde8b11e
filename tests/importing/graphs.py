"""Small ONNX graphs whose answers are known without running them."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

KINDS = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "float64": TensorProto.DOUBLE,
         "uint8": TensorProto.UINT8}  # fmt: skip


def model_of(
    nodes: list[onnx.NodeProto],
    stored: dict[str, np.ndarray],
    image: list[int | str],
    outputs: dict[str, list[int | str]],
    *,
    kind: str = "float32",
    opset: int = 17,
) -> bytes:
    """A graph from ``x`` to ``outputs``."""
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", KINDS[kind], image)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in stored.items()],
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    made.ir_version = 8
    return bytes(made.SerializeToString())


def brightness(
    image: tuple[int | str, ...] = ("n", 1, 28, 28),
    *,
    kind: str = "float32",
    classes: int = 2,
    threshold: float = 0.4,
    flips_below: int = 0,
    flips_from: int = 0,
    flips_at: int = 0,
) -> bytes:
    """Class 1 where the mean of an image is over the threshold; class 0 elsewhere; further classes never.

    With ``flips_below`` the two change places in batches of fewer images, with ``flips_from`` in those of as many,
    with ``flips_at`` in those of exactly as many.
    """
    nodes = [
        helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["f"], ["m"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Unsqueeze", ["m", "last"], ["column"]),
        helper.make_node("Mul", ["column", "slope"], ["s"]),
        helper.make_node("Add", ["s", "offset"], ["z"]),
    ]
    scale = 1 / 255 if kind == "uint8" else 1.0
    slope = np.array([[-scale, scale, *[0.0] * (classes - 2)]], np.float32)
    offset = np.array([[threshold, -threshold, *[-9.0] * (classes - 2)]], np.float32)
    stored = {"last": np.array([1]), "slope": slope, "offset": offset}
    if flips_below or flips_from or flips_at:
        signs = (1, -1) if flips_from else (-1, 1)
        nodes += [
            helper.make_node("Shape", ["x"], ["sizes"]),
            helper.make_node("Gather", ["sizes", "zero"], ["size"], axis=0),
            helper.make_node("Equal" if flips_at else "Less", ["size", "least"], ["small"]),
            helper.make_node("Where", ["small", "minus", "plus"], ["sign"]),
        ]
        stored |= {"zero": np.array(0), "least": np.array(flips_below or flips_from or flips_at)}
        stored |= {"minus": np.float32(signs[0]), "plus": np.float32(signs[1])}
        stored = {name: np.asarray(value) for name, value in stored.items()}
        nodes.append(helper.make_node("Mul", ["z", "sign"], ["y"]))
    else:
        nodes.append(helper.make_node("Identity", ["z"], ["y"]))
    return model_of(nodes, stored, list(image), {"y": [image[0], classes]}, kind=kind)
