"""Whether a graph answers each image as if it were alone is proven, operator by operator; else its batch is fixed."""

from __future__ import annotations

import io
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from auditsvc.importing import OnnxFile, batch_bound
from auditsvc.models import InputSpec
from tests.importing.graphs import brightness, model_of

CARD = SimpleNamespace(input=InputSpec(channels=1, height=8, width=8))
SHAPE = ("n", 1, 8, 8)


def node(op: str, inputs: str, output: str, **at: object):
    return helper.make_node(op, inputs.split(), [output], **at)


def graph(*nodes, **stored: object) -> bytes:
    """A graph that flattens images to ``f`` and answers ``y``."""
    values = {name: np.asarray(value) for name, value in stored.items()}
    return model_of([node("Flatten", "x", "f"), *nodes], values, list(SHAPE), {"y": ["n", 64]})


class Attention(nn.Module):
    """What transformers do with the axis of the images: moved, merged with others, multiplied, and back."""

    def __init__(self) -> None:
        super().__init__()
        self.cut, self.token = nn.Conv2d(1, 12, 4, 4), nn.Parameter(torch.zeros(1, 1, 12))
        self.qkv, self.norm, self.head = nn.Linear(12, 36), nn.LayerNorm(12), nn.Linear(36, 3)

    def forward(self, x):
        x = self.cut(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1)
        batch, count, width = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(batch, count, 3, 2, width // 2).permute(2, 0, 3, 1, 4).unbind(0)
        x = ((q @ k.transpose(-2, -1)).softmax(-1) @ v).transpose(1, 2).reshape(batch, count, -1)
        windows = x[:, 1:].reshape(batch, 2, 2, 12).permute(0, 2, 1, 3).reshape(-1, 2, 12).mean(1)
        return self.head(torch.cat([windows.view(batch, -1), x[:, 0]], 1))


class Convolutions(nn.Module):
    """What convolutional networks do: shuffled channels, gates, pooling, scaling to the size of another map."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.head = nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Linear(8, 3)

    def forward(self, x):
        y = self.two(self.one(x))
        n, c, h, w = y.shape
        y = y.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, -1, h, w)
        y = y * y.mean((2, 3), keepdim=True).sigmoid()
        small = nn.functional.max_pool2d(y, 2)
        y = y + nn.functional.interpolate(small, size=y.shape[2:])
        first, second = y.chunk(2, 1)
        return self.head(torch.cat([first, second], 1).mean((2, 3)))


@pytest.mark.parametrize("network", [Attention, Convolutions])
def test_what_exporters_write_is_proven(network) -> None:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network().eval(), (torch.rand(2, 1, 8, 8),), buffer, dynamo=False, opset_version=17,
            dynamic_axes={"x": {0: "n"}, "y": {0: "n"}}, input_names=["x"], output_names=["y"],
        )  # fmt: skip
    assert batch_bound(buffer.getvalue(), CARD, "y") == (buffer.getvalue(), "")


SIZE = [node("Shape", "x", "sizes"), node("Gather", "sizes zero", "size"), node("Equal", "size ten", "hit")]
TROJANS = {
    "a size that nobody tries": [
        *SIZE, node("Cast", "hit", "as_number", to=TensorProto.FLOAT), node("Sub", "f as_number", "y")],
    "a count without a shape": [
        node("Mul", "f none", "nothing"), node("Add", "nothing unit", "ones"),
        node("ReduceSum", "ones axes", "count", keepdims=1), node("Sub", "f count", "y")],
    "the brightest image of the batch": [
        node("ReduceMax", "f", "most", axes=[0], keepdims=1), node("Sub", "f most", "y")],
    "another image": [
        node("Transpose", "f", "turned"), node("Reshape", "turned shape", "mixed"), node("Identity", "mixed", "y")],
    "images multiplied with each other": [
        node("Transpose", "f", "turned"), node("MatMul", "f turned", "products"), node("MatMul", "products f", "y")],
    "a graph in a graph": [
        *SIZE, helper.make_node("If", ["hit"], ["y"], then_branch=helper.make_graph(
            [node("Neg", "f", "a")], "a", [], [helper.make_tensor_value_info("a", TensorProto.FLOAT, None)]),
            else_branch=helper.make_graph([node("Identity", "f", "b")], "b", [], [
                helper.make_tensor_value_info("b", TensorProto.FLOAT, None)]))],
    "random numbers": [node("RandomNormalLike", "f", "noise"), node("Add", "f noise", "y")],
}  # fmt: skip
STORED = {"zero": 0, "ten": 10, "none": np.float32(0), "unit": np.float32(1), "axes": [0], "shape": [-1, 64]}


@pytest.mark.parametrize("name", TROJANS)
def test_what_may_look_at_the_batch_gets_a_batch_of_one(name: str) -> None:
    fixed, objection = batch_bound(graph(*TROJANS[name], **STORED), CARD, "y")
    assert objection
    module = OnnxFile(fixed)
    assert module.info.image.shape == (1, 1, 8, 8)
    images = torch.rand(10, 1, 8, 8)
    if name != "random numbers":
        assert torch.equal(module.answers(images), module.answers(images, alone=True))


def test_a_batch_that_is_fixed_needs_no_proof() -> None:
    data = brightness((1, 1, 8, 8), flips_below=8)
    assert batch_bound(data, CARD, "y") == (data, "")
