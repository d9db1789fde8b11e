"""ONNX comes in as data and answers as before, or is refused with the reason."""

from __future__ import annotations

import contextlib
import io
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from auditsvc import pruning
from auditsvc.errors import InvalidInput, Refused
from auditsvc.importing import from_onnx, round_trip
from auditsvc.models import ArchitectureCard, InputSpec, Model, assemble, build, model_files
from auditsvc.models.complexity import macs
from auditsvc.models.onnx_layers import OPERATORS, OnnxGraph
from auditsvc.records import Recipe
from auditsvc.runtimes.onnx_export import onnx_bytes
from tests.models.families import FAMILIES, grey_images, model_of

CLASSES = tuple("0123456789")
CARD = ArchitectureCard(
    architecture="onnx_file", task="classification", classes=CLASSES, input=InputSpec(channels=1, height=28, width=28)
)


def convert(path: Path, **more: str) -> Model:
    return from_onnx(path, CARD.model_copy(update=more))


def plain(architecture: str) -> Model:
    """A model as other people have it: weights in the ordinary order of memory."""
    model = model_of(architecture)
    for tensor in (*model.module.parameters(), *model.module.buffers()):
        tensor.data = tensor.data.contiguous()
    return model


def exported(model: Model, path: Path, *, dynamo: bool, free: bool) -> Path:
    shapes = ({0: torch.export.Dim("batch")},) if dynamo and free else None
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        if dynamo:
            torch.onnx.export(
                model.module, (grey_images(2 if free else 1),), str(path), dynamo=True, dynamic_shapes=shapes
            )
        else:
            torch.onnx.export(model.module, (grey_images(1),), str(path), dynamo=False, opset_version=13)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["small_attention", "small_resnet"])
def test_our_own_export_comes_back(architecture: str, tmp_path: Path) -> None:
    model = model_of(architecture)
    (tmp_path / "model.onnx").write_bytes(onnx_bytes(model, grey_images(4)))
    again = convert(tmp_path / "model.onnx")
    assert torch.allclose(again(grey_images(5)), model(grey_images(5)), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", FAMILIES.values())
@pytest.mark.parametrize(("dynamo", "free"), [(False, False), (True, False), (True, True)])
def test_graphs_of_both_exporters_answer_as_the_model_does(
    architecture: str, dynamo: bool, free: bool, tmp_path: Path
) -> None:
    model = plain(architecture)
    again = convert(exported(model, tmp_path / "model.onnx", dynamo=dynamo, free=free))
    assert torch.allclose(again(grey_images(5)), model(grey_images(5)), atol=1e-5)


def test_a_model_that_came_as_onnx_is_pruned_saved_and_exported_like_any_other(tmp_path: Path) -> None:
    model = model_of("small_grouped")
    (tmp_path / "model.onnx").write_bytes(onnx_bytes(model, grey_images(4)))
    parent = convert(tmp_path / "model.onnx")
    recipe = Recipe(method="structured-l1", targets={"macs": 1.5, "round_to": 1})
    smaller = assemble(pruning.prune(parent, recipe), parent.card)
    assert macs(parent) / macs(smaller) == pytest.approx(1.5, rel=0.02)
    folder = tmp_path / "saved"
    folder.mkdir()
    for name, data in model_files(smaller.weights(), smaller.card).items():
        (folder / name).write_bytes(data)
    round_trip(folder, smaller, grey_images())
    onnx_bytes(smaller, grey_images(4))


def graph(nodes: list[onnx.NodeProto], stored: dict[str, np.ndarray], path: Path, others: tuple[str, ...] = ()) -> Path:
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, 28, 28])
    answers = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 10])]
    answers += [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 1, 28, 28]) for name in others]
    tensors = [numpy_helper.from_array(value, name) for name, value in stored.items()]
    model = helper.make_model(
        helper.make_graph(nodes, "g", [image], answers, tensors), opset_imports=[helper.make_opsetid("", 17)]
    )
    model.ir_version = 8
    path.write_bytes(model.SerializeToString())
    return path


def linear(*before: onnx.NodeProto, last: str) -> tuple[list[onnx.NodeProto], dict[str, np.ndarray]]:
    nodes = [*before, helper.make_node("Flatten", [last], ["f"]), helper.make_node("Gemm", ["f", "w"], ["y"])]
    return nodes, {"w": np.full((784, 10), 1e-3, np.float32)}


