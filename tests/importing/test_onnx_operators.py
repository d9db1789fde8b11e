"""ONNX as exporters of many years write it, converted to layers that answer as ONNX Runtime does."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import NodeProto, TensorProto, helper
from safetensors.numpy import load_file
from safetensors.torch import load_file as load_tensors
from safetensors.torch import save_file

from auditsvc.errors import Refused
from auditsvc.importing.convert_onnx import convert
from auditsvc.models.onnx_layers import OnnxGraph
from tests.importing.graphs import model_of

IMAGES = torch.randint(0, 256, (4, 3, 8, 8), generator=torch.Generator().manual_seed(1)) / 255
chance = np.random.default_rng(0)
WEIGHT = chance.normal(size=(4, 3, 3, 3)).astype(np.float32)
UP = chance.normal(size=(3, 4, 2, 2)).astype(np.float32)


def converted(data: bytes, folder: Path) -> tuple[OnnxGraph, np.ndarray]:
    """The layers, and the answers of ONNX Runtime; in this process, which is quicker than in a clean one."""
    (folder / "m.onnx").write_bytes(data)
    save_file({"images": IMAGES}, folder / "images.safetensors")
    convert({"onnx": str(folder / "m.onnx"), "images": str(folder / "images.safetensors"), "output": None}, folder)
    network = OnnxGraph(**json.loads((folder / "arguments.json").read_text()))
    network.load_state_dict(load_tensors(folder / "weights.safetensors"))
    return network.eval(), load_file(folder / "answers.safetensors")["answers"]


def node(op: str, *inputs: str, out: str = "y", **attributes: object) -> NodeProto:
    return helper.make_node(op, [*inputs], [out], **attributes)


def constant(out: str, **value: object) -> NodeProto:
    return helper.make_node("Constant", [], [out], **value)


whole = {"sizes": np.array([1, 3, 12, 20])}
CASES: dict[str, tuple[list[NodeProto], dict[str, np.ndarray], int]] = {
    "auto_pad": ([node("Conv", "x", "w", auto_pad="SAME_UPPER", strides=[2, 2])], {"w": WEIGHT}, 17),
    "auto_pad of a pool": ([node("MaxPool", "x", kernel_shape=[3, 2], auto_pad="SAME_LOWER")], {}, 9),
    "a transposed convolution": ([node("ConvTranspose", "x", "w", strides=[2, 2])], {"w": UP}, 13),
    "with output padding": (
        [node("ConvTranspose", "x", "w", strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1])], {"w": UP}, 11
    ),
    "value_float": ([constant("c", value_float=0.5), node("Mul", "x", "c")], {}, 17),
    "value_floats": ([constant("c", value_floats=[0.5] * 8), node("Mul", "x", "c")], {}, 17),
    "a value called constant_0": ([node("Relu", "x", out="constant_0"), node("Mul", "constant_0", "c")],
                                  {"c": np.float32([2])}, 17),
    "softmax of old": ([node("Softmax", "x", axis=1)], {}, 11),
    "softmax of old without an axis": ([node("LogSoftmax", "x")], {}, 9),
    "softmax": ([node("Softmax", "x", axis=1)], {}, 13),
    "resize to sizes": ([node("Resize", "x", "", "", "sizes", mode="linear")], {"sizes": np.array([4, 3, 12, 20])}, 17),
    "resize of opset 10": ([node("Resize", "x", "s", mode="nearest")], {"s": np.float32([1, 1, 2, 2])}, 10),
    "upsample": ([node("Upsample", "x", "s", mode="nearest")], {"s": np.float32([1, 1, 2, 3])}, 9),
    "nan guards as transformers have them": (
        [node("Softmax", "x", axis=-1, out="s"), node("IsNaN", "s", out="n"), node("Where", "n", "zero", "s")],
        {"zero": np.float32(0)}, 17,
    ),
    "slice of old": ([node("Slice", "x", starts=[1, 0], ends=[7, 2], axes=[2, 1])], {}, 9),
    "weights that are computed": (
        [node("Mul", "w", "g", out="v"), node("Conv", "x", "v")], {"w": WEIGHT, "g": np.float32([[[[2]]]] * 4)}, 17
    ),
    "weights that are quantised": (
        [node("DequantizeLinear", "w", "g", out="v"), node("Conv", "x", "v")],
        {"w": (WEIGHT * 20).astype(np.int8), "g": np.float32(0.05)}, 17,
    ),
    "a token for each image": (
        [node("Reshape", "x", "flat", out="t"), node("Shape", "x", out="sizes"),
         node("Gather", "sizes", "zero", out="n", axis=0), node("Unsqueeze", "n", "first", out="n1"),
         node("Concat", "n1", "rest", out="shape", axis=0), node("Expand", "token", "shape", out="e"),
         node("Concat", "e", "t", axis=1)],
        {"flat": np.array([0, 3, 64]), "zero": np.array(0), "first": np.array([0]), "rest": np.array([1, 64]),
         "token": chance.normal(size=(1, 1, 64)).astype(np.float32)}, 17,
    ),
    "places of a list": ([node("Gather", "x", "places", axis=1)], {"places": np.array([2, 0, -1])}, 17),
    "comparisons": (
        [node("Greater", "x", "h", out="g"), node("Not", "g", out="n"), node("Cast", "n", to=TensorProto.FLOAT)],
        {"h": np.float32(0.5)}, 17,
    ),
    "space to depth and back": (
        [node("SpaceToDepth", "x", blocksize=2, out="d"), node("DepthToSpace", "d", blocksize=2)], {}, 13
    ),
    "instance normalisation": (
        [node("InstanceNormalization", "x", "g", "b")], {"g": np.float32([1, 2, 3]), "b": np.float32([0, 1, 2])}, 17
    ),
    "a scaled linear layer": (
        [node("Flatten", "x", out="f"), node("Gemm", "f", "w", "b", alpha=0.5, beta=2.0)],
        {"w": chance.normal(size=(192, 5)).astype(np.float32), "b": np.float32([1, 2, 3, 4, 5])}, 11,
    ),
    "several at once": ([node("Max", "x", "h", out="m"), node("Min", "m", "k", out="i"), node("Sum", "i", "x", "x")],
                        {"h": np.float32(0.2), "k": np.float32(0.7)}, 13),
}  # fmt: skip


def shaped(nodes: list[NodeProto], stored: dict[str, np.ndarray], opset: int, image: list[int | str], **kind) -> bytes:
    """A graph whose output has the rank that follows from its nodes."""
    bare = onnx.load_from_string(model_of(nodes, stored, image, {"y": [1]}, opset=opset, **kind))
    bare.graph.output[0].type.tensor_type.ClearField("shape")
    rank = len(onnx.shape_inference.infer_shapes(bare).graph.output[0].type.tensor_type.shape.dim)
    return model_of(nodes, stored, image, {"y": [f"d{place}" for place in range(rank)]}, opset=opset, **kind)


@pytest.mark.parametrize("name", CASES)
def test_what_exporters_write_is_converted(name: str, tmp_path: Path) -> None:
    nodes, stored, opset = CASES[name]
    network, wanted = converted(shaped(nodes, stored, opset, ["n", 3, 8, 8]), tmp_path)
    for size in (4, 3):
        found = network(IMAGES[:size])
        assert found.shape == wanted[:size].shape
        assert torch.allclose(found.float(), torch.from_numpy(wanted[:size]), atol=1e-5)


@pytest.mark.parametrize(
    ("image", "kind", "before"),
    [
        ([1, 3, 8, 8], "float32", []), (["n", 3, 8, 8], "uint8", []), (["n", 3, 8, 8], "float16", []),
        (["n", 3, 8, 8], "float64", []),
        (["n", 8, 8, 3], "float32", [node("Transpose", "c", out="t", perm=[0, 3, 1, 2])]),
        (["n", 3, "h", "w"], "float32", []),
    ],
)  # fmt: skip
def test_every_input_that_can_be_run_can_be_converted(image, kind, before, tmp_path: Path) -> None:
    nodes = [node("Cast", "x", out="c", to=TensorProto.FLOAT), *before, node("Conv", "t" if before else "c", "w")]
    network, wanted = converted(shaped(nodes, {"w": WEIGHT}, 17, image, kind=kind), tmp_path)
    scale = max(1.0, float(np.abs(wanted).max()))
    assert torch.allclose(network(IMAGES), torch.from_numpy(wanted), atol=2e-3 * scale)


def test_a_batch_size_that_is_written_into_the_graph_is_made_free(tmp_path: Path) -> None:
    nodes = [node("Reshape", "x", "flat", out="f"), node("Reshape", "f", "back", out="b"),
             node("Concat", "b", "token", axis=1)]  # fmt: skip
    stored = {"flat": np.array([1, 192]), "back": np.array([1, 3, 64]), "token": np.ones((1, 1, 64), np.float32)}
    network, wanted = converted(shaped(nodes, stored, 17, [1, 3, 8, 8]), tmp_path)
    assert wanted.shape == (4, 4, 64)
    assert torch.equal(network(IMAGES), torch.from_numpy(wanted))


def test_shuffled_channels_of_a_fixed_batch_are_made_free(tmp_path: Path) -> None:
    """As ShuffleNet has it: the batch is joined with the channels, and halves are taken of a first dimension."""
    nodes = [node("Conv", "x", "w", out="c"), node("Reshape", "c", "joined", out="j"),
             node("Transpose", "j", out="t", perm=[1, 0, 2]), node("Reshape", "t", "halves", out="h"),
             node("Gather", "h", "second", axis=0)]  # fmt: skip
    stored = {"w": WEIGHT, "joined": np.array([2, 2, 36]), "halves": np.array([2, -1, 2, 6, 6]), "second": np.array(1)}
    network, wanted = converted(shaped(nodes, stored, 17, [1, 3, 8, 8]), tmp_path)
    assert torch.allclose(network(IMAGES), torch.from_numpy(wanted), atol=1e-5)


def test_every_operator_without_a_layer_is_named_with_its_nodes_and_what_works(tmp_path: Path) -> None:
    nodes = [node("Det", "x", out="d", name="head/Det"), node("Det", "x", out="e"), node("Add", "d", "e", out="s"),
             node("NonZero", "s", out="a", name="mask/NonZero"), node("Cast", "a", to=1)]  # fmt: skip
    with pytest.raises(Refused) as refused:
        converted(shaped(nodes, {}, 17, ["n", 3, 8, 8]), tmp_path)
    assert refused.value.reasons[:2] == ("Det: head/Det, e", "NonZero: mask/NonZero")
    assert "auditsvc audit" in refused.value.reasons[2]