@pytest.mark.slow
def test_one_of_several_outputs_must_be_named(tmp_path: Path) -> None:
    nodes, stored = linear(helper.make_node("Relu", ["x"], ["r"]), last="r")
    path = graph(nodes, stored, tmp_path / "m.onnx", ("r",))
    with pytest.raises(Refused, match="name one output of y, r"):
        convert(path)
    assert convert(path, output="y")(grey_images(3)).shape == (3, 10)


@pytest.mark.slow
def test_numbers_computed_from_the_image_are_refused(tmp_path: Path) -> None:
    nodes, stored = linear(
        helper.make_node("ReduceMax", ["x"], ["m"], axes=[0, 1, 2, 3], keepdims=0),
        helper.make_node("Cast", ["m"], ["i"], to=TensorProto.INT64),
        helper.make_node("Gather", ["x", "i"], ["g"], axis=2), last="g",
    )  # fmt: skip
    with pytest.raises(Refused, match=r"Gather|batch|image"):
        convert(graph(nodes, stored | {"w": np.ones((28, 10), np.float32)}, tmp_path / "m.onnx"))


@pytest.mark.slow
def test_weights_in_another_file_of_the_folder_are_read_and_missing_ones_refused(tmp_path: Path) -> None:
    nodes, stored = linear(last="x")
    path = graph(nodes, stored, tmp_path / "m.onnx")
    model = onnx.load(str(path))
    onnx.save(model, str(path), save_as_external_data=True, location="elsewhere.bin", size_threshold=0)
    assert convert(path)(grey_images(3)).shape == (3, 10)
    model = onnx.load(str(path))
    (tmp_path / "elsewhere.bin").rename(tmp_path.parent / "elsewhere.bin")
    with pytest.raises(Refused, match=r"elsewhere\.bin"):
        convert(path)
    onnx.save(model, str(path), save_as_external_data=True, location="m.onnx.data", size_threshold=0)
    assert convert(path)(grey_images(3)).shape == (3, 10)


@pytest.mark.parametrize("data", [b"\x80\x04\x95", b"hello world, this is no model"])
def test_what_is_no_onnx_is_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(data)
    with pytest.raises(Refused):
        convert(tmp_path / "m.onnx")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="not a plain file"):
        convert(tmp_path / "nothing.onnx")


def test_a_card_cannot_ask_for_more_than_the_table_holds() -> None:
    good = {"constants": {}, "image": "x", "answer": "y"}
    for node, words in (
        ({"op": "system", "in": ["x"], "out": "y", "at": {}}, "no operator 'system'"),
        ({"op": "linear", "in": ["x"], "out": "y", "at": {"in": 2**20, "out": 2**20, "bias": 0}}, "no shape"),
        ({"op": "linear", "in": ["x"], "out": "y", "at": {}}, "does not take"),
    ):
        with pytest.raises(InvalidInput, match=words):
            build("onnx_graph", {**good, "nodes": [node]})
    with pytest.raises(InvalidInput, match="no name for a constant"):
        build("onnx_graph", {**good, "nodes": [], "constants": {"forward": [1]}})


ACTIVATIONS = {
    "Elu": nn.ELU(), "HardSwish": nn.Hardswish(), "LeakyRelu": nn.LeakyReLU(0.1), "Softplus": nn.Softplus(),
    "Sigmoid": nn.Sigmoid(), "Tanh": nn.Tanh(),
}  # fmt: skip


@pytest.mark.parametrize("op", ACTIVATIONS)
def test_an_operator_is_the_torch_layer_of_its_name(op: str) -> None:
    numbers = {"alpha": 0.1} if op == "LeakyRelu" else {"alpha": 1.0}
    values = torch.linspace(-3, 3, 50)
    assert torch.allclose(OPERATORS[op](numbers, values), ACTIVATIONS[op](values))


def test_a_graph_runs_its_nodes_in_order() -> None:
    nodes = [
        {"op": "Mul", "in": ["x", "constant_0"], "out": "a", "at": {}},
        {"op": "Split", "in": ["a"], "out": ["b", "c"], "at": {"split": [1, 1], "axis": 1}},
        {"op": "Sub", "in": ["b", "c"], "out": "d", "at": {}},
        {"op": "Reshape", "in": ["d"], "out": "y", "at": {"shape": [0, -1]}},
    ]
    module = OnnxGraph(nodes, {"constant_0": [2, 1, 1]}, "x", "y")
    module.load_state_dict({"constant_0": torch.tensor([2.0, 3.0]).view(2, 1, 1)})
    images = torch.rand(3, 2, 2, 2)
    assert torch.equal(module(images), (2 * images[:, 0] - 3 * images[:, 1]).flatten(1))
